#include "engine/fabric/verbs/device_report.hpp"

#include <cerrno>
#include <system_error>

#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/devices.hpp"

namespace sanpoll::engine::verbs {

std::vector<std::pair<std::string, std::string>> device_report() {
    if (!host_has_devices()) {
        return {};
    }
    std::string error;
    const Api* api = Api::load(error);
    if (api == nullptr) {
        return {{"not usable", error}};
    }
    return device_report(*api);
}

std::vector<std::pair<std::string, std::string>> device_report(const Api& api) {
    std::vector<std::pair<std::string, std::string>> report;
    int count = 0;
    ibv_device** const list = api.verbs.get_device_list(&count);
    for (int i = 0; list != nullptr && i < count; ++i) {
        const char* const name = api.verbs.get_device_name(list[i]);
        std::string text;
        errno = 0;
        if (ibv_context* const context = api.verbs.open_device(list[i]); context != nullptr) {
            if (const auto device = Device::make(api, context, text); device != nullptr) {
                text = described(device->limits());
            }
            (void)api.verbs.close_device(context);
        } else {
            text = "cannot be opened (" + std::generic_category().message(errno) +
                   "); give this user read and write access to /dev/infiniband";
        }
        report.emplace_back(name != nullptr ? name : "?", std::move(text));
    }
    if (list != nullptr) {
        api.verbs.free_device_list(list);
    }
    return report;
}

}  // namespace sanpoll::engine::verbs

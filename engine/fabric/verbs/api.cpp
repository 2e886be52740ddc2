#include "engine/fabric/verbs/api.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string_view>

namespace sanpoll::engine::verbs {

namespace {

/// One open library, and the first thing that it did not have.
class Library {
public:
    explicit Library(const char* name)
        : name_(name), handle_(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
        if (handle_ == nullptr) {
            const char* why = ::dlerror();
            reason_ = why != nullptr ? why : name;
        }
    }

    [[nodiscard]] bool open() const { return handle_ != nullptr; }
    [[nodiscard]] const std::string& reason() const { return reason_; }
    [[nodiscard]] const std::string& missing() const { return missing_; }

    template <typename Function>
    void find(Function& function, const char* symbol) {
        find_optional(function, symbol);
        if (function == nullptr && missing_.empty()) {
            missing_ = symbol;
        }
    }
    template <typename Function>
    void find_optional(Function& function, const char* symbol) {
        function = reinterpret_cast<Function>(::dlsym(handle_, symbol));
    }

    void close() {
        if (handle_ != nullptr) {
            ::dlclose(handle_);
        }
    }
    [[nodiscard]] const char* name() const { return name_; }

private:
    const char* name_;
    void* handle_;
    std::string reason_;
    std::string missing_;
};

void find_verbs(Library& library, VerbsCalls& calls) {
    library.find(calls.get_device_list, "ibv_get_device_list");
    library.find(calls.free_device_list, "ibv_free_device_list");
    library.find(calls.get_device_name, "ibv_get_device_name");
    library.find(calls.open_device, "ibv_open_device");
    library.find(calls.close_device, "ibv_close_device");
    library.find(calls.query_device, "ibv_query_device");
    library.find(calls.query_port, "ibv_query_port");
    library.find(calls.query_gid, "ibv_query_gid");
    library.find(calls.get_async_event, "ibv_get_async_event");
    library.find(calls.ack_async_event, "ibv_ack_async_event");
    library.find(calls.event_type_str, "ibv_event_type_str");
    library.find(calls.alloc_pd, "ibv_alloc_pd");
    library.find(calls.dealloc_pd, "ibv_dealloc_pd");
    library.find(calls.reg_mr, "ibv_reg_mr");
    library.find(calls.reg_mr_iova2, "ibv_reg_mr_iova2");
    library.find(calls.dereg_mr, "ibv_dereg_mr");
    library.find(calls.create_comp_channel, "ibv_create_comp_channel");
    library.find(calls.destroy_comp_channel, "ibv_destroy_comp_channel");
    library.find(calls.create_cq, "ibv_create_cq");
    library.find(calls.destroy_cq, "ibv_destroy_cq");
    library.find(calls.get_cq_event, "ibv_get_cq_event");
    library.find(calls.ack_cq_events, "ibv_ack_cq_events");
    library.find(calls.query_qp, "ibv_query_qp");
    library.find(calls.modify_qp, "ibv_modify_qp");
    library.find(calls.wc_status_str, "ibv_wc_status_str");
    library.find(calls.fork_init, "ibv_fork_init");
    library.find_optional(calls.is_fork_initialized, "ibv_is_fork_initialized");
}

void find_cm(Library& library, CmCalls& calls) {
    library.find(calls.create_event_channel, "rdma_create_event_channel");
    library.find(calls.destroy_event_channel, "rdma_destroy_event_channel");
    library.find(calls.create_id, "rdma_create_id");
    library.find(calls.destroy_id, "rdma_destroy_id");
    library.find(calls.bind_addr, "rdma_bind_addr");
    library.find(calls.resolve_addr, "rdma_resolve_addr");
    library.find(calls.resolve_route, "rdma_resolve_route");
    library.find(calls.create_qp, "rdma_create_qp");
    library.find(calls.destroy_qp, "rdma_destroy_qp");
    library.find(calls.connect, "rdma_connect");
    library.find(calls.accept, "rdma_accept");
    library.find(calls.reject, "rdma_reject");
    library.find(calls.listen, "rdma_listen");
    library.find(calls.disconnect, "rdma_disconnect");
    library.find(calls.notify, "rdma_notify");
    library.find(calls.get_cm_event, "rdma_get_cm_event");
    library.find(calls.ack_cm_event, "rdma_ack_cm_event");
    library.find(calls.event_str, "rdma_event_str");
    library.find(calls.migrate_id, "rdma_migrate_id");
    library.find(calls.set_option, "rdma_set_option");
    library.find(calls.get_src_port, "rdma_get_src_port");
    library.find(calls.get_dst_port, "rdma_get_dst_port");
    library.find(calls.get_devices, "rdma_get_devices");
    library.find(calls.free_devices, "rdma_free_devices");
    library.find_optional(calls.establish, "rdma_establish");
}

/// An empty string, or what is wrong with the library and which package mends it.
std::string complaint(const Library& library, std::string_view package) {
    if (!library.open()) {
        return fmt::format(
            "RDMA devices need {}, which cannot be loaded ({}); install the package {}",
            library.name(), library.reason(), package);
    }
    if (!library.missing().empty()) {
        return fmt::format("{} is too old for RDMA devices: it has no {}; update the package {}",
                           library.name(), library.missing(), package);
    }
    return {};
}

}  // namespace

bool detail::load_api(const char* verbs_library, const char* cm_library, Api& api,
                      std::string& error) {
    Library verbs(verbs_library);
    Library cm(cm_library);
    if (verbs.open()) {
        find_verbs(verbs, api.verbs);
    }
    if (cm.open()) {
        find_cm(cm, api.cm);
    }
    error = complaint(verbs, "libibverbs1 (Debian, Ubuntu) or libibverbs (Fedora, RHEL)");
    if (error.empty()) {
        error = complaint(cm, "librdmacm1 (Debian, Ubuntu) or librdmacm (Fedora, RHEL)");
    }
    if (!error.empty()) {
        verbs.close();
        cm.close();
        return false;
    }
    return true;
}

const Api* Api::load(std::string& error) {
    struct Loaded {
        Api api{};
        std::string error;
        bool good;
        Loaded() : good(detail::load_api("libibverbs.so.1", "librdmacm.so.1", api, error)) {
            if (good) {
                // Before any registration: a fork must not take pages that a device writes away from us.
                // Kernels since 5.12 see to that themselves. There the call would only cost: each registration
                // would split its mapping, and fail in memory of hugepages that it does not fill.
                const auto asked = api.verbs.is_fork_initialized;
                if (asked == nullptr || asked() != IBV_FORK_UNNEEDED) {
                    (void)api.verbs.fork_init();
                }
            }
        }
    };
    static const Loaded loaded;
    error = loaded.error;
    return loaded.good ? &loaded.api : nullptr;
}

}  // namespace sanpoll::engine::verbs

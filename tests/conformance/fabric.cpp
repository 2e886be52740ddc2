#include "tests/conformance/fabric.hpp"

#include <arpa/inet.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace sanpoll::conformance {
namespace {

constexpr int kRnic = 4;                                 // IBV_NODE_RNIC
constexpr std::uint32_t kDocumentationNet = 0xC6336401;  // 198.51.100.1 is nobody's

std::uint32_t device_address() {
    const char* text = std::getenv("SANPOLL_TEST_ADDRESS");
    in_addr parsed{};
    return text != nullptr && ::inet_pton(AF_INET, text, &parsed) == 1 ? ntohl(parsed.s_addr) : 0;
}

// Of the devices of a host that tests run on, there is one kind.
bool has_iwarp_device() {
    std::error_code none;
    for (const auto& device : std::filesystem::directory_iterator("/sys/class/infiniband", none)) {
        int node_type = 0;
        if (std::ifstream(device.path() / "node_type") >> node_type && node_type == kRnic) {
            return true;
        }
    }
    return false;
}

}  // namespace

const FabricUnderTest& fabric_under_test() {
    static const FabricUnderTest all[] = {
        {"shm", {}, 0, kDocumentationNet, false, false, true, false},
        {"verbs",
         {{"fabric", "verbs"}},
         device_address(),
         kDocumentationNet,
         false,
         true,
         false,
         has_iwarp_device()},
    };
    static const FabricUnderTest& chosen = []() -> const FabricUnderTest& {
        const char* name = std::getenv("SANPOLL_TEST_FABRIC");
        for (const FabricUnderTest& fabric : all) {
            if (name == nullptr || std::strcmp(name, fabric.name) == 0) {
                if (fabric.has_devices && fabric.address == 0) {
                    break;
                }
                return fabric;
            }
        }
        std::fprintf(stderr,
                     "SANPOLL_TEST_FABRIC: there is no fabric '%s', or it needs an address of this "
                     "host in SANPOLL_TEST_ADDRESS\n",
                     name);
        std::abort();
    }();
    return chosen;
}

}  // namespace sanpoll::conformance

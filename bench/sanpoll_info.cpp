// sanpoll-info: what the provider would run with here: the value of every knob, the limits of the host and of this
// process, and those of its RDMA devices. The output is a configuration file.
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>

#include "engine/config_report.hpp"
#include "engine/fabric/verbs/device_report.hpp"
#include "engine/memory/start.hpp"

int main(int argc, char** argv) {
    namespace engine = sanpoll::engine;
    if (argc > 1) {
        const bool help =
            std::string_view(argv[1]) == "--help" || std::string_view(argv[1]) == "-h";
        std::fprintf(
            help ? stdout : stderr,
            "usage: sanpoll-info\n"
            "Prints the value of every knob as SANPOLL_* and the file SANPOLL_CONFIG set "
            "it, as a configuration\n"
            "file, and the limits of the host, of this process and of its RDMA devices.\n");
        return help ? 0 : 2;
    }
    try {
        engine::Config config;
        if (const std::string error = engine::load_config(config); !error.empty()) {
            std::fprintf(stderr, "sanpoll-info: %s\n", error.c_str());
            return 1;
        }
        std::string text = engine::config_report(config, engine::read_host_limits(),
                                                 engine::verbs::device_report());
        if (const std::string why = engine::memory::settle_sharing(config); !why.empty()) {
            text += "\n# not as set\n# " + why + "\n";
        }
        return std::fputs(text.c_str(), stdout) < 0 ? 1 : 0;
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "sanpoll-info: %s\n", failure.what());
        return 1;
    }
}

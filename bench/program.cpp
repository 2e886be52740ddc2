#include "bench/program.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>
#include <stdexcept>

#include "bench/connection.hpp"

namespace sanpoll::bench {
namespace {

constexpr int kFailed = 1;

std::runtime_error unwritable(const std::string& file) {
    return std::runtime_error("--json: cannot write " + file + ": " + std::strerror(errno));
}

}  // namespace

void add_common_options(CommandLine& line, CommonOptions& options) {
    line.flag("--quick", options.quick, "fewer and shorter rounds, for a first look");
    line.flag("--quiet", options.quiet, "no progress");
    line.option("--rounds", options.rounds, "measurements of each kind; 0: as many as are usual")
        .within(0, 1000);
    line.option("--json", options.json, "file for the figures; -: standard output, no table");
    line.option("--library", options.library, "the provider's library");
    line.option("--control-fd", options.control_fd).hidden();
}

int run_program(CommandLine& line, int argc, const char* const* argv,
                const std::function<int()>& body) {
    if (const std::optional<int> status = line.parse(argc, argv)) return *status;
    std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is an error of write, not our death
    try {
        return body();
    } catch (const std::exception& fault) {
        fmt::print(stderr, "{}: {}\n", line.name(), one_line(fault.what()));
        return kFailed;
    }
}

void report(const CommonOptions& options, const nlohmann::json& figures, const std::string& table) {
    if (options.json == "-") {
        fmt::print("{}\n", figures.dump(1));
        return;
    }
    fmt::print("{}", table);
    if (options.json.empty()) return;
    std::ofstream file(options.json);
    file << figures.dump(1) << '\n';
    file.close();
    if (!file) throw unwritable(options.json);
}

void check_json_file(const CommonOptions& options) {
    if (options.json.empty() || options.json == "-") return;
    const std::ofstream file(options.json, std::ios::app);
    if (!file) throw unwritable(options.json);
}

std::unique_ptr<sanpoll_switch::Provider> load_provider(const std::string& library) {
    sanpoll_switch::LoadOptions how;
    how.library = library;
    auto loaded = sanpoll_switch::Provider::load(how);
    if (!loaded) throw ConnectionFault(loaded.error.message);
    return std::move(loaded.provider);
}

void let_open_files(std::size_t wanted) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted) {
        limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
        (void)::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

}  // namespace sanpoll::bench

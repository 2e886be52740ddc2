#include "bench/ucx_perftest.hpp"

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <thread>

namespace sanpoll::bench {
namespace {

constexpr int kTries = 3;
constexpr int kNotFound = 127;  // the shell's

struct Closer {
    void operator()(FILE* pipe) const noexcept { (void)::pclose(pipe); }
};
using Pipe = std::unique_ptr<FILE, Closer>;

std::string command(const std::string& arguments) {
    return fmt::format(
        "exec env UCX_TLS={} UCX_LOG_LEVEL=fatal timeout 20 ucx_perftest {} 2>/dev/null",
        kUcxTransports, arguments);
}

// Its last line that begins with a number: iterations, median, average and overall latency in microseconds, two
// rates in MB/s, two in operations a second.
bool parse(FILE* output, UcxResult& result) {
    char line[512];
    bool found = false;
    while (std::fgets(line, sizeof(line), output) != nullptr) {
        double v[8] = {};
        if (std::sscanf(line, "%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf", &v[0], &v[1], &v[2], &v[3], &v[4],
                        &v[5], &v[6], &v[7]) == 8) {
            result.typical_ns = v[1] * 1000;
            result.operations_per_second = v[7];
            found = true;
        }
    }
    return found;
}

}  // namespace

UcxResult run_ucx(const UcxTest& test) {
    static int next = 0;
    UcxResult result;
    for (int tries = 0; tries < kTries; ++tries) {
        const int port = 20000 + (static_cast<int>(::getpid()) * 37 + next++ * 11) % 10000;
        const Pipe server(
            ::popen(command(fmt::format("-c {} -p {}", test.server_cpu, port)).c_str(), "r"));
        std::this_thread::sleep_for(std::chrono::milliseconds(100 << tries));  // until it listens
        Pipe client(
            ::popen(command(fmt::format("127.0.0.1 -c {} -p {} -f -v -t {} -s {} -n {} -w {}",
                                        test.client_cpu, port, test.name, test.bytes, test.count,
                                        test.count / 10 + 1))
                        .c_str(),
                    "r"));
        if (!server || !client) {
            result.failure = "no process for ucx_perftest";
            return result;
        }
        const bool found = parse(client.get(), result);
        const int status = ::pclose(client.release());
        if (found) {
            result.failure.clear();
            return result;
        }
        result.failure =
            WIFEXITED(status) && WEXITSTATUS(status) == kNotFound
                ? "ucx_perftest is not installed"
                : fmt::format("ucx_perftest -t {} -s {} gave no figure", test.name, test.bytes);
    }
    return result;
}

}  // namespace sanpoll::bench

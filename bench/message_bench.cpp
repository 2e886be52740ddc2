// message_bench: how fast long messages move between two processes, out of arenas and out of ordinary memory, beside
// a plain copy of as many bytes that the other core has just written, in the same run. See bench/README.md.
#include <fmt/format.h>
#include <sanpoll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "bench/child_process.hpp"
#include "bench/clock.hpp"
#include "bench/control_channel.hpp"
#include "bench/copied_file.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/rdma_end.hpp"
#include "bench/san_socket.hpp"
#include "sanpoll/switch.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;

constexpr std::chrono::minutes kPatience{2};

struct Options {
    std::size_t message_kb = 1024;
    std::size_t count = 1000;  // messages of a measurement
    std::size_t window = 4;    // sends posted ahead, each with a buffer of its own
    std::size_t receives = 4;  // receives posted, likewise
    std::size_t rounds = 5;
    std::string address = "127.0.0.1";
    int control_fd = -1;  // set in the receiver's process, as is the next
    int file_fd = -1;

    [[nodiscard]] std::size_t message() const { return message_kb << 10; }
};

// The ways that are compared: where messages are sent from and received into.
struct Way {
    const char* name;
    MemoryKind from;
    MemoryKind to;
};
constexpr Way kWays[] = {
    {"arena to ordinary memory", MemoryKind::kArena, MemoryKind::kOrdinary},
    {"arena to arena", MemoryKind::kArena, MemoryKind::kArena},
    {"ordinary to ordinary memory", MemoryKind::kOrdinary, MemoryKind::kOrdinary},
};

std::unique_ptr<Provider> load() {
    auto loaded = Provider::load();
    if (!loaded) throw ConnectionFault(loaded.error.message);
    return std::move(loaded.provider);
}

// A word at the end of the memory of either end, for the message that ends a measurement.
[[nodiscard]] std::size_t memory_for(const Options& options, std::size_t buffers) {
    return options.message() * buffers + 64;
}

// ---- the receiver -----------------------------------------------------------------------------------

void receive_all(const RdmaEnd& end, const Options& options) {
    std::deque<WSAOVERLAPPED> posted;
    std::size_t next = 0;
    const auto post = [&] {
        end.post_receive(posted.emplace_back(), next++ % options.receives * options.message(),
                         options.message());
    };
    const std::size_t most = std::min(options.receives, options.count);
    while (next < most)
        post();
    for (std::size_t i = 0; i < options.count; ++i) {
        end.finish(posted.front());
        posted.pop_front();
        if (next < options.count) post();
    }
    WSAOVERLAPPED over{};
    end.post_send(over, options.receives * options.message(), 1);
    end.finish(over);
}

int run_receiver(const Options& options) {
    const ControlChannel leader(options.control_fd);
    CopiedFile file = CopiedFile::open(options.file_fd, options.message(), options.window);
    const auto provider = load();
    (void)pin_this_thread(leader.receive(kPatience).at("cpu"));
    SanListener listener(*provider, options.address);
    leader.send({{"port", listener.port()}});
    std::deque<RdmaEnd> ends;
    for (const Way& way : kWays) {
        ends.emplace_back(listener.accept(), memory_for(options, options.receives), way.to);
    }
    leader.send("ready");
    for (;;) {
        const json command = leader.receive(kPatience);
        const std::string what = command.at("do");
        if (what == "quit") return 0;
        if (what == "copy") {
            leader.send("ready");
            const auto kernel = command.at("memcpy").get<bool>() ? CopiedFile::Kernel::kMemcpy
                                                                 : CopiedFile::Kernel::kVector;
            leader.send(
                file.copy(options.count, ends.back().memory().data(), options.receives, kernel));
        } else {
            leader.send("ready");
            receive_all(ends[command.at("way")], options);
        }
    }
}

// ---- the sender -------------------------------------------------------------------------------------

class Sender {
public:
    Sender(const Options& options, const ControlChannel& receiver, CopiedFile& file,
           const Provider& provider, std::uint16_t port)
        : options_(options), receiver_(receiver), file_(file) {
        for (const Way& way : kWays) {
            ends_.emplace_back(
                SanConnector::begin(provider, options.address, options.address, port).finish(),
                memory_for(options, options.window), way.from);
        }
        (void)receiver_.receive(kPatience);
    }

    // Seconds. `fresh`: each message is written before it is sent.
    double stream(std::size_t way, bool fresh) {
        const RdmaEnd& end = ends_[way];
        WSAOVERLAPPED over{};
        end.post_receive(over, options_.window * options_.message(), 64);
        receiver_.send({{"do", "receive"}, {"way", way}});
        (void)receiver_.receive(kPatience);
        std::deque<WSAOVERLAPPED> window;
        const std::uint64_t start = Clock::monotonic_ns();
        for (std::size_t i = 0; i < options_.count; ++i) {
            if (window.size() == options_.window) finish_first(end, window);
            const std::size_t at = i % options_.window * options_.message();
            if (fresh) {
                std::memset(end.memory().data() + at, static_cast<int>(i & 0x7F),
                            options_.message());
            }
            end.post_send(window.emplace_back(), at, options_.message());
        }
        while (!window.empty())
            finish_first(end, window);
        end.finish(over);
        return static_cast<double>(Clock::monotonic_ns() - start) / 1e9;
    }
    double plain_copy(bool with_memcpy) {
        receiver_.send({{"do", "copy"}, {"memcpy", with_memcpy}});
        (void)receiver_.receive(kPatience);
        file_.write(options_.count);
        return receiver_.receive(kPatience);
    }
    [[nodiscard]] FabricFacts facts() const { return ends_.front().socket().fabric(); }

private:
    static void finish_first(const RdmaEnd& end, std::deque<WSAOVERLAPPED>& window) {
        end.finish(window.front());
        window.pop_front();
    }

    const Options& options_;
    const ControlChannel& receiver_;
    CopiedFile& file_;
    std::deque<RdmaEnd> ends_;
};

double median(std::vector<double>& values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

int run_sender(const Options& options) {
    auto [ours, theirs] = ControlChannel::pair();
    CopiedFile file = CopiedFile::create(options.message(), options.window);
    const ChildProcess receiver = ChildProcess::start(
        "receiver",
        {"--control-fd", std::to_string(theirs.fd()), "--file-fd", std::to_string(file.fd()),
         "--message", std::to_string(options.message_kb), "--count", std::to_string(options.count),
         "--window", std::to_string(options.window), "--receives", std::to_string(options.receives),
         "--address", options.address},
        {}, {theirs.fd(), file.fd()});
    theirs.close();
    const CpuChoice cpus = choose_pair(read_topology(allowed_cpus()));
    const auto provider = load();
    ours.send({{"cpu", cpus.server}});
    (void)pin_this_thread(cpus.client);
    const std::uint16_t port = ours.receive(kPatience).at("port");
    Sender sender(options, ours, file, *provider, port);
    // In turn, so that a processor that is moved about is so for all of them. The first round warms up.
    constexpr std::size_t kRows = 2 + 2 * std::size(kWays);
    std::vector<double> seconds[kRows];
    std::vector<double> ratios[kRows];
    for (std::size_t round = 0; round <= options.rounds; ++round) {
        double now[kRows];
        now[0] = sender.plain_copy(true);
        now[1] = sender.plain_copy(false);
        for (std::size_t way = 0; way < std::size(kWays); ++way) {
            now[2 + 2 * way] = sender.stream(way, true);
            now[3 + 2 * way] = sender.stream(way, false);
        }
        for (std::size_t row = 0; row < kRows && round != 0; ++row) {
            seconds[row].push_back(now[row]);
            ratios[row].push_back(std::min(now[0], now[1]) / now[row]);
        }
    }
    ours.send({{"do", "quit"}});
    fmt::print("{} messages of {} KiB, {} sends posted ahead, {} receives, {} rounds, {}\n",
               options.count, options.message_kb, options.window, options.receives, options.rounds,
               cpus.why);
    fmt::print("over {}; arenas {}\n", sender.facts().name, sender.facts().arenas);
    fmt::print("{:<52} {:>6}   {:<15} {}\n", "", "GB/s", "range", "of the better plain copy");
    const auto bytes = static_cast<double>(options.count * options.message());
    for (std::size_t row = 0; row < kRows; ++row) {
        const std::string name = row == 0 ? "plain copy of what was just written, memcpy"
                                 : row == 1
                                     ? "the same, vector loop"
                                     : fmt::format("{}, {}", kWays[(row - 2) / 2].name,
                                                   row % 2 == 0 ? "just written" : "written once");
        const double middle = median(seconds[row]);
        fmt::print("{:<52} {:6.2f}   {:6.2f} - {:6.2f} {:6.2f}\n", name, bytes / middle / 1e9,
                   bytes / seconds[row].back() / 1e9, bytes / seconds[row].front() / 1e9,
                   median(ratios[row]));
    }
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    CLI::App app("message_bench: long messages between two processes beside a plain copy");
    app.add_option("--message", options.message_kb, "KiB of a message")
        ->check(CLI::Range(1, 16384));
    app.add_option("--count", options.count, "messages in a measurement")
        ->check(CLI::Range(1, 1 << 24));
    app.add_option("--window", options.window, "sends posted ahead")->check(CLI::Range(1, 64));
    app.add_option("--receives", options.receives, "receives posted")->check(CLI::Range(1, 64));
    app.add_option("--rounds", options.rounds, "measurements of each kind")
        ->check(CLI::Range(1, 1000));
    app.add_option("--address", options.address, "where the receiver listens");
    app.add_option("--control-fd", options.control_fd)->group("");
    app.add_option("--file-fd", options.file_fd)->group("");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return options.control_fd >= 0 ? sanpoll::bench::run_receiver(options)
                                       : sanpoll::bench::run_sender(options);
    } catch (const std::exception& fault) {
        fmt::print(stderr, "message_bench: {}\n", fault.what());
        return 1;
    }
}

// message_bench: how fast long messages move between two processes, out of arenas and out of ordinary memory, beside
// a plain copy of as many bytes that the other core has just written, in the same run. See bench/README.md.
//
// --json: {"program", "message_bytes", "count", "window", "receives", "rounds", "placement": words, "fabric",
// "arenas", "sentinels", "rounds_repeated", "rounds_moved", "results": [{"transport": "plain copy" or "shm",
// "way": words, "just_written": whether each message is written before it is sent, "bytes_per_second": median,
// "ratio_to_plain_copy": median of the rounds' ratios to the better plain copy, "rounds": bytes a second of each}]}.
#include <fmt/format.h>
#include <sanpoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "bench/child_process.hpp"
#include "bench/clock.hpp"
#include "bench/control_channel.hpp"
#include "bench/copied_file.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/json_output.hpp"
#include "bench/program.hpp"
#include "bench/rdma_end.hpp"
#include "bench/sampler.hpp"
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
    std::string json;     // empty: none
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

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// The rows of the table: two plain copies, then each way with messages just written and written once.
constexpr std::size_t kRows = 2 + 2 * std::size(kWays);
using Round = std::array<double, kRows>;  // seconds

std::string name_of(std::size_t row) {
    if (row == 0) return "plain copy of what was just written, memcpy";
    return row == 1 ? "the same, vector loop" : kWays[(row - 2) / 2].name;
}
bool just_written(std::size_t row) { return row < 2 || row % 2 == 0; }

// In turn, so that a processor that is moved about is so for all of them.
Round measure_once(Sender& sender) {
    Round now{};
    now[0] = sender.plain_copy(true);
    now[1] = sender.plain_copy(false);
    for (std::size_t way = 0; way < std::size(kWays); ++way) {
        now[2 + 2 * way] = sender.stream(way, true);
        now[3 + 2 * way] = sender.stream(way, false);
    }
    return now;
}

constexpr unsigned kRetries = 3;

std::vector<Round> measure(Sender& sender, Sampler& sampler, std::size_t rounds) {
    std::vector<Round> measured;
    (void)measure_once(sender);  // warms up
    while (measured.size() < rounds) {
        measured.push_back(sampler.take([&] { return measure_once(sender); }));
    }
    return measured;
}

// What the rounds say of one row.
struct Row {
    std::vector<double> rates;  // bytes a second
    double ratio = 0;           // to the better plain copy
};

Row row_of(const std::vector<Round>& measured, std::size_t row, double bytes) {
    Row all;
    std::vector<double> ratios;
    for (const Round& round : measured) {
        all.rates.push_back(bytes / round[row]);
        ratios.push_back(std::min(round[0], round[1]) / round[row]);
    }
    all.ratio = median(std::move(ratios));
    return all;
}

json json_of(const std::vector<Round>& measured, double bytes) {
    json results = json::array();
    for (std::size_t row = 0; row < kRows; ++row) {
        const Row all = row_of(measured, row, bytes);
        results.push_back({{"transport", row < 2 ? "plain copy" : "shm"},
                           {"way", row == 0   ? "memcpy"
                                   : row == 1 ? "vector loop"
                                              : kWays[(row - 2) / 2].name},
                           {"just_written", just_written(row)},
                           {"bytes_per_second", median(all.rates)},
                           {"ratio_to_plain_copy", all.ratio},
                           {"rounds", all.rates}});
    }
    return results;
}

void print(const std::vector<Round>& measured, double bytes) {
    fmt::print("{:<52} {:>6}   {:<15} {}\n", "", "GB/s", "range", "of the better plain copy");
    for (std::size_t row = 0; row < kRows; ++row) {
        const Row all = row_of(measured, row, bytes);
        const auto [least, most] = std::minmax_element(all.rates.begin(), all.rates.end());
        const char* const when = row < 2             ? ""
                                 : just_written(row) ? ", just written"
                                                     : ", written once";
        fmt::print("{:<52} {:6.2f}   {:6.2f} - {:6.2f} {:6.2f}\n", name_of(row) + when,
                   median(all.rates) / 1e9, *least / 1e9, *most / 1e9, all.ratio);
    }
}

int run_sender(const Options& options) {
    JsonOutput output(options.json);
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
    Sampler sampler(Clock::calibrate(), cpus.server, cpus.client, kRetries,
                    options.rounds * kRetries);
    const std::vector<Round> measured = measure(sender, sampler, options.rounds);
    ours.send({{"do", "quit"}});
    const auto bytes = static_cast<double>(options.count * options.message());
    if (output.leaves_stdout()) {
        fmt::print("{} messages of {} KiB, {} sends posted ahead, {} receives, {} rounds, {}\n",
                   options.count, options.message_kb, options.window, options.receives,
                   options.rounds, cpus.why);
        fmt::print("over {}; arenas {}\n", sender.facts().name, sender.facts().arenas);
        print(measured, bytes);
        fmt::print("{}\n", sampler.summary());
    }
    output.write({{"program", "message_bench"},
                  {"message_bytes", options.message()},
                  {"count", options.count},
                  {"window", options.window},
                  {"receives", options.receives},
                  {"rounds", options.rounds},
                  {"placement", cpus.why},
                  {"fabric", sender.facts().name},
                  {"arenas", sender.facts().arenas},
                  {"sentinels", sampler.json()},
                  {"rounds_repeated", sampler.repeated()},
                  {"rounds_moved", sampler.moved()},
                  {"results", json_of(measured, bytes)}});
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    sanpoll::bench::CommandLine line("message_bench",
                                     "long messages between two processes beside a plain copy");
    line.option("--message", options.message_kb, "KiB of a message").within(1, 16384);
    line.option("--count", options.count, "messages in a measurement").within(1, 1 << 24);
    line.option("--window", options.window, "sends posted ahead").within(1, 64);
    line.option("--receives", options.receives, "receives posted").within(1, 64);
    line.option("--rounds", options.rounds, "measurements of each kind").within(1, 1000);
    line.option("--address", options.address, "where the receiver listens");
    line.option("--json", options.json, "also write the results to this file; - : only them");
    line.option("--control-fd", options.control_fd).hidden();
    line.option("--file-fd", options.file_fd).hidden();
    return sanpoll::bench::run_program(line, argc, argv, [&] {
        return options.control_fd >= 0 ? sanpoll::bench::run_receiver(options)
                                       : sanpoll::bench::run_sender(options);
    });
}

// rdma_bench: how fast RDMA moves memory between two processes, in pieces of 1 MiB, beside a raw
// process_vm_readv of the same pieces by the same threads in the same run. See bench/README.md.
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/child_process.hpp"
#include "bench/clock.hpp"
#include "bench/control_channel.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/program.hpp"
#include "bench/rdma_compare.hpp"
#include "bench/rdma_end.hpp"
#include "bench/rdma_ping.hpp"
#include "bench/san_socket.hpp"
#include "sanpoll/switch.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;

constexpr std::chrono::minutes kPatience{2};

struct Options {
    std::size_t moved_mb = 1024;  // in a measurement
    std::size_t memory_mb = 64;   // gone round and round
    std::size_t piece_kb = 1024;
    std::size_t window = 4;  // operations posted ahead
    std::size_t rounds = 5;
    bool passive = false;
    std::size_t ping = 0;  // bytes; 0: no ping-pong
    std::uint64_t count = 10000;
    bool arena = false;     // memory of the provider's
    bool compares = false;  // short and long pieces, beside UCX
    CompareOptions compare;
    std::string address = "127.0.0.1";
    int control_fd = -1;  // set in the target's process

    [[nodiscard]] std::size_t moved() const { return moved_mb << 20; }
    [[nodiscard]] std::size_t memory() const {
        if (compares) return compare.memory();
        return ping != 0 ? RdmaPing::memory_for(ping) : memory_mb << 20;
    }
    [[nodiscard]] MemoryKind kind() const {
        return arena || compares ? MemoryKind::kArena : MemoryKind::kOrdinary;
    }
    [[nodiscard]] std::size_t piece() const { return piece_kb << 10; }
};

std::unique_ptr<Provider> load() {
    auto loaded = Provider::load();
    if (!loaded) throw ConnectionFault(loaded.error.message);
    return std::move(loaded.provider);
}

// Another process' memory, read piece by piece. Returns seconds.
double read_raw(const Options& options, const RdmaMemory& memory, pid_t pid,
                std::uint64_t address) {
    const std::uint64_t start = Clock::monotonic_ns();
    for (std::size_t at = 0; at < options.moved(); at += options.piece()) {
        const std::size_t offset = at % options.memory();
        const iovec local{memory.data() + offset, options.piece()};
        const iovec remote{reinterpret_cast<void*>(address + offset), options.piece()};
        if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) !=
            static_cast<ssize_t>(options.piece())) {
            throw ConnectionFault(fmt::format("process_vm_readv: {}", std::strerror(errno)));
        }
    }
    return static_cast<double>(Clock::monotonic_ns() - start) / 1e9;
}

// Waits for one message by polling, or asleep in the system.
void wait_for_message(const RdmaEnd& end, const ControlChannel& leader, bool passive) {
    WSAOVERLAPPED overlapped{};
    end.post_receive(overlapped, 0, 64);
    leader.send("ready");
    if (passive) (void)leader.receive(kPatience);  // nobody calls the provider until then
    end.finish(overlapped);
}

int run_target(const Options& options) {
    const ControlChannel leader(options.control_fd);
    const auto provider = load();
    (void)pin_this_thread(leader.receive(kPatience).at("cpu"));
    SanListener listener(*provider, options.address);
    leader.send({{"port", listener.port()}});
    RdmaEnd end(listener.accept(), options.memory(), options.kind());
    leader.send({{"descriptor", end.expose()},
                 {"address", reinterpret_cast<std::uint64_t>(end.memory().data())}});
    end.know_peer(leader.receive(kPatience).at("descriptor"));
    if (options.kind() == MemoryKind::kArena) (void)end.wait_for_stores();
    if (options.compares) {
        leader.send("ready");
        serve_compare(end, leader);
        return 0;
    }
    std::optional<RdmaPing> ping;
    if (options.ping != 0) ping.emplace(end, options.ping, Clock::calibrate());
    leader.send("ready");
    for (;;) {
        const json command = leader.receive(kPatience);
        const std::string what = command.at("do");
        if (what == "quit") return 0;
        if (what == "answer") {
            ping->answer(command.at("count"));
        } else if (what == "serve") {
            wait_for_message(end, leader, options.passive);
        } else {
            leader.send(read_raw(options, end.memory(), command.at("pid"), command.at("address")));
        }
    }
}

class Leader {
public:
    Leader(const Options& options, const ControlChannel& target, SanSocket socket)
        : options_(options),
          target_(target),
          end_(std::move(socket), options.memory(), options.kind()) {
        const json told = target_.receive(kPatience);
        end_.know_peer(told.at("descriptor"));
        address_ = told.at("address");
        target_.send({{"descriptor", end_.expose()}});
        (void)target_.receive(kPatience);
        if (options.kind() == MemoryKind::kArena && !end_.wait_for_stores()) {
            fmt::print(stderr, "RDMA is not by stores: arenas {}{}\n",
                       end_.socket().fabric().arenas,
                       end_.socket().fabric().arenas.starts_with("shared")
                           ? ", for reading only: on hugepages (SANPOLL_HUGEPAGES=off) or by "
                             "share_arenas"
                           : "");
        }
    }

    void compare(const CpuChoice& cpus) { compare_rdma(options_.compare, end_, target_, cpus); }

    // Seconds.
    double transfer(bool writes) {
        target_.send({{"do", "serve"}});
        (void)target_.receive(kPatience);
        std::deque<WSAOVERLAPPED> window;
        const std::uint64_t start = Clock::monotonic_ns();
        for (std::size_t at = 0; at < options_.moved(); at += options_.piece()) {
            if (window.size() == options_.window) finish_first(window);
            const std::size_t offset = at % options_.memory();
            if (writes) {
                end_.post_write(window.emplace_back(), offset, offset, options_.piece());
            } else {
                end_.post_read(window.emplace_back(), offset, offset, options_.piece());
            }
        }
        while (!window.empty())
            finish_first(window);
        const double seconds = static_cast<double>(Clock::monotonic_ns() - start) / 1e9;
        send_end();
        return seconds;
    }
    double raw_here(pid_t pid) const { return read_raw(options_, end_.memory(), pid, address_); }
    double raw_there() const {
        target_.send({{"do", "raw"},
                      {"pid", ::getpid()},
                      {"address", reinterpret_cast<std::uint64_t>(end_.memory().data())}});
        return target_.receive(kPatience);
    }
    // Round trips; the first tenth warms up.
    LatencyHistogram ping() {
        LatencyHistogram histogram;
        RdmaPing ping(end_, options_.ping, Clock::calibrate());
        for (const std::uint64_t count : {options_.count / 10 + 1, options_.count}) {
            target_.send({{"do", "answer"}, {"count", count}});
            histogram.reset();
            ping.ping(count, histogram);
        }
        return histogram;
    }
    [[nodiscard]] FabricFacts fabric() const { return end_.socket().fabric(); }

private:
    void finish_first(std::deque<WSAOVERLAPPED>& window) const {
        end_.finish(window.front());
        window.pop_front();
    }
    // Tells the target that the measurement is over.
    void send_end() const {
        if (options_.passive) target_.send("over");
        WSAOVERLAPPED overlapped{};
        end_.post_send(overlapped, 0, 1);
        end_.finish(overlapped);
    }

    const Options& options_;
    const ControlChannel& target_;
    RdmaEnd end_;
    std::uint64_t address_ = 0;
};

void print(const char* what, std::vector<double> seconds, std::size_t bytes) {
    std::sort(seconds.begin(), seconds.end());
    const auto rate = [&](double time) { return static_cast<double>(bytes) / time / 1e9; };
    fmt::print("{:<44} {:6.2f}   {:6.2f} - {:6.2f}\n", what, rate(seconds[seconds.size() / 2]),
               rate(seconds.back()), rate(seconds.front()));
}

int run_leader(const Options& options) {
    auto [ours, theirs] = ControlChannel::pair();
    std::vector<std::string> arguments{"--control-fd", std::to_string(theirs.fd()),
                                       "--moved",      std::to_string(options.moved_mb),
                                       "--memory",     std::to_string(options.memory_mb),
                                       "--piece",      std::to_string(options.piece_kb),
                                       "--address",    options.address,
                                       "--ping",       std::to_string(options.ping)};
    if (options.passive) arguments.emplace_back("--passive");
    if (options.arena) arguments.emplace_back("--arena");
    if (options.compares) arguments.emplace_back("--compare");
    for (const std::size_t size : options.compare.sizes) {
        arguments.insert(arguments.end(), {"--sizes", std::to_string(size)});
    }
    const ChildProcess target = ChildProcess::start("target", arguments, {}, {theirs.fd()});
    theirs.close();
    const CpuChoice cpus = choose_pair(read_topology(allowed_cpus()));
    const auto provider = load();
    ours.send({{"cpu", cpus.server}});
    (void)pin_this_thread(cpus.client);
    const std::uint16_t port = ours.receive(kPatience).at("port");
    Leader leader(options, ours,
                  SanConnector::begin(*provider, options.address, options.address, port).finish());
    if (options.compares) {
        leader.compare(cpus);
        return 0;
    }
    if (options.ping != 0) {
        const LatencyHistogram histogram = leader.ping();
        ours.send({{"do", "quit"}});
        const auto half = [&](double q) {
            return static_cast<double>(histogram.quantile(q)) / 2000.0;
        };
        fmt::print(
            "RDMA write over {}, {} bytes, one way: {:.2f} us p50, {:.2f} p99, {:.2f} least\n",
            leader.fabric().name, options.ping, half(0.5), half(0.99), half(0.0));
        return 0;
    }
    std::vector<double> times[4];
    // The first round warms up.
    for (std::size_t round = 0; round <= options.rounds; ++round) {
        const double now[4] = {leader.transfer(true), leader.raw_there(), leader.transfer(false),
                               leader.raw_here(target.pid())};
        for (std::size_t i = 0; i < 4 && round != 0; ++i) {
            times[i].push_back(now[i]);
        }
    }
    ours.send({{"do", "quit"}});
    fmt::print("{} MiB in pieces of {} KiB over {} MiB of memory, {} posted ahead, {} rounds, {}\n",
               options.moved_mb, options.piece_kb, options.memory_mb, options.window,
               options.rounds, cpus.why);
    fmt::print("{:<44} {:>6}   {:>6}\n", "", "GB/s", "range");
    print("RDMA write", times[0], options.moved());
    print("raw process_vm_readv by the target's thread", times[1], options.moved());
    print("RDMA read", times[2], options.moved());
    print("raw process_vm_readv by this thread", times[3], options.moved());
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    sanpoll::bench::CommandLine line("rdma_bench",
                                     "RDMA between two processes beside raw process_vm_readv");
    line.option("--moved", options.moved_mb, "MiB in a measurement").within(1, 65536);
    line.option("--memory", options.memory_mb, "MiB of memory at each end, gone round and round")
        .within(1, 1024);
    line.option("--piece", options.piece_kb, "KiB of an operation, a power of two up to 1024")
        .one_of({1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024});
    line.option("--window", options.window, "operations posted ahead").within(1, 64);
    line.option("--rounds", options.rounds, "measurements of each kind").within(1, 1000);
    line.option("--ping", options.ping,
                "instead: round trips of RDMA writes of so many bytes, as ib_write_lat does")
        .within(0, 1 << 20);
    line.option("--count", options.count, "round trips").within(1, 1 << 30);
    line.option("--address", options.address, "where the target listens");
    line.flag("--arena", options.arena, "memory of the provider's: RDMA by stores, if it can be");
    line.flag("--compare", options.compares,
              "instead: short and long pieces out of the provider's memory, with ucx_perftest in "
              "turn");
    line.option("--sizes", options.compare.sizes, "of --compare: bytes").within(1, 16 << 20);
    line.flag("!--no-ucx", options.compare.ucx, "of --compare: without ucx_perftest");
    line.option("--json", options.compare.json_file,
                "of --compare: results as JSON to this file; - is standard output");
    line.flag("--passive", options.passive, "the target calls nothing meanwhile");
    line.option("--control-fd", options.control_fd).hidden();
    return sanpoll::bench::run_program(line, argc, argv, [&] {
        options.compare.rounds = options.rounds;
        options.compare.count = line.given("--count") ? options.count : options.compare.count;
        options.compare.mebibytes =
            line.given("--moved") ? options.moved_mb : options.compare.mebibytes;
        options.compare.window = line.given("--window") ? options.window : options.compare.window;
        if (!options.compare.json_file.empty()) options.compares = true;
        return options.control_fd >= 0 ? sanpoll::bench::run_target(options)
                                       : sanpoll::bench::run_leader(options);
    });
}

// rdma_bench: how fast RDMA moves memory between two processes, in pieces of 1 MiB, beside a raw
// process_vm_readv of the same pieces by the same threads in the same run. See bench/README.md.
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <nlohmann/json.hpp>

#include "bench/child_process.hpp"
#include "bench/clock.hpp"
#include "bench/control_channel.hpp"
#include "bench/cpu_placement.hpp"
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
    int control_fd = -1;  // set in the target's process

    [[nodiscard]] std::size_t moved() const { return moved_mb << 20; }
    [[nodiscard]] std::size_t memory() const { return memory_mb << 20; }
    [[nodiscard]] std::size_t piece() const { return piece_kb << 10; }
};

void check(const char* step, bool good, int error) {
    if (!good) throw san_fault(step, error);
}

std::unique_ptr<Provider> load() {
    auto loaded = Provider::load();
    if (!loaded) throw ConnectionFault(loaded.error.message);
    return std::move(loaded.provider);
}

// Registered memory whose every page has been written to.
class Memory {
public:
    Memory(const SanSocket& socket, std::size_t bytes) : bytes_(bytes) {
        data_.reset(static_cast<char*>(std::aligned_alloc(4096, bytes)));
        if (!data_) throw std::bad_alloc();
        std::memset(data_.get(), 1, bytes);
        int error = 0;
        handle_ = socket.provider().extensions().register_memory(
            socket.descriptor(), data_.get(), static_cast<DWORD>(bytes), MEM_READWRITE, &error);
        check("WSPRegisterMemory", handle_ != nullptr, error);
    }
    [[nodiscard]] char* data() const noexcept { return data_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_; }
    [[nodiscard]] HANDLE handle() const noexcept { return handle_; }

private:
    struct Free {
        void operator()(char* data) const noexcept { std::free(data); }
    };
    std::unique_ptr<char, Free> data_;
    std::size_t bytes_;
    HANDLE handle_ = nullptr;
};

// Another process' memory, read piece by piece. Returns seconds.
double read_raw(const Options& options, const Memory& memory, pid_t pid, std::uint64_t address) {
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
void wait_for_message(const SanSocket& socket, const Memory& memory, const ControlChannel& leader,
                      bool passive) {
    WSAOVERLAPPED overlapped{};
    overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
    WSABUF buffer{64, memory.data()};
    DWORD bytes = 0;
    DWORD flags = 0;
    int error = 0;
    const auto& table = socket.provider().table();
    table.lpWSPRecv(socket.descriptor(), &buffer, 1, &bytes, &flags, &overlapped, nullptr, nullptr,
                    &error);
    check("WSPRecv", error == WSA_IO_PENDING, error);
    leader.send("ready");
    if (passive) (void)leader.receive(kPatience);  // nobody calls the provider until then
    while (table.lpWSPGetOverlappedResult(socket.descriptor(), &overlapped, &bytes, FALSE, &flags,
                                          &error) == FALSE) {
        check("WSPGetOverlappedResult", error == WSA_IO_INCOMPLETE, error);
    }
}

int run_target(const Options& options) {
    const ControlChannel leader(options.control_fd);
    const auto provider = load();
    (void)pin_this_thread(leader.receive(kPatience).at("cpu"));
    SanListener listener(*provider, "127.0.0.1");
    leader.send({{"port", listener.port()}});
    const SanSocket socket = listener.accept();
    const Memory memory(socket, options.memory());
    unsigned char descriptor[64];
    DWORD length = sizeof(descriptor);
    int error = 0;
    check("WSPRegisterRdmaMemory",
          provider->extensions().register_rdma_memory(
              socket.descriptor(), memory.data(), static_cast<DWORD>(memory.size()), MEM_READWRITE,
              descriptor, &length, &error) == 0,
          error);
    leader.send({{"descriptor", std::vector<unsigned>(descriptor, descriptor + length)},
                 {"address", reinterpret_cast<std::uint64_t>(memory.data())}});
    for (;;) {
        const json command = leader.receive(kPatience);
        const std::string what = command.at("do");
        if (what == "quit") return 0;
        if (what == "serve") {
            wait_for_message(socket, memory, leader, options.passive);
        } else {
            leader.send(read_raw(options, memory, command.at("pid"), command.at("address")));
        }
    }
}

class Leader {
public:
    Leader(const Options& options, const ControlChannel& target, SanSocket socket)
        : options_(options),
          target_(target),
          socket_(std::move(socket)),
          memory_(socket_, options.memory()) {}

    void take_descriptor(const json& told) {
        for (const unsigned byte : told.at("descriptor").get<std::vector<unsigned>>()) {
            descriptor_.push_back(static_cast<unsigned char>(byte));
        }
        address_ = told.at("address");
    }

    // Seconds.
    double transfer(bool writes) {
        target_.send({{"do", "serve"}});
        (void)target_.receive(kPatience);
        std::deque<WSAOVERLAPPED> window;
        const std::uint64_t start = Clock::monotonic_ns();
        for (std::size_t at = 0; at < options_.moved(); at += options_.piece()) {
            if (window.size() == options_.window) finish_first(window);
            post(window.emplace_back(), writes, at % options_.memory());
        }
        while (!window.empty())
            finish_first(window);
        const double seconds = static_cast<double>(Clock::monotonic_ns() - start) / 1e9;
        send_end();
        return seconds;
    }
    double raw_here(pid_t pid) const { return read_raw(options_, memory_, pid, address_); }
    double raw_there() const {
        target_.send({{"do", "raw"},
                      {"pid", ::getpid()},
                      {"address", reinterpret_cast<std::uint64_t>(memory_.data())}});
        return target_.receive(kPatience);
    }

private:
    void post(WSAOVERLAPPED& overlapped, bool writes, std::size_t offset) {
        overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
        WSABUFEX buffer{static_cast<ULONG>(options_.piece()), memory_.data() + offset,
                        memory_.handle()};
        const auto& functions = socket_.provider().extensions();
        DWORD bytes = 0;
        int error = 0;
        (writes ? functions.rdma_write : functions.rdma_read)(
            socket_.descriptor(), &buffer, 1, descriptor_.data(),
            static_cast<DWORD>(descriptor_.size()), static_cast<DWORD>(offset), &bytes, 0,
            &overlapped, nullptr, nullptr, &error);
        check(writes ? "WSPRdmaWrite" : "WSPRdmaRead", error == WSA_IO_PENDING, error);
    }
    void finish(WSAOVERLAPPED& overlapped) const {
        DWORD bytes = 0;
        DWORD flags = 0;
        int error = 0;
        while (socket_.provider().table().lpWSPGetOverlappedResult(
                   socket_.descriptor(), &overlapped, &bytes, FALSE, &flags, &error) == FALSE) {
            check("an RDMA operation", error == WSA_IO_INCOMPLETE, error);
            cpu_pause();
        }
    }
    void finish_first(std::deque<WSAOVERLAPPED>& window) const {
        finish(window.front());
        window.pop_front();
    }
    // Tells the target that the measurement is over.
    void send_end() const {
        if (options_.passive) target_.send("over");
        WSAOVERLAPPED overlapped{};
        overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
        WSABUF buffer{1, memory_.data()};
        DWORD bytes = 0;
        int error = 0;
        socket_.provider().table().lpWSPSend(socket_.descriptor(), &buffer, 1, &bytes, 0,
                                             &overlapped, nullptr, nullptr, &error);
        check("WSPSend", error == WSA_IO_PENDING, error);
        finish(overlapped);
    }

    const Options& options_;
    const ControlChannel& target_;
    SanSocket socket_;
    Memory memory_;
    std::vector<unsigned char> descriptor_;
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
                                       "--piece",      std::to_string(options.piece_kb)};
    if (options.passive) arguments.emplace_back("--passive");
    const ChildProcess target = ChildProcess::start("target", arguments, {}, {theirs.fd()});
    theirs.close();
    const CpuChoice cpus = choose_pair(read_topology(allowed_cpus()));
    const auto provider = load();
    ours.send({{"cpu", cpus.server}});
    (void)pin_this_thread(cpus.client);
    const std::uint16_t port = ours.receive(kPatience).at("port");
    Leader leader(options, ours,
                  SanConnector::begin(*provider, "127.0.0.1", "127.0.0.1", port).finish());
    leader.take_descriptor(ours.receive(kPatience));
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
    CLI::App app("rdma_bench: RDMA between two processes beside raw process_vm_readv");
    app.add_option("--moved", options.moved_mb, "MiB in a measurement")
        ->check(CLI::Range(1, 65536));
    app.add_option("--memory", options.memory_mb, "MiB of memory at each end, gone round and round")
        ->check(CLI::Range(1, 1024));
    app.add_option("--piece", options.piece_kb, "KiB of an operation, a power of two up to 1024")
        ->check(CLI::IsMember({1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024}));
    app.add_option("--window", options.window, "operations posted ahead")->check(CLI::Range(1, 64));
    app.add_option("--rounds", options.rounds, "measurements of each kind")
        ->check(CLI::Range(1, 1000));
    app.add_flag("--passive", options.passive, "the target calls nothing meanwhile");
    app.add_option("--control-fd", options.control_fd)->group("");
    CLI11_PARSE(app, argc, argv);
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return options.control_fd >= 0 ? sanpoll::bench::run_target(options)
                                       : sanpoll::bench::run_leader(options);
    } catch (const std::exception& fault) {
        fmt::print(stderr, "rdma_bench: {}\n", fault.what());
        return 1;
    }
}

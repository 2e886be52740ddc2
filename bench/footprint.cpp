// footprint: what a process with idle connections has in memory, and how long it takes to open and close a
// connection beside few and beside many others. Two processes, or both ends in one. See bench/README.md.
//
// --json: {"program", "connections", "timed", "receives", "processes", "memory": [{"when", "process", "peak_kib",
// "resident_kib", "anonymous_kib", "file_kib", "shared_kib", "proportional_kib"}], "results": [{"end",
// "bytes_per_connection"}], "times": [{"what": "connect" or "close", "open": connections beside it, "p50_us",
// "p99_us"}], "closing_all_ms", "tcp_kernel_bytes_per_end": null where the kernel does not tell}. No sentinels: the
// processes are not pinned, and bytes do not depend on it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "bench/child_process.hpp"
#include "bench/clock.hpp"
#include "bench/control_channel.hpp"
#include "bench/footprint_figures.hpp"
#include "bench/json_output.hpp"
#include "bench/light_socket.hpp"
#include "bench/process_memory.hpp"
#include "bench/program.hpp"
#include "bench/san_socket.hpp"
#include "bench/tcp_connection.hpp"
#include "sanpoll/switch.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

constexpr std::chrono::minutes kPatience{5};
constexpr const char* kHere = "127.0.0.1";
// A connect that meets a full backlog tries again a second later.
constexpr std::size_t kTcpAtOnce = 4;

struct Options {
    std::size_t connections = 10000;
    std::size_t timed = 100;   // connections of which the time is taken, at either number
    std::size_t receives = 0;  // posted on each idle connection
    bool one_process = false;
    bool tcp = true;
    std::string library;
    std::string json;     // empty: none
    int control_fd = -1;  // set in the acceptor's process
};

// Idle ends of connections, all with one region registered if receives are posted on them. As small as it can be:
// what is measured is the provider.
class Ends {
public:
    Ends(const Provider& provider, std::size_t receives)
        : provider_(provider), receives_(receives), memory_(64) {}
    ~Ends() { close(descriptors_.size()); }
    Ends(const Ends&) = delete;
    Ends& operator=(const Ends&) = delete;

    void add(const ProviderSocket& socket) {
        descriptors_.push_back(socket.descriptor);
        if (receives_ == 0) return;
        int error = 0;
        if (provider_.extensions().register_memory(socket.descriptor, memory_.data(),
                                                   static_cast<DWORD>(memory_.size()),
                                                   MEM_READWRITE, &error) == nullptr) {
            throw san_fault("WSPRegisterMemory", error);
        }
        for (std::size_t i = 0; i < receives_; ++i) {
            WSABUF buffer{static_cast<ULONG>(memory_.size()), memory_.data()};
            WSAOVERLAPPED& overlapped = operations_.emplace_back();
            overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
            DWORD bytes = 0;
            DWORD flags = 0;
            provider_.table().lpWSPRecv(socket.descriptor, &buffer, 1, &bytes, &flags, &overlapped,
                                        nullptr, nullptr, &error);
            if (error != WSA_IO_PENDING) throw san_fault("WSPRecv", error);
        }
    }

    // The last ones first. Returns nanoseconds of each close.
    std::vector<std::uint64_t> close(std::size_t count) {
        std::vector<std::uint64_t> times;
        for (; count != 0; --count) {
            const std::uint64_t start = Clock::monotonic_ns();
            provider_.close(descriptors_.back());
            times.push_back(Clock::monotonic_ns() - start);
            descriptors_.pop_back();
        }
        return times;
    }
    [[nodiscard]] std::size_t size() const { return descriptors_.size(); }

private:
    const Provider& provider_;
    const std::size_t receives_;
    std::vector<char> memory_;
    std::vector<SOCKET> descriptors_;
    std::deque<WSAOVERLAPPED> operations_;
};

// ---- the acceptor's process ------------------------------------------------------------------------------------

int run_acceptor(const Options& options) {
    const ControlChannel leader(options.control_fd);
    let_open_files(options.connections + 1000);
    {
        const auto provider = load_provider(options.library);
        LightListener acceptor(*provider);
        Ends ends(*provider, options.receives);
        leader.send({{"port", acceptor.port()}});
        for (;;) {
            const json command = leader.receive(kPatience);
            const std::string what = command.at("do");
            if (what == "accept") {
                const std::size_t count = command.at("count");
                for (std::size_t i = 0; i < count; ++i) {
                    ends.add(acceptor.accept());
                }
                leader.send("accepted");
            } else if (what == "close") {
                (void)ends.close(command.at("count"));
                leader.send("closed");
            } else {
                break;
            }
        }
    }
    const TcpListener listener(kHere);
    leader.send({{"port", listener.port()}});
    std::vector<Descriptor> tcp;
    for (std::size_t batch = 0; (batch = leader.receive(kPatience)) != 0;) {
        for (; batch != 0; --batch) {
            tcp.push_back(listener.accept());
        }
        leader.send("accepted");
    }
    leader.send("kept");
    (void)leader.receive(kPatience);
    return 0;
}

// ---- the connector's process -----------------------------------------------------------------------------------

class Leader {
public:
    Leader(const Options& options, const ControlChannel* acceptor, pid_t acceptor_pid)
        : acceptor_(acceptor),
          acceptor_pid_(acceptor_pid),
          provider_((take("before"), load_provider(options.library))),
          ends_(*provider_, options.receives) {
        if (acceptor_ != nullptr) {
            port_ = acceptor_->receive(kPatience).at("port");
        } else {
            own_acceptor_.emplace(*provider_);
            own_ends_.emplace(*provider_, options.receives);
            port_ = own_acceptor_->port();
        }
        take("started");
    }

    // Nanoseconds of each connect.
    std::vector<std::uint64_t> open(std::size_t count) {
        std::vector<std::uint64_t> times;
        if (acceptor_ != nullptr) acceptor_->send({{"do", "accept"}, {"count", count}});
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t start = Clock::monotonic_ns();
            LightConnect connect(*provider_, event_, port_);
            if (own_acceptor_) own_ends_->add(own_acceptor_->accept());
            const ProviderSocket socket = connect.finish();
            times.push_back(Clock::monotonic_ns() - start);
            ends_.add(socket);
        }
        if (acceptor_ != nullptr) (void)acceptor_->receive(kPatience);
        return times;
    }
    std::vector<std::uint64_t> close(std::size_t count) {
        std::vector<std::uint64_t> times = ends_.close(count);
        if (acceptor_ != nullptr) {
            acceptor_->send({{"do", "close"}, {"count", count}});
            (void)acceptor_->receive(kPatience);
        } else {
            (void)own_ends_->close(count);
        }
        return times;
    }
    void take(const char* when) {
        shots_.push_back({when, memory_of(::getpid()),
                          acceptor_ != nullptr ? memory_of(acceptor_pid_) : ProcessMemory{}});
    }
    [[nodiscard]] const std::vector<FootprintShot>& shots() const { return shots_; }

private:
    const ControlChannel* acceptor_;
    const pid_t acceptor_pid_;
    std::vector<FootprintShot> shots_;
    std::unique_ptr<Provider> provider_;
    SanEvent event_;
    std::optional<LightListener> own_acceptor_;
    std::optional<Ends> own_ends_;
    Ends ends_;
    std::uint16_t port_ = 0;
};

// Bytes an end of the kernel's objects for a TCP connection; nothing where the kernel does not tell.
std::optional<double> measure_tcp(const Options& options, const ControlChannel& acceptor) {
    const std::uint16_t port = acceptor.receive(kPatience).at("port");
    const std::uint64_t before = kernel_socket_bytes();
    std::vector<Descriptor> tcp;
    while (tcp.size() < options.connections) {
        const std::size_t batch = std::min(kTcpAtOnce, options.connections - tcp.size());
        for (std::size_t i = 0; i < batch; ++i) {
            tcp.push_back(tcp_connect(kHere, port));
        }
        acceptor.send(batch);
        (void)acceptor.receive(kPatience);
    }
    acceptor.send(0);
    (void)acceptor.receive(kPatience);
    const std::uint64_t after = kernel_socket_bytes();
    acceptor.send("quit");
    if (before == 0 || after <= before) return std::nullopt;
    return static_cast<double>(after - before) / static_cast<double>(options.connections) / 2;
}

Footprint measure(const Options& options, const ControlChannel* acceptor, pid_t acceptor_pid) {
    Footprint figures;
    figures.connections = options.connections;
    figures.timed = options.timed;
    figures.receives = options.receives;
    figures.one_process = options.one_process;
    figures.tcp = options.tcp;
    {
        Leader leader(options, acceptor, acceptor_pid);
        (void)leader.open(1);
        leader.take("1 connection");
        figures.connect_few = leader.open(options.timed);
        figures.close_few = leader.close(options.timed);
        leader.take("few");
        (void)leader.open(options.connections - 1);
        leader.take("many");
        figures.connect_many = leader.open(options.timed);
        figures.close_many = leader.close(options.timed);
        figures.shots = leader.shots();
        const std::uint64_t start = Clock::monotonic_ns();
        (void)leader.close(options.connections);
        figures.closing_all_ms = static_cast<double>(Clock::monotonic_ns() - start) / 1e6;
        if (acceptor != nullptr) acceptor->send({{"do", "quit"}});
    }
    if (acceptor != nullptr && options.tcp) figures.tcp_bytes = measure_tcp(options, *acceptor);
    return figures;
}

int run_leader(const Options& options) {
    JsonOutput output(options.json);
    let_open_files(options.connections + 1000);
    std::optional<ControlChannel> channel;
    std::optional<ChildProcess> child;
    if (!options.one_process) {
        auto [ours, theirs] = ControlChannel::pair();
        child.emplace(
            ChildProcess::start("acceptor",
                                {"--control-fd", std::to_string(theirs.fd()), "--connections",
                                 std::to_string(options.connections), "--receives",
                                 std::to_string(options.receives), "--library", options.library},
                                {}, {theirs.fd()}));
        channel.emplace(std::move(ours));
    }
    const Footprint footprint =
        measure(options, channel ? &*channel : nullptr, child ? child->pid() : 0);
    if (output.leaves_stdout()) print(footprint);
    output.write(json_of(footprint));
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    bool no_tcp = false;
    sanpoll::bench::CommandLine line(
        "footprint", "memory of idle connections, and the time to open and close one");
    line.option("--connections", options.connections, "idle connections").within(2, 60000);
    line.option("--timed", options.timed, "connects and closes whose time is taken")
        .within(1, 2000);
    line.option("--receives", options.receives, "receives posted on each idle connection")
        .within(0, 1024);
    line.flag("--one-process", options.one_process, "both ends in one process");
    line.flag("--no-tcp", no_tcp, "without kernel TCP beside it");
    line.option("--library", options.library, "the provider's library");
    line.option("--json", options.json, "also write the results to this file; - : only them");
    line.option("--control-fd", options.control_fd).hidden();
    return sanpoll::bench::run_program(line, argc, argv, [&] {
        options.tcp = !no_tcp;
        return options.control_fd >= 0 ? sanpoll::bench::run_acceptor(options)
                                       : sanpoll::bench::run_leader(options);
    });
}

#include "bench/ping_agent.hpp"

#include <sys/prctl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <sanpoll/switch.hpp>
#include <thread>

#include "bench/clock.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/latency_histogram.hpp"
#include "bench/measured_ends.hpp"
#include "bench/peer.hpp"
#include "bench/ping_options.hpp"
#include "bench/san_connection.hpp"
#include "bench/san_socket.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;

// The provider of this process: loaded by the first agent that wants it, gone with the last. `startup_ns`
// is how long that took, for whoever asks.
std::shared_ptr<Provider> process_provider(const std::string& library, std::uint64_t& startup_ns) {
    static std::mutex mutex;
    static std::weak_ptr<Provider> loaded;
    static std::uint64_t took_ns = 0;
    const std::lock_guard lock(mutex);
    startup_ns = took_ns;
    if (auto provider = loaded.lock()) return provider;
    const std::uint64_t start = Clock::monotonic_ns();
    sanpoll_switch::LoadOptions options;
    options.library = library;
    auto result = Provider::load(options);
    if (!result) throw ConnectionFault(result.error.message);
    std::shared_ptr<Provider> provider = std::move(result.provider);
    loaded = provider;
    took_ns = startup_ns = Clock::monotonic_ns() - start;
    return provider;
}

std::string ascii(const WCHAR* text) {
    std::string out;
    for (; *text != 0; ++text)
        out += *text < 0x80 ? static_cast<char>(*text) : '?';
    return out;
}

class Agent {
public:
    Agent(AgentRole role, const Peers& peers) : role_(role), peers_(peers) {}

    json obey(const json& command) {
        const std::string what = command.at("do");
        if (what == "setup") return set_up(command);
        if (what == "open") return open(command);
        if (what == "ping") return ping_phase(command);
        if (what == "stream") return stream_phase(command);
        if (what == "close") return close();
        if (what == "quit") return json::object();
        throw ConnectionFault("an agent was told '" + what + "', which it does not know");
    }

private:
    bool serves() const { return role_ != AgentRole::kClient; }
    bool measures() const { return role_ != AgentRole::kServer; }

    json set_up(const json& command) {
        json answer = json::object();
        address_ = command.at("address");
        local_ = command.at("local");
        tcp_waiting_ = command.at("tcp_blocking") ? TcpConnection::Waiting::kBlock
                                                  : TcpConnection::Waiting::kSpin;
        rule_.yield = command.at("yield");
        rule_.clock = Clock::calibrate();
        // What cannot be used here is told by name, so that the leader leaves it out.
        for (const std::string name : command.value("peers", json::array())) {
            const Peer* peer = find_peer(peers_, name);
            const std::string why = peer == nullptr ? "unknown" : peer->missing();
            if (!why.empty()) answer["missing"][name] = why;
        }
        // The library comes before the pinning, so that its threads do not inherit the one CPU of this one.
        if (command.at("san")) {
            std::uint64_t startup_ns = 0;
            provider_ = process_provider(command.at("library"), startup_ns);
            answer["startup_ms"] = static_cast<double>(startup_ns) / 1e6;
            answer["provider"] = ascii(provider_->data().szDescription);
            answer["provider_path"] = provider_->path();
        }
        const int cpu = command.at("cpu");
        if (!pin_this_thread(cpu)) {
            throw ConnectionFault("CPU " + std::to_string(cpu) +
                                  " may not be used; choose others with --cores");
        }
        if (!serves()) return answer;
        if (provider_) {
            san_listener_.emplace(*provider_, address_);
            address_ = san_listener_->address();
            answer["san_port"] = san_listener_->port();
            answer["addresses"] = san_listener_->addresses();
        }
        if (address_.empty()) address_ = "127.0.0.1";
        if (local_.empty()) local_ = address_;
        answer["address"] = address_;
        if (command.at("tcp")) {
            tcp_listener_.emplace(address_);
            answer["tcp_port"] = tcp_listener_->port();
        }
        return answer;
    }

    json open(const json& command) {
        shape_.size = command.at("size");
        shape_.receives = command.at("receives");
        shape_.sends = command.at("sends");
        shape_.fresh = command.at("fresh");
        next_ = 0;
        completion_ = completion_from(command.at("completion")).value_or(Completion::kPolled);
        const std::string transport = command.at("transport");
        const std::uint16_t port = command.at("port");
        if (transport == "tcp") {
            ends_ = open_tcp(port);
            return json::object();
        }
        if (const Peer* peer = find_peer(peers_, transport)) {
            ends_ = peer->open(serves() ? tcp_listener_->accept() : tcp_connect(address_, port),
                               serves(), shape_, rule_);
            return json::object();
        }
        return open_san(port,
                        transport == "san-arena" ? MemoryKind::kArena : MemoryKind::kOrdinary);
    }

    json open_san(std::uint16_t port, MemoryKind memory) {
        json answer = json::object();
        std::unique_ptr<SanConnection> server, client;
        std::optional<SanConnector> connector;
        if (measures()) connector.emplace(SanConnector::begin(*provider_, local_, address_, port));
        if (serves())
            server = std::make_unique<SanConnection>(san_listener_->accept(), shape_, completion_,
                                                     rule_, memory);
        if (measures()) {
            client = std::make_unique<SanConnection>(std::move(*connector).finish(), shape_,
                                                     completion_, rule_, memory);
            const FabricFacts fabric = client->socket().fabric();
            answer = {
                {"fabric", fabric.name}, {"device", fabric.device}, {"reason", fabric.reason}};
        }
        ends_ = std::make_unique<EndsOf<SanConnection>>(std::move(server), std::move(client));
        return answer;
    }

    std::unique_ptr<MeasuredEnds> open_tcp(std::uint16_t port) {
        std::unique_ptr<TcpConnection> server, client;
        if (measures()) {
            client = std::make_unique<TcpConnection>(tcp_connect(address_, port), shape_,
                                                     tcp_waiting_, rule_);
        }
        if (serves()) {
            server = std::make_unique<TcpConnection>(tcp_listener_->accept(), shape_, tcp_waiting_,
                                                     rule_);
        }
        return std::make_unique<EndsOf<TcpConnection>>(std::move(server), std::move(client));
    }

    MeasuredEnds& opened() const {
        if (!ends_)
            throw ConnectionFault("an agent was told to measure before a connection was open");
        return *ends_;
    }

    json ping_phase(const json& command) {
        const std::uint64_t skip = command.at("skip");
        const std::uint64_t count = command.at("count");
        histogram_.reset();
        const std::uint64_t start = rule_.clock.ticks();
        opened().ping(rule_.clock, shape_.size, next_, skip, count, histogram_);
        next_ += skip + count;
        if (!measures()) return json::object();
        return {{"elapsed_ns", rule_.clock.to_ns(rule_.clock.ticks() - start)},
                {"buckets", histogram_.buckets()},
                {"min", histogram_.min()},
                {"max", histogram_.max()},
                {"sum", histogram_.sum()}};
    }

    json stream_phase(const json& command) {
        const std::uint64_t ticks =
            opened().stream(rule_.clock, shape_.size, command.at("count"), shape_.receives);
        if (!measures()) return json::object();
        return {{"elapsed_ns", rule_.clock.to_ns(ticks)}};
    }

    json close() {
        ends_.reset();
        return json::object();
    }

    AgentRole role_;
    const Peers& peers_;
    std::string address_;
    std::string local_;
    TcpConnection::Waiting tcp_waiting_ = TcpConnection::Waiting::kSpin;
    Completion completion_ = Completion::kPolled;
    SpinRule rule_;
    LatencyHistogram histogram_;

    // Later members use earlier ones, so they have to go first.
    std::shared_ptr<Provider> provider_;
    std::optional<SanListener> san_listener_;
    std::optional<TcpListener> tcp_listener_;
    ConnectionShape shape_;
    std::uint64_t next_ = 0;  // number of the connection's next message
    std::unique_ptr<MeasuredEnds> ends_;
};

}  // namespace

bool run_agent(AgentRole role, const ControlChannel& channel, const json& own, const Peers& peers) {
    // The leader may take long between commands; when it dies, the channel closes (and the kernel ends this process).
    constexpr std::chrono::hours kForever{24 * 365};
    const auto agent = std::make_unique<Agent>(role, peers);
    try {
        for (;;) {
            json command = channel.receive(kForever);
            if (command.at("do") == "setup") command.update(own);
            json answer = agent->obey(command);
            answer["ok"] = true;
            channel.send(answer);
            if (command.at("do") == "quit") return true;
        }
    } catch (const ChannelClosed&) {
        return false;
    } catch (const std::exception& fault) {
        try {
            channel.send({{"error", fault.what()}});
        } catch (const ChannelClosed&) {
            // Nobody is left who could be told.
        }
        return false;
    }
}

int run_listening_agent(const PingOptions& options) {
    const std::vector<int> allowed = allowed_cpus();
    // The provider reads its knobs from the environment.
    const auto set = [](const char* name, const std::string& value) {
        if (!value.empty()) setenv(name, value.c_str(), 1);
    };
    set("SANPOLL_MODE", options.mode);
    set("SANPOLL_PROFILE", options.profile);
    set("SANPOLL_FABRIC", options.fabric);
    if (!options.poll_cores.empty()) set("SANPOLL_CORES", format_cpu_list(options.poll_cores));
    const std::string address = options.address.empty() ? "0.0.0.0" : options.address;
    const json own{{"address", address},
                   {"library", options.library},
                   {"cpu", options.cores.empty() ? choose_pair(read_topology(allowed)).server
                                                 : options.cores.front()},
                   {"yield", allowed.size() == 1}};
    const ControlChannel channel = ControlChannel::accept(address, options.port);
    return run_agent(AgentRole::kServer, channel, own, {}) ? 0 : 1;
}

int run_agent_process(const std::string& role, const std::vector<int>& control_fds,
                      const Peers& peers) {
    if (control_fds.empty()) return 2;
    // Started through /proc/self/exe, it would be called "exe" in every list of processes.
    prctl(PR_SET_NAME, ("ping-" + role).c_str());
    const ControlChannel first(control_fds[0]);
    if (role == "pair") return run_agent(AgentRole::kPair, first, json::object(), peers) ? 0 : 1;
    if (role == "client")
        return run_agent(AgentRole::kClient, first, json::object(), peers) ? 0 : 1;
    if (control_fds.size() < 2)
        return run_agent(AgentRole::kServer, first, json::object(), peers) ? 0 : 1;

    const ControlChannel second(control_fds[1]);
    bool client_done = false;
    std::thread client([&] {
        prctl(PR_SET_NAME, "ping-client");
        client_done = run_agent(AgentRole::kClient, second, json::object(), peers);
    });
    const bool server_done = run_agent(AgentRole::kServer, first, json::object(), peers);
    client.join();
    return server_done && client_done ? 0 : 1;
}

}  // namespace sanpoll::bench

#include "bench/call_sections.hpp"

#include <arpa/inet.h>

#include <cstring>
#include <functional>
#include <utility>

#include "bench/call_pair.hpp"
#include "bench/san_socket.hpp"

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

constexpr std::uint32_t kBatch = kCallBatch;
constexpr std::uint32_t kWarmUp = 64;
// Windows of messages until all is as it stays: the token is lent to a thread that has turned the core some hundreds of
// times, and a look in 32 is a turn.
constexpr std::uint32_t kSettle = 4096;

sockaddr_in here(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
}

// A listener whose WSPAccept is called by who measures it.
class Acceptor {
public:
    explicit Acceptor(const Provider& provider)
        : provider_(provider), companion_(reserve_port("127.0.0.1")), socket_(provider.socket()) {
        check_call("WSPSocket", static_cast<bool>(socket_), socket_.error);
        const sockaddr_in where = here(companion_.port);
        const WSPPROC_TABLE& table = provider.table();
        int error = 0;
        check_call(
            "listening",
            table.lpWSPBind(socket_.descriptor, reinterpret_cast<const sockaddr*>(&where),
                            sizeof where, &error) == 0 &&
                table.lpWSPListen(socket_.descriptor, 16, &error) == 0 &&
                table.lpWSPEventSelect(socket_.descriptor, event_.handle(), FD_ACCEPT, &error) == 0,
            error);
    }
    ~Acceptor() { (void)provider_.close(socket_.descriptor); }
    Acceptor(const Acceptor&) = delete;
    Acceptor& operator=(const Acceptor&) = delete;

    [[nodiscard]] const SanEvent& event() const { return event_; }
    [[nodiscard]] SOCKET descriptor() const { return socket_.descriptor; }
    [[nodiscard]] std::uint16_t port() const { return companion_.port; }

private:
    const Provider& provider_;
    const SanEvent event_;
    const ReservedPort companion_;
    const ProviderSocket socket_;
};

class Runner {
public:
    Runner(const Provider& provider, CallMeter& meter, std::uint32_t rounds)
        : provider_(provider),
          meter_(meter),
          rounds_(rounds),
          listener_(provider, "127.0.0.1"),
          acceptor_(provider) {}

    std::vector<Section> run() {
        section(kEmptySection, "", "nothing", 0, rounds_, [&] {
            meter_.begin();
            meter_.end();
        });
        for (const std::uint32_t size : {8U, 64U, 1024U})
            messages(size);
        rdma();
        registrations();
        questions();
        connections();
        return std::move(sections_);
    }

private:
    template <typename Body>
    void section(const std::string& name, const std::string& function, const std::string& what,
                 std::uint32_t size, std::uint32_t rounds, Body body) {
        for (std::uint32_t i = 0; i < std::min(kWarmUp, rounds); ++i)
            body();
        meter_.discard();
        for (std::uint32_t i = 0; i < rounds; ++i)
            body();
        const CallMeter::Taken taken = meter_.take(name);
        sections_.push_back({name, function, what, size, taken.windows, taken.calls, taken.ns});
    }

    CallPair make_pair() {
        SanConnector connector = SanConnector::begin(provider_, listener_.address(),
                                                     listener_.address(), listener_.port());
        SanSocket accepted = listener_.accept();
        return {provider_, std::move(connector).finish(), std::move(accepted)};
    }

    void messages(std::uint32_t size) {
        CallPair pair = make_pair();
        pair.fill(size);
        const std::string suffix = "_" + std::to_string(size);
        const std::string bytes = std::to_string(size) + " B";

        const auto whole = [&] {
            bool good = true;
            meter_.begin();
            for (std::uint32_t i = 0; i < kBatch; ++i) {
                const std::uint32_t which = pair.oldest();
                good &= pair.send(0, size) == WSA_IO_PENDING;
                while (!pair.sent(0)) {
                }
                while (!pair.received(which)) {
                }
                good &= pair.receive(which, size) == WSA_IO_PENDING;
                pair.next();
            }
            meter_.end(kBatch);
            check_call("a message", good, 0);
        };
        for (std::uint32_t i = 0; i < kSettle; ++i)
            whole();
        section("send_and_receive" + suffix,
                "WSPSend + WSPGetOverlappedResult + WSPGetOverlappedResult + WSPRecv",
                bytes + ": sent, seen to be sent, received, the receive posted again", size,
                rounds_, whole);
        const std::uint32_t oldest = pair.oldest();
        pair.call_nothing(true);
        section("caller" + suffix, "", bytes + ": the caller's part of that, four calls of nothing",
                size, rounds_, whole);
        pair.call_nothing(false);
        while (pair.oldest() != oldest)  // as if nothing had been
            pair.next();
        section("send" + suffix, "WSPSend", bytes + ", a receive waits", size, rounds_, [&] {
            bool good = true;
            meter_.begin();
            for (std::uint32_t i = 0; i < kBatch; ++i)
                good &= pair.send(i, size) == WSA_IO_PENDING;
            meter_.end(kBatch);
            check_call("WSPSend", good, 0);
            pair.take(kBatch, size);
        });
        section("result_of_send" + suffix, "WSPGetOverlappedResult",
                bytes + ", an operation that has ended", size, rounds_, [&] {
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        check_call("WSPSend", pair.send(i, size) == WSA_IO_PENDING, 0);
                    pair.take(kBatch, size);
                    bool good = true;
                    meter_.begin();
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        good &= pair.sent(i);
                    meter_.end(kBatch);
                    check_call("WSPGetOverlappedResult", good, 0);
                });
        section("result_with_arrival" + suffix, "WSPGetOverlappedResult",
                bytes + ", takes the message that ends the receive", size, rounds_, [&] {
                    check_call("WSPSend", pair.send(0, size) == WSA_IO_PENDING, 0);
                    while (!pair.sent(0)) {  // it may have to wait for credit
                    }
                    const std::uint32_t which = pair.oldest();
                    meter_.begin();
                    const bool good = pair.received(which);
                    meter_.end();
                    check_call("WSPGetOverlappedResult", good, 0);
                    pair.take(1, size);
                });
        section("result_idle" + suffix, "WSPGetOverlappedResult",
                bytes + ", pending, nothing has arrived", size, rounds_, [&] {
                    bool good = true;
                    meter_.begin();
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        good &= !pair.received(pair.oldest());
                    meter_.end(kBatch);
                    check_call("WSPGetOverlappedResult", good, 0);
                });
        section("receive" + suffix, "WSPRecv", bytes + ", no message waits", size, rounds_, [&] {
            std::uint32_t posted[kBatch];
            for (std::uint32_t i = 0; i < kBatch; ++i) {
                check_call("WSPSend", pair.send(i, size) == WSA_IO_PENDING, 0);
                posted[i] = pair.oldest();
                while (!pair.received(posted[i])) {
                }
                pair.next();
            }
            bool good = true;
            meter_.begin();
            for (const std::uint32_t which : posted)
                good &= pair.receive(which, size) == WSA_IO_PENDING;
            meter_.end(kBatch);
            check_call("WSPRecv", good, 0);
        });
    }

    void rdma() {
        CallPair pair = make_pair();
        for (const bool write : {true, false}) {
            if (!write && provider_.extensions().rdma_read == nullptr) continue;
            const std::string function = write ? "WSPRdmaWrite" : "WSPRdmaRead";
            section(write ? "rdma_write_64" : "rdma_read_64", function, "64 B, posted only", 64,
                    rounds_, [&] {
                        meter_.begin();
                        const bool good = pair.rdma(write, 0, 64) == WSA_IO_PENDING;
                        meter_.end();
                        check_call(function.c_str(), good, 0);
                        while (!pair.sent(0)) {
                        }
                    });
            section(write ? "rdma_write_whole_64" : "rdma_read_whole_64",
                    function + " + WSPGetOverlappedResult",
                    "64 B, posted and polled to its end, both ends' work", 64, rounds_, [&] {
                        meter_.begin();
                        const bool good = pair.rdma(write, 0, 64) == WSA_IO_PENDING;
                        while (!pair.sent(0)) {
                        }
                        meter_.end();
                        check_call(function.c_str(), good, 0);
                    });
        }
    }

    void registrations() {
        CallPair pair = make_pair();
        const auto& functions = provider_.extensions();
        const SOCKET socket = pair.sender().descriptor();
        char* const buffer = pair.from().data();
        HANDLE handle = nullptr;
        int error = 0;
        const auto add = [&] {
            handle = functions.register_memory(socket, buffer, 4096, MEM_READWRITE, &error);
        };
        const auto remove = [&] { return functions.deregister_memory(socket, handle, &error); };
        section("register_memory", "WSPRegisterMemory", "4 KiB", 4096, rounds_, [&] {
            meter_.begin();
            add();
            meter_.end();
            check_call("WSPRegisterMemory", handle != nullptr, error);
            check_call("WSPDeregisterMemory", remove() == 0, error);
        });
        section("deregister_memory", "WSPDeregisterMemory", "4 KiB, no operation uses it", 4096,
                rounds_, [&] {
                    add();
                    check_call("WSPRegisterMemory", handle != nullptr, error);
                    meter_.begin();
                    const int failed = remove();
                    meter_.end();
                    check_call("WSPDeregisterMemory", failed == 0, error);
                });
        char descriptor[64];
        DWORD length = 0;
        const auto expose = [&] {
            length = sizeof(descriptor);
            return functions.register_rdma_memory(socket, buffer, 4096, MEM_READWRITE, descriptor,
                                                  &length, &error);
        };
        const auto conceal = [&] {
            return functions.deregister_rdma_memory(socket, descriptor, length, &error);
        };
        section("register_rdma_memory", "WSPRegisterRdmaMemory", "4 KiB", 4096, rounds_ / 10, [&] {
            meter_.begin();
            const int failed = expose();
            meter_.end();
            check_call("WSPRegisterRdmaMemory", failed == 0, error);
            check_call("WSPDeregisterRdmaMemory", conceal() == 0, error);
        });
        section("deregister_rdma_memory", "WSPDeregisterRdmaMemory", "4 KiB", 4096, rounds_ / 10,
                [&] {
                    check_call("WSPRegisterRdmaMemory", expose() == 0, error);
                    meter_.begin();
                    const int failed = conceal();
                    meter_.end();
                    check_call("WSPDeregisterRdmaMemory", failed == 0, error);
                });
    }

    void questions() {
        CallPair pair = make_pair();
        const WSPPROC_TABLE& table = pair.table();
        const SOCKET socket = pair.sender().descriptor();
        const auto repeated = [&](const char* name, const char* function, const char* what,
                                  int expected, const std::function<int()>& call) {
            // Through the std::function some ten instructions more than a caller has.
            section(name, function, what, 0, rounds_ / 10, [&] {
                bool good = true;
                meter_.begin();
                for (std::uint32_t i = 0; i < kBatch; ++i)
                    good &= call() == expected;
                meter_.end(kBatch);
                check_call(function, good, 0);
            });
        };
        int error = 0;
        repeated("get_sock_opt", "WSPGetSockOpt", "SO_MAX_MSG_SIZE", 0, [&] {
            CHAR value[sizeof(DWORD)];
            INT length = sizeof(value);
            return table.lpWSPGetSockOpt(socket, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length,
                                         &error);
        });
        repeated("set_sock_opt", "WSPSetSockOpt", "SO_DEBUG", 0, [&] {
            const BOOL value = FALSE;
            return table.lpWSPSetSockOpt(socket, WSP_SOL_SOCKET, WSP_SO_DEBUG,
                                         reinterpret_cast<const CHAR*>(&value), sizeof(value),
                                         &error);
        });
        repeated("ioctl_extension", "WSPIoctl", "SIO_GET_EXTENSION_FUNCTION_POINTER", 0, [&] {
            GUID id = WSAID_REGISTERMEMORY;
            LPFN_WSPREGISTERMEMORY function = nullptr;
            DWORD bytes = 0;
            return table.lpWSPIoctl(socket, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
                                    &function, sizeof(function), &bytes, nullptr, nullptr, nullptr,
                                    &error);
        });
        repeated("ioctl_addresses", "WSPIoctl", "SIO_ADDRESS_LIST_QUERY", 0, [&] {
            std::uint64_t list[512];
            DWORD bytes = 0;
            return table.lpWSPIoctl(socket, SIO_ADDRESS_LIST_QUERY, nullptr, 0, list, sizeof(list),
                                    &bytes, nullptr, nullptr, nullptr, &error);
        });
        const SanEvent event;
        repeated("event_select", "WSPEventSelect", "a connected socket, FD_CONNECT", 0, [&] {
            return table.lpWSPEventSelect(socket, event.handle(), FD_CONNECT, &error);
        });
        repeated("enum_network_events", "WSPEnumNetworkEvents", "nothing has happened", 0, [&] {
            WSANETWORKEVENTS events{};
            return table.lpWSPEnumNetworkEvents(socket, event.handle(), &events, &error);
        });
        check_call("WSPEventSelect", table.lpWSPEventSelect(socket, nullptr, 0, &error) == 0,
                   error);
        repeated("send_refused", "WSPSend", "refused: not a socket", WSAENOTSOCK, [&] {
            WSABUF buffer{8, pair.from().data()};
            DWORD sent = 0;
            WSAOVERLAPPED overlapped{};
            int why = 0;
            table.lpWSPSend(socket + 1000, &buffer, 1, &sent, 0, &overlapped, nullptr, nullptr,
                            &why);
            return why;
        });
    }

    // A connection from WSPSocket to WSPCloseSocket, again and again: in each section another of its calls lies in the
    // window.
    enum class Step {
        kSocket,
        kBind,
        kListen,
        kConnect,
        kAccept,
        kReport,
        kCloseFirst,
        kCloseLast,
        kNone
    };

    void connections() {
        const std::pair<Step, Section> steps[] = {
            {Step::kSocket, {"socket", "WSPSocket", "", 0, 0, 0, 0}},
            {Step::kBind, {"bind", "WSPBind", "any address, any port", 0, 0, 0, 0}},
            {Step::kListen, {"listen", "WSPListen", "backlog of 16", 0, 0, 0, 0}},
            {Step::kConnect, {"connect", "WSPConnect", "until it returns", 0, 0, 0, 0}},
            {Step::kAccept, {"accept", "WSPAccept", "with its condition function", 0, 0, 0, 0}},
            {Step::kReport,
             {"enum_connected", "WSPEnumNetworkEvents", "reports FD_CONNECT", 0, 0, 0, 0}},
            {Step::kCloseFirst,
             {"close_first", "WSPCloseSocket", "connected, the peer is open", 0, 0, 0, 0}},
            {Step::kCloseLast,
             {"close_last", "WSPCloseSocket", "connected, the peer has closed", 0, 0, 0, 0}},
        };
        for (const auto& [step, section_of] : steps) {
            section(section_of.name, section_of.function, section_of.what, 0, rounds_ / 20,
                    [this, measured = step] { connection(measured); });
        }
    }

    template <typename Call>
    auto measured(bool inside, Call call) {
        if (!inside) return call();
        meter_.begin();
        const auto answer = call();
        meter_.end();
        return answer;
    }

    void connection(Step step) {
        const WSPPROC_TABLE& table = provider_.table();
        int error = 0;
        if (step == Step::kListen) {
            const ReservedPort port = reserve_port("127.0.0.1");
            const ProviderSocket socket = provider_.socket();
            const sockaddr_in where = here(port.port);
            table.lpWSPBind(socket.descriptor, reinterpret_cast<const sockaddr*>(&where),
                            sizeof where, &error);
            const int failed =
                measured(true, [&] { return table.lpWSPListen(socket.descriptor, 16, &error); });
            check_call("WSPListen", failed == 0, error);
            (void)provider_.close(socket.descriptor);
            return;
        }
        const ProviderSocket socket =
            measured(step == Step::kSocket, [&] { return provider_.socket(); });
        check_call("WSPSocket", static_cast<bool>(socket), socket.error);
        const sockaddr_in from = here(kConnectorPort);
        check_call("WSPBind",
                   measured(step == Step::kBind,
                            [&] {
                                return table.lpWSPBind(socket.descriptor,
                                                       reinterpret_cast<const sockaddr*>(&from),
                                                       sizeof from, &error);
                            }) == 0,
                   error);
        check_call(
            "WSPEventSelect",
            table.lpWSPEventSelect(socket.descriptor, event_.handle(), FD_CONNECT, &error) == 0,
            error);
        const sockaddr_in to = here(acceptor_.port());
        error = 0;
        (void)measured(step == Step::kConnect, [&] {
            return table.lpWSPConnect(socket.descriptor, reinterpret_cast<const sockaddr*>(&to),
                                      sizeof to, nullptr, nullptr, nullptr, nullptr, &error);
        });
        check_call("WSPConnect", error == 0 || error == WSAEWOULDBLOCK, error);
        const ProviderSocket accepted = accept(step == Step::kAccept);
        event_.wait("the answer to a connect");
        WSANETWORKEVENTS events{};
        const int failed = measured(step == Step::kReport, [&] {
            return table.lpWSPEnumNetworkEvents(socket.descriptor, event_.handle(), &events,
                                                &error);
        });
        check_call("WSPEnumNetworkEvents", failed == 0 && (events.lNetworkEvents & FD_CONNECT) != 0,
                   error);
        (void)measured(step == Step::kCloseFirst,
                       [&] { return provider_.close(socket.descriptor); });
        (void)measured(step == Step::kCloseLast,
                       [&] { return provider_.close(accepted.descriptor); });
    }

    // As SanListener::accept, with the call itself in a window.
    ProviderSocket accept(bool inside) {
        for (;;) {
            acceptor_.event().wait("a connection request");
            WSANETWORKEVENTS events{};
            int error = 0;
            check_call(
                "WSPEnumNetworkEvents",
                provider_.table().lpWSPEnumNetworkEvents(
                    acceptor_.descriptor(), acceptor_.event().handle(), &events, &error) == 0,
                error);
            if ((events.lNetworkEvents & FD_ACCEPT) == 0) continue;
            const ProviderSocket accepted = measured(inside, [&] {
                return provider_.accept(acceptor_.descriptor(), nullptr, accept_all);
            });
            if (accepted) return accepted;
            check_call("WSPAccept", accepted.error == WSAEWOULDBLOCK, accepted.error);
        }
    }
    static int WSPAPI accept_all(LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*,
                                 DWORD_PTR) {
        return CF_ACCEPT;
    }

    static constexpr std::uint16_t kConnectorPort = 40000;  // shared memory takes any, many times

    const Provider& provider_;
    CallMeter& meter_;
    const std::uint32_t rounds_;
    SanListener listener_;
    Acceptor acceptor_;
    SanEvent event_;
    std::vector<Section> sections_;
};

}  // namespace

std::vector<Section> run_sections(const Provider& provider, CallMeter& meter,
                                  std::uint32_t rounds) {
    return Runner(provider, meter, rounds).run();
}

}  // namespace sanpoll::bench

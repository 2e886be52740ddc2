#include "bench/call_sections.hpp"

#include <arpa/inet.h>

#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "bench/san_socket.hpp"

namespace sanpoll::bench {
namespace {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

constexpr std::uint32_t kBatch = 16;  // calls in one window, where one after the other makes sense
constexpr std::uint32_t kWarmUp = 64;
constexpr std::uint32_t kMemory = 1U << 20;
constexpr std::uint32_t kPosted = 64;  // receives that are posted on a connection

void check(const char* step, bool good, int error) {
    if (!good) throw san_fault(step, error);
}

struct alignas(64) Operation {
    WSAOVERLAPPED overlapped{};
    Operation() {
        overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
    }  // polled for
};

// Memory that a connection's end has registered, for messages and for RDMA.
class Memory {
public:
    explicit Memory(const SanSocket& socket) : socket_(socket), data_(new char[kMemory]()) {
        int error = 0;
        handle_ = socket.provider().extensions().register_memory(socket.descriptor(), data_.get(),
                                                                 kMemory, MEM_READWRITE, &error);
        check("WSPRegisterMemory", handle_ != nullptr, error);
    }
    [[nodiscard]] char* data() const { return data_.get(); }
    [[nodiscard]] HANDLE handle() const { return handle_; }
    [[nodiscard]] std::vector<char> expose() const {
        std::vector<char> descriptor(64);
        auto length = static_cast<DWORD>(descriptor.size());
        int error = 0;
        check("WSPRegisterRdmaMemory",
              socket_.provider().extensions().register_rdma_memory(
                  socket_.descriptor(), data_.get(), kMemory, MEM_READWRITE, descriptor.data(),
                  &length, &error) == 0,
              error);
        descriptor.resize(length);
        return descriptor;
    }

private:
    const SanSocket& socket_;
    std::unique_ptr<char[]> data_;
    HANDLE handle_ = nullptr;
};

// Functions that do nothing, for what calling them takes.
int WSPAPI no_send(SOCKET, LPWSABUF, DWORD, LPDWORD, DWORD, LPWSAOVERLAPPED,
                   LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID, LPINT error_number) {
    *error_number = WSA_IO_PENDING;
    return SOCKET_ERROR;
}
int WSPAPI no_receive(SOCKET, LPWSABUF, DWORD, LPDWORD, LPDWORD, LPWSAOVERLAPPED,
                      LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID, LPINT error_number) {
    *error_number = WSA_IO_PENDING;
    return SOCKET_ERROR;
}
BOOL WSPAPI no_result(SOCKET, LPWSAOVERLAPPED, LPDWORD, BOOL, LPDWORD, LPINT) { return TRUE; }

// Both ends of a connection. What is measured are its calls of the table, with what passing their arguments takes.
class Pair {
public:
    Pair(const Provider& provider, SanSocket sender, SanSocket receiver)
        : provider_(provider),
          table_(provider.table()),
          functions_(provider.extensions()),
          sender_(std::move(sender)),
          receiver_(std::move(receiver)),
          from_(sender_),
          to_(receiver_),
          target_(to_.expose()) {}

    [[nodiscard]] const WSPPROC_TABLE& table() const { return table_; }
    // From now on messages go to functions that do nothing, or to the provider's again.
    void call_nothing(bool nothing) {
        table_.lpWSPSend = nothing ? no_send : provider_.table().lpWSPSend;
        table_.lpWSPRecv = nothing ? no_receive : provider_.table().lpWSPRecv;
        table_.lpWSPGetOverlappedResult =
            nothing ? no_result : provider_.table().lpWSPGetOverlappedResult;
    }
    [[nodiscard]] const SanSocket& sender() const { return sender_; }
    [[nodiscard]] const Memory& from() const { return from_; }

    // [[gnu::always_inline]]: what is counted between begin() and end() must not depend on what the compiler thinks of
    // each place.
    [[gnu::always_inline]] int send(std::uint32_t which, std::uint32_t size) {
        WSABUF buffer{size, from_.data()};
        DWORD sent = 0;
        int error = 0;
        table_.lpWSPSend(sender_.descriptor(), &buffer, 1, &sent, 0, &sends_[which].overlapped,
                         nullptr, nullptr, &error);
        return error;
    }
    [[gnu::always_inline]] int receive(std::uint32_t which, std::uint32_t size) {
        WSABUF buffer{size, to_.data()};
        DWORD received = 0;
        DWORD flags = 0;
        int error = 0;
        table_.lpWSPRecv(receiver_.descriptor(), &buffer, 1, &received, &flags,
                         &receives_[which].overlapped, nullptr, nullptr, &error);
        return error;
    }
    [[gnu::always_inline]] bool ended(const SanSocket& socket, Operation& operation) {
        DWORD bytes = 0;
        DWORD flags = 0;
        int error = 0;
        return table_.lpWSPGetOverlappedResult(socket.descriptor(), &operation.overlapped, &bytes,
                                               FALSE, &flags, &error) != FALSE;
    }
    [[gnu::always_inline]] bool sent(std::uint32_t which) { return ended(sender_, sends_[which]); }
    [[gnu::always_inline]] bool received(std::uint32_t which) {
        return ended(receiver_, receives_[which]);
    }
    [[gnu::always_inline]] int rdma(bool write, std::uint32_t which, std::uint32_t size) {
        WSABUFEX buffer{size, from_.data(), from_.handle()};
        DWORD moved = 0;
        int error = 0;
        (write ? functions_.rdma_write : functions_.rdma_read)(
            sender_.descriptor(), &buffer, 1, target_.data(), static_cast<DWORD>(target_.size()), 0,
            &moved, 0, &sends_[which].overlapped, nullptr, nullptr, &error);
        return error;
    }

    // Receives that wait are those from oldest_ on, kPosted of them.
    void fill(std::uint32_t size) {
        for (std::uint32_t i = 0; i < kPosted; ++i)
            check("WSPRecv", receive(i, size) == WSA_IO_PENDING, 0);
        oldest_ = 0;
    }
    // Takes `count` messages and posts their receives again.
    void take(std::uint32_t count, std::uint32_t size) {
        for (; count != 0; --count) {
            while (!received(oldest_)) {
            }
            check("WSPRecv", receive(oldest_, size) == WSA_IO_PENDING, 0);
            next();
        }
    }
    [[nodiscard]] std::uint32_t oldest() const { return oldest_; }
    void next() { oldest_ = (oldest_ + 1) % kPosted; }

private:
    // Before the sockets: closing them completes what is pending.
    std::vector<Operation> sends_ = std::vector<Operation>(kBatch);
    std::vector<Operation> receives_ = std::vector<Operation>(kPosted);
    const Provider& provider_;
    WSPPROC_TABLE table_;
    const sanpoll_switch::ExtensionFunctions& functions_;
    SanSocket sender_;
    SanSocket receiver_;
    Memory from_;
    Memory to_;
    std::vector<char> target_;
    std::uint32_t oldest_ = 0;
};

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
        check("WSPSocket", static_cast<bool>(socket_), socket_.error);
        const sockaddr_in where = here(companion_.port);
        const WSPPROC_TABLE& table = provider.table();
        int error = 0;
        check(
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

    Pair make_pair() {
        SanConnector connector = SanConnector::begin(provider_, listener_.address(),
                                                     listener_.address(), listener_.port());
        SanSocket accepted = listener_.accept();
        return {provider_, std::move(connector).finish(), std::move(accepted)};
    }

    void messages(std::uint32_t size) {
        Pair pair = make_pair();
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
            check("a message", good, 0);
        };
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
            check("WSPSend", good, 0);
            pair.take(kBatch, size);
        });
        section("result_of_send" + suffix, "WSPGetOverlappedResult",
                bytes + ", an operation that has ended", size, rounds_, [&] {
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        check("WSPSend", pair.send(i, size) == WSA_IO_PENDING, 0);
                    pair.take(kBatch, size);
                    bool good = true;
                    meter_.begin();
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        good &= pair.sent(i);
                    meter_.end(kBatch);
                    check("WSPGetOverlappedResult", good, 0);
                });
        section("result_with_arrival" + suffix, "WSPGetOverlappedResult",
                bytes + ", takes the message that ends the receive", size, rounds_, [&] {
                    check("WSPSend", pair.send(0, size) == WSA_IO_PENDING, 0);
                    const std::uint32_t which = pair.oldest();
                    meter_.begin();
                    const bool good = pair.received(which);
                    meter_.end();
                    check("WSPGetOverlappedResult", good, 0);
                    pair.take(1, size);
                });
        section("result_idle" + suffix, "WSPGetOverlappedResult",
                bytes + ", pending, nothing has arrived", size, rounds_, [&] {
                    bool good = true;
                    meter_.begin();
                    for (std::uint32_t i = 0; i < kBatch; ++i)
                        good &= !pair.received(pair.oldest());
                    meter_.end(kBatch);
                    check("WSPGetOverlappedResult", good, 0);
                });
        section("receive" + suffix, "WSPRecv", bytes + ", no message waits", size, rounds_, [&] {
            std::uint32_t posted[kBatch];
            for (std::uint32_t i = 0; i < kBatch; ++i) {
                check("WSPSend", pair.send(i, size) == WSA_IO_PENDING, 0);
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
            check("WSPRecv", good, 0);
        });
    }

    void rdma() {
        Pair pair = make_pair();
        for (const bool write : {true, false}) {
            if (!write && provider_.extensions().rdma_read == nullptr) continue;
            const std::string function = write ? "WSPRdmaWrite" : "WSPRdmaRead";
            section(write ? "rdma_write_64" : "rdma_read_64", function, "64 B, posted only", 64,
                    rounds_, [&] {
                        meter_.begin();
                        const bool good = pair.rdma(write, 0, 64) == WSA_IO_PENDING;
                        meter_.end();
                        check(function.c_str(), good, 0);
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
                        check(function.c_str(), good, 0);
                    });
        }
    }

    void registrations() {
        Pair pair = make_pair();
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
            check("WSPRegisterMemory", handle != nullptr, error);
            check("WSPDeregisterMemory", remove() == 0, error);
        });
        section("deregister_memory", "WSPDeregisterMemory", "4 KiB, no operation uses it", 4096,
                rounds_, [&] {
                    add();
                    check("WSPRegisterMemory", handle != nullptr, error);
                    meter_.begin();
                    const int failed = remove();
                    meter_.end();
                    check("WSPDeregisterMemory", failed == 0, error);
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
            check("WSPRegisterRdmaMemory", failed == 0, error);
            check("WSPDeregisterRdmaMemory", conceal() == 0, error);
        });
        section("deregister_rdma_memory", "WSPDeregisterRdmaMemory", "4 KiB", 4096, rounds_ / 10,
                [&] {
                    check("WSPRegisterRdmaMemory", expose() == 0, error);
                    meter_.begin();
                    const int failed = conceal();
                    meter_.end();
                    check("WSPDeregisterRdmaMemory", failed == 0, error);
                });
    }

    void questions() {
        Pair pair = make_pair();
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
                check(function, good, 0);
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
        check("WSPEventSelect", table.lpWSPEventSelect(socket, nullptr, 0, &error) == 0, error);
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
            check("WSPListen", failed == 0, error);
            (void)provider_.close(socket.descriptor);
            return;
        }
        const ProviderSocket socket =
            measured(step == Step::kSocket, [&] { return provider_.socket(); });
        check("WSPSocket", static_cast<bool>(socket), socket.error);
        const sockaddr_in from = here(kConnectorPort);
        check("WSPBind",
              measured(step == Step::kBind,
                       [&] {
                           return table.lpWSPBind(socket.descriptor,
                                                  reinterpret_cast<const sockaddr*>(&from),
                                                  sizeof from, &error);
                       }) == 0,
              error);
        check("WSPEventSelect",
              table.lpWSPEventSelect(socket.descriptor, event_.handle(), FD_CONNECT, &error) == 0,
              error);
        const sockaddr_in to = here(acceptor_.port());
        error = 0;
        (void)measured(step == Step::kConnect, [&] {
            return table.lpWSPConnect(socket.descriptor, reinterpret_cast<const sockaddr*>(&to),
                                      sizeof to, nullptr, nullptr, nullptr, nullptr, &error);
        });
        check("WSPConnect", error == 0 || error == WSAEWOULDBLOCK, error);
        const ProviderSocket accepted = accept(step == Step::kAccept);
        event_.wait("the answer to a connect");
        WSANETWORKEVENTS events{};
        const int failed = measured(step == Step::kReport, [&] {
            return table.lpWSPEnumNetworkEvents(socket.descriptor, event_.handle(), &events,
                                                &error);
        });
        check("WSPEnumNetworkEvents", failed == 0 && (events.lNetworkEvents & FD_CONNECT) != 0,
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
            check("WSPEnumNetworkEvents",
                  provider_.table().lpWSPEnumNetworkEvents(
                      acceptor_.descriptor(), acceptor_.event().handle(), &events, &error) == 0,
                  error);
            if ((events.lNetworkEvents & FD_ACCEPT) == 0) continue;
            const ProviderSocket accepted = measured(inside, [&] {
                return provider_.accept(acceptor_.descriptor(), nullptr, accept_all);
            });
            if (accepted) return accepted;
            check("WSPAccept", accepted.error == WSAEWOULDBLOCK, accepted.error);
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

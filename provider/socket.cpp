// WSPSocket, WSPBind, WSPCloseSocket.
#include "provider/socket.hpp"

#include <arpa/inet.h>

#include <cstring>

#include "engine/log.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {

Socket* make_record(SOCKET& descriptor, DWORD catalog_entry) {
    Socket* const socket = common().sockets.allocate(descriptor);
    if (socket != nullptr) {
        const std::lock_guard lock(socket->mutex);
        socket->catalog_entry = catalog_entry;
    }
    return socket;
}

bool give_handle(Socket& socket) noexcept {
    INT upcall_error = 0;
    const SOCKET handle = Provider::instance().upcalls().lpWPUCreateSocketHandle(
        socket.catalog_entry, reinterpret_cast<DWORD_PTR>(&socket), &upcall_error);
    socket.switch_handle.store(handle, std::memory_order_release);
    return handle != INVALID_SOCKET;
}

void finish_making(Socket& socket) noexcept {
    const std::lock_guard lock(socket.mutex);
    socket.in_the_making = false;
}

void abandon_making(Socket& socket) noexcept {
    (void)socket.gate.close(socket.gate.generation());
    if (socket.switch_handle.load(std::memory_order_relaxed) != INVALID_SOCKET) {
        finish_close(socket);
    } else {
        common().sockets.free(socket);
    }
}

SOCKET WSPAPI wsp_socket(int af, int type, int protocol, LPWSAPROTOCOL_INFOW info, GROUP g,
                         DWORD flags, LPINT error_number) {
    SOCKET descriptor = INVALID_SOCKET;
    const int error = guarded([&]() -> int {
        const EngineUse use;
        if (!use.up()) {
            const int down = life_error();
            return down != 0 ? down : WSANOTINITIALISED;
        }
        // 0 and FROM_PROTOCOL_INFO take the value from the protocol information, if there is any.
        const auto resolve = [&](int value, int from_info, int otherwise) {
            if (value != 0 && value != FROM_PROTOCOL_INFO) {
                return value;
            }
            return info != nullptr && from_info != 0 ? from_info : otherwise;
        };
        const int family = resolve(af, info != nullptr ? info->iAddressFamily : 0, AF_INET);
        const int kind = resolve(type, info != nullptr ? info->iSocketType : 0, SOCK_STREAM);
        const int number = resolve(protocol, info != nullptr ? info->iProtocol : 0, IPPROTO_TCP);
        if (family != AF_INET) {
            return WSAEAFNOSUPPORT;
        }
        if (kind != SOCK_STREAM) {
            return WSAESOCKTNOSUPPORT;
        }
        if (number == IPPROTO_UDP) {
            return WSAEPROTOTYPE;
        }
        if (number != IPPROTO_TCP) {
            return WSAEPROTONOSUPPORT;
        }
        if (g != 0 || flags != WSA_FLAG_OVERLAPPED) {
            return WSAEINVAL;
        }
        if (info != nullptr && info->dwProviderReserved != 0) {
            return import_socket(info->dwProviderReserved, info->dwCatalogEntryId, descriptor);
        }
        Socket* const socket =
            make_record(descriptor, info != nullptr ? info->dwCatalogEntryId : 0);
        if (socket == nullptr) {
            return WSAEMFILE;
        }
        if (!give_handle(*socket)) {
            abandon_making(*socket);
            return WSAENOBUFS;
        }
        finish_making(*socket);
        return 0;
    });
    set_error(error_number, error);
    return error == 0 ? descriptor : INVALID_SOCKET;
}

int WSPAPI wsp_bind(SOCKET s, const struct sockaddr* name, int namelen, LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      SocketTable::Found found;
                      if (const int error = find_socket(s, found); error != 0) {
                          return error;
                      }
                      sockaddr_in address{};
                      if (name == nullptr || namelen < static_cast<int>(sizeof(address))) {
                          return WSAEFAULT;
                      }
                      std::memcpy(&address, name, sizeof(address));
                      if (address.sin_family != AF_INET) {
                          return WSAEFAULT;
                      }
                      Socket& socket = *found.socket;
                      {
                          const std::lock_guard lock(socket.mutex);
                          if (socket.state != State::kCreated) {
                              return WSAEINVAL;
                          }
                      }
                      const EngineUse use;
                      if (!use.up()) {
                          return WSANOTINITIALISED;  // since we looked for the socket
                      }
                      const std::uint32_t ip = ntohl(address.sin_addr.s_addr);
                      if (ip != INADDR_ANY && !Provider::instance().engine().fabric().serves(ip)) {
                          return WSAEADDRNOTAVAIL;
                      }
                      const std::lock_guard lock(socket.mutex);
                      if (socket.gate.generation() != found.view.generation) {
                          return WSAENOTSOCK;  // closed, and perhaps somebody else's by now
                      }
                      if (socket.state != State::kCreated) {
                          return WSAEINVAL;
                      }
                      // No check against other sockets: the port space belongs to TCP/IP.
                      socket.local = {ip, ntohs(address.sin_port)};
                      socket.state = State::kBound;
                      return 0;
                  }));
}

void finish_close(Socket& socket) noexcept {
    Provider& provider = Provider::instance();
    socket.regions.reset();
    INT upcall_error = 0;
    (void)provider.upcalls().lpWPUCloseSocketHandle(
        socket.switch_handle.exchange(INVALID_SOCKET, std::memory_order_acq_rel), &upcall_error);
    // While the record is nobody else's. Pairs with the acquire in close_found().
    socket.endings.fetch_add(1, std::memory_order_release);
    socket.endings.notify_all();
    provider.sockets().free(socket);
}

namespace {

// Ends what would bring something new. With a ControlCall that is up.
void let_go(Socket& socket) noexcept {
    RequestList requests;
    std::unique_ptr<engine::Listening> listening;
    std::shared_ptr<engine::OutgoingConnection> outgoing;
    {
        const std::lock_guard lock(socket.mutex);
        requests.swap(socket.requests);
        listening.swap(socket.listening);
        outgoing.swap(socket.outgoing);
    }
    listening.reset();
    for (const auto& request : requests) {
        request->reject(engine::Status::kRefused);
    }
    if (outgoing) {
        outgoing->cancel();
    }
}

// Ends the connection, if there is one. With an EngineUse that is up. True: finish_close() is left to do.
bool end_connection(Socket& socket, const engine::PostGate::View& view) noexcept {
    if (view.state == engine::PostGate::State::kShut) {
        return true;
    }
    const bool on_notifier = Provider::instance().engine().notifier().is_this_thread();
    // There is an endpoint: everything that was admitted before completes first, then the abort of what
    // is left, then this.
    engine::Endpoint* endpoint = socket.endpoint.load(std::memory_order_acquire);
    engine::PollingCore* core = core_of(socket);
    struct CloseOp final : engine::ControlOp {
        CloseOp(engine::Endpoint& target, Socket& record, bool notifier)
            : endpoint(target), socket(record), on_notifier(notifier) {}
        void run() noexcept override {
            // Known for certain only here, where all admitted posts have been applied.
            notified = endpoint.ever_notified;
            later = on_notifier && notified;
            socket.finish_on_notifier.store(later, std::memory_order_release);
            if (later) {
                Closing::begin_late();
            }
            endpoint.port->close(endpoint);
        }
        engine::Endpoint& endpoint;
        Socket& socket;
        bool on_notifier;
        bool notified = false;
        bool later = false;
    } op(*endpoint, socket, on_notifier);
    core->run(op, endpoint, view.sequence);
    if (op.later) {
        // We are inside an upcall. The aborted operations are reported when it has returned, and the
        // handle is closed after them.
        return false;
    }
    wait_until_gone(socket, op.notified);
    return true;
}

// Ends `use`, which is up: the last WSPCleanup may call in the upcalls that are waited for here, and made.
void end_what_is_left(Socket& socket, const engine::PostGate::View& view,
                      std::optional<EngineUse>& use) noexcept {
    const bool ended = end_connection(socket, view);
    use.reset();
    wait_for_signals(socket);
    if (ended) {
        finish_close(socket);
    }
}

// `left`: WSPDuplicateSocket, in another thread, sees to the rest. The record had come to its end so often before.
int begin_close(const SocketTable::Found& found, std::optional<std::uint32_t>& left) noexcept {
    Socket& socket = *found.socket;
    engine::PostGate::View view{};
    const Closing closing;
    std::optional<EngineUse> use(std::in_place);
    {
        const ControlCall call;
        if (!use->up() || !call.up()) {
            return WSANOTINITIALISED;  // since we looked for the socket
        }
        {
            const std::lock_guard lock(socket.mutex);
            if (socket.in_the_making) {
                return WSAENOTSOCK;
            }
            // From here on posts and other calls find no socket; who loses this race finds none either.
            const auto before = socket.gate.close(found.view.generation);
            if (!before) {
                return WSAENOTSOCK;
            }
            view = *before;
            socket.state = State::kFree;
            ++socket.event_version;
            socket.event_mask = 0;
            if (socket.swapping) {
                socket.closed_while_swapping = view;
                left = socket.endings.load(std::memory_order_relaxed);
                return 0;
            }
        }
        let_go(socket);
    }
    end_what_is_left(socket, view, use);
    return 0;
}

int close_found(const SocketTable::Found& found) noexcept {
    std::optional<std::uint32_t> left;
    const int error = begin_close(found, left);
    // Not inside an upcall, which the other thread may wait for, nor where one that it makes would find a WSPCleanup
    // waiting for this thread.
    if (left && !EngineUse::here() && Closing::here() == 0 && !sets_an_event() &&
        !engine::Notifier::is_any()) {
        // Pairs with the release in finish_close().
        found.socket->endings.wait(*left, std::memory_order_acquire);
    }
    return error;
}

}  // namespace

int close_socket(SOCKET descriptor) noexcept {
    SocketTable::Found found;
    const int error = find_socket(descriptor, found);
    return error != 0 ? error : close_found(found);
}

void close_left(SOCKET descriptor) noexcept {
    const SocketTable::Found found = common().sockets.find(descriptor);
    if (found.socket != nullptr) {
        (void)close_found(found);
    }
}

void dismantle(Socket& socket, const engine::PostGate::View& view,
               std::optional<EngineUse>& use) noexcept {
    {
        const ControlCall call;
        let_go(socket);
    }
    end_what_is_left(socket, view, use);
}

int WSPAPI wsp_close_socket(SOCKET s, LPINT error_number) {
    return result(error_number, guarded([&] { return close_socket(s); }));
}

}  // namespace sanpoll::provider

// WSPConnect (spec, section 4).
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// The attempt has ended. On the control thread.
void connect_ended(Socket& socket, std::uint32_t generation,
                   const engine::Fabric::ConnectResult& outcome) {
    const std::lock_guard lock(socket.mutex);
    if (socket.gate.generation() != generation || socket.state != State::kConnecting) {
        return;
    }
    socket.outgoing.reset();
    socket.connect_error = wsa_error(outcome.status);
    if (LPWSABUF callee_data = socket.callee_data; callee_data != nullptr) {
        const std::size_t length =
            outcome.status == engine::Status::kOk
                ? std::min<std::size_t>(callee_data->len, outcome.callee_data.size())
                : 0;
        if (length != 0) {
            std::memcpy(callee_data->buf, outcome.callee_data.data(), length);
        }
        callee_data->len = static_cast<ULONG>(length);
        socket.callee_data = nullptr;
    }
    socket.state = outcome.status == engine::Status::kOk ? State::kConnected : State::kBound;
    socket.why = outcome.why;
    // Recorded first, signalled second; kept for a registration that comes later.
    socket.connect_unreported = true;
    if (record_event(socket, FD_CONNECT)) {
        signal_event_later(socket, socket.event_version);
    }
}

}  // namespace

int WSPAPI wsp_connect(SOCKET s, const struct sockaddr* name, int namelen, LPWSABUF caller_data,
                       LPWSABUF callee_data, LPQOS sqos, LPQOS gqos, LPINT error_number) {
    (void)gqos;  // reserved
    return result(
        error_number, guarded([&]() -> int {
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
                return WSAEAFNOSUPPORT;
            }
            if (sqos != nullptr) {
                return WSAEOPNOTSUPP;  // no quality of service here, so no flow specification can be met
            }
            engine::ConnectData data;
            if (caller_data != nullptr && caller_data->len != 0) {
                if (caller_data->buf == nullptr || caller_data->len > engine::kMaxConnectData) {
                    return WSAEFAULT;
                }
                const auto* bytes = reinterpret_cast<const std::byte*>(caller_data->buf);
                data.assign(bytes, bytes + caller_data->len);
            }
            if (callee_data != nullptr && callee_data->len != 0 && callee_data->buf == nullptr) {
                return WSAEFAULT;
            }
            const engine::Address remote{ntohl(address.sin_addr.s_addr), ntohs(address.sin_port)};
            Socket& socket = *found.socket;
            const std::uint32_t generation = found.view.generation;
            // Begins the attempt in this thread, after the lock. It may end at once, but its end is not signalled
            // before WSAEWOULDBLOCK has told that it has begun: not in this thread, at least.
            const ControlCall call(&socket);
            if (!call.up()) {
                return WSANOTINITIALISED;  // since we looked for the socket
            }
            engine::Fabric& fabric = Provider::instance().engine().fabric();
            const bool reached = fabric.reaches(remote.ip);
            // The lock is held until the attempt can be cancelled by a close; connect() does not wait.
            const std::lock_guard lock(socket.mutex);
            if (socket.gate.generation() != generation) {
                return WSAENOTSOCK;
            }
            switch (socket.state) {
                case State::kBound:
                    break;
                case State::kConnecting:
                    return WSAEALREADY;
                case State::kConnected:
                    return socket.gate.view().state == engine::PostGate::State::kOpen ? WSAEISCONN
                                                                                      : WSAEINVAL;
                default:
                    return WSAEINVAL;
            }
            if (remote.ip == INADDR_ANY || remote.port == 0) {
                return WSAEADDRNOTAVAIL;
            }
            if (!reached) {
                // No fabric leads there. Whether the address exists is not for us to say, so the switch gets
                // the answer that lets it try TCP/IP.
                return WSAETIMEDOUT;
            }
            // May throw, and has done nothing then. Whoever brings the result waits for the lock.
            socket.outgoing =
                fabric.connect(socket.local, remote, std::move(data), socket.owner(generation),
                               [&socket, generation](const engine::Fabric::ConnectResult& outcome) {
                                   connect_ended(socket, generation, outcome);
                               });
            socket.state = State::kConnecting;
            socket.connect_unreported = false;
            socket.recorded &= ~FD_CONNECT;
            socket.callee_data = callee_data;
            return WSAEWOULDBLOCK;
        }));
}

}  // namespace sanpoll::provider

// WSPListen and WSPAccept (spec, section 5).
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "engine/log.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// What counts against the backlog: a request that the switch is being asked about may come back (CF_DEFER).
int waiting_requests(const Socket& socket) noexcept {
    return static_cast<int>(socket.requests.size()) + socket.undecided;
}

}  // namespace

bool take_request(Socket& socket, std::uint32_t generation,
                  std::shared_ptr<engine::IncomingConnection> request) {
    const std::lock_guard lock(socket.mutex);
    if (socket.gate.generation() != generation || socket.state != State::kListening) {
        return false;
    }
    if (waiting_requests(socket) >= socket.backlog) {
        drop_withdrawn(socket);  // only now: each look goes through all that wait
        if (waiting_requests(socket) >= socket.backlog) {
            return false;
        }
    }
    socket.requests.push_back(std::move(request));
    if (socket.accept_armed && record_event(socket, FD_ACCEPT)) {
        socket.accept_armed = false;
        signal_event_later(socket, socket.event_version);
    }
    return true;
}

namespace {

sockaddr_in to_sockaddr(const engine::Address& address) noexcept {
    sockaddr_in result{};
    result.sin_family = AF_INET;
    result.sin_port = htons(address.port);
    result.sin_addr.s_addr = htonl(address.ip);
    return result;
}

// Makes the next indication possible, and makes it if requests are waiting.
void rearm_accept(Socket& socket, std::uint32_t generation) noexcept {
    std::uint32_t version = 0;
    {
        const std::lock_guard lock(socket.mutex);
        if (socket.gate.generation() != generation) {
            return;
        }
        socket.accept_armed = true;
        version = socket.event_version;
        if (!has_request(socket) || !record_event(socket, FD_ACCEPT)) {
            return;
        }
        socket.accept_armed = false;
    }
    signal_event(socket, version);
}

struct Decision {
    int answer = CF_ACCEPT;
    bool sound = true;
    engine::ConnectData callee_data;
};

// Asks the switch, in the calling thread, nothing locked, the peer still in the dark.
// Throws std::bad_alloc only before it has asked.
Decision ask(engine::IncomingConnection& request, LPCONDITIONPROC condition,
             DWORD_PTR callback_data) {
    Decision decision;
    if (condition == nullptr) {
        return decision;
    }
    decision.callee_data.reserve(engine::kMaxConnectData);
    sockaddr_in caller = to_sockaddr(request.remote());
    sockaddr_in callee = to_sockaddr(request.local());
    engine::ConnectData caller_bytes = request.caller_data();
    // Filled with something that nobody answers, so that an answer of full length, which leaves `len` as
    // it is, can be told from none.
    char callee_bytes[engine::kMaxConnectData];
    char untouched[sizeof(callee_bytes)];
    std::memset(untouched, 0xA5, sizeof(untouched));
    std::memcpy(callee_bytes, untouched, sizeof(callee_bytes));
    WSABUF caller_id{sizeof(caller), reinterpret_cast<CHAR*>(&caller)};
    WSABUF callee_id{sizeof(callee), reinterpret_cast<CHAR*>(&callee)};
    WSABUF caller_data{static_cast<ULONG>(caller_bytes.size()),
                       reinterpret_cast<CHAR*>(caller_bytes.data())};
    WSABUF callee_data{sizeof(callee_bytes), callee_bytes};
    GROUP group = 0;
    decision.answer = condition(&caller_id, caller_bytes.empty() ? nullptr : &caller_data, nullptr,
                                nullptr, &callee_id, &callee_data, &group, callback_data);
    decision.sound = group == 0 && (decision.answer == CF_ACCEPT || decision.answer == CF_REJECT ||
                                    decision.answer == CF_DEFER);
    if (callee_data.len < sizeof(callee_bytes) ||
        (callee_data.len == sizeof(callee_bytes) &&
         std::memcmp(callee_bytes, untouched, sizeof(callee_bytes)) != 0)) {
        const auto* bytes = reinterpret_cast<const std::byte*>(callee_bytes);
        decision.callee_data.assign(bytes, bytes + callee_data.len);
    }
    return decision;
}

void turn_down(engine::IncomingConnection& request, engine::Status reason) {
    const ControlCall call;
    if (call.up()) {
        request.reject(reason);
    }
}

// What an accepted socket takes over from its listener.
struct Heritage {
    SocketOptions options;
    DWORD catalog_entry = 0;
};

// Makes the socket of an accepted connection. 0 and its descriptor, or the error. When it throws std::bad_alloc there
// is no socket, and the request has not been answered.
int make_accepted(engine::IncomingConnection& request, const engine::ConnectData& callee_data,
                  const Heritage& heritage, SOCKET& descriptor) {
    const EngineUse use;
    if (!use.up()) {
        return WSANOTINITIALISED;  // since the switch was asked; the request has ended with all others
    }
    Socket* const socket = make_record(descriptor, heritage.catalog_entry);
    if (socket == nullptr) {
        turn_down(request, engine::Status::kRefused);
        return WSAEMFILE;
    }
    if (!give_handle(*socket)) {
        abandon_making(*socket);
        turn_down(request, engine::Status::kRefused);
        return WSAENOBUFS;
    }
    {
        const std::lock_guard lock(socket->mutex);
        socket->state = State::kConnected;
        socket->why = engine::Why::kPeer;
        socket->local = request.local();
        socket->options = heritage.options;
    }
    engine::Status status = engine::Status::kNotOpen;
    try {
        const ControlCall call;  // around no upcall
        if (call.up()) {
            status = request.accept(socket->owner(socket->gate.generation()), callee_data);
        }
    } catch (const std::bad_alloc&) {
        abandon_making(*socket);
        throw;
    }
    if (status != engine::Status::kOk) {
        abandon_making(*socket);
        // The originator was silent: not the same as a connect that nobody answers.
        return status == engine::Status::kTimedOut ? WSAEACCES : wsa_error(status);
    }
    finish_making(*socket);
    return 0;
}

// A request that WSPAccept has taken out, `counted` or not among the undecided, goes back to the head of the queue. If that
// is not there any more, its originator is told so, and the result is the error of the call; else 0.
int put_back(Socket& socket, std::uint32_t generation, RequestList& taken, bool counted) noexcept {
    bool closed = false;
    {
        const std::lock_guard lock(socket.mutex);
        closed = socket.gate.generation() != generation;
        if (!closed) {
            socket.undecided -= counted ? 1 : 0;
            if (socket.state == State::kListening) {
                socket.requests.splice(socket.requests.begin(), taken);
                return 0;
            }
        }
    }
    // Closed, or given to another process meanwhile.
    turn_down(*taken.front(), closed ? engine::Status::kRefused : engine::Status::kMoved);
    return closed ? WSAENOTSOCK : WSAEINVAL;
}

}  // namespace

void drop_withdrawn(Socket& socket) noexcept {
    std::erase_if(socket.requests, [](const auto& waiting) { return waiting->withdrawn(); });
}

bool has_request(Socket& socket) noexcept {
    while (!socket.requests.empty() && socket.requests.front()->withdrawn()) {
        socket.requests.pop_front();
    }
    return !socket.requests.empty();
}

int WSPAPI wsp_listen(SOCKET s, int backlog, LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            SocketTable::Found found;
            if (const int error = find_socket(s, found); error != 0) {
                return error;
            }
            const EngineUse use;
            if (!use.up()) {
                return WSANOTINITIALISED;  // since we looked for the socket
            }
            Socket& socket = *found.socket;
            const std::uint32_t generation = found.view.generation;
            RequestList excess;
            engine::Address local;
            // One after the other: whether a socket listens is known when the one that is under way has ended.
            static std::mutex under_way;
            const std::lock_guard alone(under_way);
            {
                const std::lock_guard lock(socket.mutex);
                if (socket.gate.generation() != generation) {
                    return WSAENOTSOCK;
                }
                const bool again = socket.state == State::kListening;
                if (socket.state == State::kConnected) {
                    return socket.gate.view().state == engine::PostGate::State::kOpen ? WSAEISCONN
                                                                                      : WSAEINVAL;
                }
                if ((socket.state != State::kBound && !again) || socket.local.port == 0) {
                    return WSAEINVAL;
                }
                socket.backlog = std::clamp(backlog, 1, kMaxBacklog);
                drop_withdrawn(socket);  // they must not cost a living one its place
                while (!socket.requests.empty() && waiting_requests(socket) > socket.backlog) {
                    excess.splice(excess.end(), socket.requests, std::prev(socket.requests.end()));
                }
                if (!again) {
                    socket.state = State::kListening;  // requests may come at once
                    local = socket.local;
                }
            }
            for (const auto& request : excess) {
                request->reject(engine::Status::kRefused);
            }
            if (local.port == 0) {
                return 0;  // only the backlog was to be changed
            }
            std::unique_ptr<engine::Listening> listening;
            engine::Status status = engine::Status::kNoMemory;
            try {
                status = Provider::instance().engine().fabric().listen(
                    local,
                    [&socket, generation](std::shared_ptr<engine::IncomingConnection> request) {
                        return take_request(socket, generation, std::move(request));
                    },
                    listening);
            } catch (const std::bad_alloc&) {
                status = engine::Status::kNoMemory;
            }
            if (status == engine::Status::kAddressInUse) {
                engine::log(
                    engine::LogLevel::kError,
                    "another process of this host listens at {}; stop it or choose another port",
                    engine::to_string(local));
            }
            RequestList early;
            {
                const std::lock_guard lock(socket.mutex);
                if (socket.gate.generation() != generation) {
                    return WSAENOTSOCK;  // closed in the meantime; `listening` ends with this scope
                }
                if (status == engine::Status::kOk) {
                    socket.listening = std::move(listening);
                    return 0;
                }
                socket.state = State::kBound;
                early.swap(socket.requests);
            }
            // One fabric may have listened for a moment before another one could not.
            for (const auto& request : early) {
                request->reject(engine::Status::kNoListener);
            }
            return wsa_error(status);
        }));
}

SOCKET WSPAPI wsp_accept(SOCKET s, struct sockaddr* addr, LPINT addrlen, LPCONDITIONPROC condition,
                         DWORD_PTR callback_data, LPINT error_number) {
    SOCKET descriptor = INVALID_SOCKET;
    const int error = guarded([&]() -> int {
        SocketTable::Found found;
        if (const int missing = find_socket(s, found); missing != 0) {
            return missing;
        }
        Socket& socket = *found.socket;
        const std::uint32_t generation = found.view.generation;
        {
            // Who asks all the time is answered by this; what it records is signalled before we go on.
            const ControlCall look;
            if (!look.up()) {
                return WSANOTINITIALISED;  // since we looked for the socket
            }
            Provider::instance().engine().fabric().progress();
        }
        RequestList
            taken;  // the one that is decided on, still in its place of a list: to put it back needs no memory
        Heritage heritage;
        // Asked outside the socket's lock: the table takes its own before a socket's.
        const bool room = Provider::instance().sockets().has_room();
        int refused = 0;
        {
            const std::lock_guard lock(socket.mutex);
            if (socket.gate.generation() != generation) {
                return WSAENOTSOCK;
            }
            if (socket.state != State::kListening) {
                return WSAEINVAL;
            }
            const bool waiting = has_request(socket);
            // Before the request leaves the queue, so that a bad call costs nothing.
            if (addr != nullptr &&
                (addrlen == nullptr || *addrlen < static_cast<INT>(sizeof(sockaddr_in)))) {
                refused = WSAEFAULT;
            } else if (!waiting) {
                refused = WSAEWOULDBLOCK;
            } else if (!room) {
                refused = WSAEMFILE;
            } else {
                taken.splice(taken.end(), socket.requests, socket.requests.begin());
                ++socket.undecided;
                heritage = {socket.options, socket.catalog_entry};
            }
        }
        if (refused != 0) {
            rearm_accept(socket,
                         generation);  // a failure does so too: what is queued is told again
            return refused;
        }
        engine::IncomingConnection& request = *taken.front();
        Decision decision;
        bool asked = true;
        try {
            decision = ask(request, condition, callback_data);
        } catch (const std::bad_alloc&) {
            asked = false;
        }
        if (addr != nullptr) {
            const sockaddr_in remote = to_sockaddr(request.remote());
            std::memcpy(addr, &remote, sizeof(remote));
            *addrlen = sizeof(remote);
        }
        if (!asked || (decision.sound && decision.answer == CF_DEFER)) {
            const int outcome = put_back(socket, generation, taken, true);
            if (outcome != 0) {
                return outcome;
            }
            if (asked) {
                return WSATRY_AGAIN;  // the one result that does not make FD_ACCEPT possible again
            }
            rearm_accept(socket, generation);
            return WSAENOBUFS;
        }
        {
            const std::lock_guard lock(socket.mutex);
            if (socket.gate.generation() == generation) {
                // Before the peer is told: its next connect may come at once and finds the place free.
                --socket.undecided;
            }
        }
        int outcome = 0;
        if (!decision.sound) {
            turn_down(request, engine::Status::kRefused);
            outcome = WSAEINVAL;
        } else if (decision.answer == CF_REJECT) {
            turn_down(request, engine::Status::kRefused);
            outcome = WSAECONNREFUSED;
        } else {
            try {
                outcome = make_accepted(request, decision.callee_data, heritage, descriptor);
            } catch (const std::bad_alloc&) {
                outcome = put_back(socket, generation, taken, false);
                if (outcome == 0) {
                    outcome = WSAENOBUFS;
                }
            }
            if (outcome == 0) {
                reset_accept_event(socket, generation);
            }
        }
        rearm_accept(socket, generation);
        return outcome;
    });
    set_error(error_number, error);
    return error == 0 ? descriptor : INVALID_SOCKET;
}

}  // namespace sanpoll::provider

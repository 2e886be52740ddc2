// The adversarial switch's calls on sockets: from WSPSocket to WSPCloseSocket.
#include <algorithm>
#include <cstring>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {
namespace {

// A broken connection is in another state than a standing one, and one that may have ended may be in
// either.
void allow_for_the_end(const ModelSocket& socket, std::vector<int>& allowed) {
    if (socket.phase == Phase::kConnected && socket.broken != 0) {
        allowed = {WSAEINVAL};
    } else if (socket.phase == Phase::kConnected && !socket.stands()) {
        allowed.push_back(WSAEINVAL);
    }
}

}  // namespace

void AdversarialSwitch::do_socket(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    int error = 0;
    if (socket.phase != Phase::kNone || draw.choice % 8 == 0) {  // no place, so one that must fail
        const SOCKET s = draw.choice % 2 == 0
                             ? san_.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, 0)
                             : san_.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 1);
        expect(error, {WSAEINVAL}, "WSPSocket with bad arguments");
        check(s == INVALID_SOCKET, "a failed WSPSocket returns a descriptor");
        return;
    }
    socket = {};
    socket.s = san_.socket(&error);
    if (expect(error, {0}, "WSPSocket")) {
        socket.handle = upcalls_.latest_handle();
        socket.phase = Phase::kCreated;
    }
}

void AdversarialSwitch::do_bind(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase == Phase::kNone) {
        return;
    }
    sockaddr_in address = fresh_address();
    const bool created = socket.phase == Phase::kCreated;
    switch (draw.choice % 8) {
        case 0:
            expect(san_.bind(socket.s, address, static_cast<int>(draw.size % 16)), {WSAEFAULT},
                   "WSPBind with a short name");
            return;
        case 1:
            address.sin_family = 23;
            expect(san_.bind(socket.s, address), {WSAEFAULT}, "WSPBind of another family");
            return;
        case 2:
            expect(san_.bind(socket.s, address_of(fabric_under_test().foreign, 99)),
                   {created ? WSAEADDRNOTAVAIL : WSAEINVAL}, "WSPBind to a foreign address");
            return;
        default:
            if (expect(san_.bind(socket.s, address), {created ? 0 : WSAEINVAL}, "WSPBind") &&
                created) {
                socket.local = address;
                socket.phase = Phase::kBound;
            }
    }
}

void AdversarialSwitch::do_listen(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    std::vector<int> allowed = by_phase(socket, {WSAEINVAL, 0, 0, WSAEINVAL, WSAEISCONN});
    allow_for_the_end(socket, allowed);
    const int backlog = static_cast<int>(draw.size % 4);
    const int answer = san_.listen(socket.s, backlog);
    if (!expect(answer, allowed, "WSPListen") || answer != 0) {
        return;
    }
    if (socket.phase == Phase::kConnecting) {
        connect_failed(draw.slot);
    }
    socket.phase = Phase::kListening;
    socket.backlog = std::max(backlog, 1);
    judge_backlog(socket);
}

void AdversarialSwitch::do_connect(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    std::vector<int> allowed =
        by_phase(socket, {WSAEINVAL, WSAEWOULDBLOCK, WSAEINVAL, WSAEALREADY, WSAEISCONN});
    allow_for_the_end(socket, allowed);
    ModelSocket& target = sockets_[draw.other];
    const bool somewhere = target.phase == Phase::kListening && draw.other != draw.slot;
    const sockaddr_in address = somewhere ? target.local : fresh_address();
    const int answer = san_.connect(socket.s, address);
    if (!expect(answer, allowed, "WSPConnect") || answer != WSAEWOULDBLOCK) {
        return;
    }
    if (socket.phase == Phase::kConnecting) {
        connect_failed(draw.slot);  // the attempt before this one
    }
    socket.phase = Phase::kConnecting;
    socket.connect_unreported = false;
    socket.may_be_refused = false;
    socket.may_be_reset = !somewhere;
    if (somewhere) {
        target.callers.push_back(draw.slot);
        judge_backlog(target);
    } else {
        settle(draw.slot);
    }
}

void AdversarialSwitch::do_accept(const Draw& draw) {
    ModelSocket& listener = sockets_[draw.slot];
    refresh(draw.slot);
    if (failed_ || listener.phase == Phase::kNone) {
        return;
    }
    const auto place = static_cast<std::size_t>(
        std::find_if(sockets_.begin(), sockets_.end(),
                     [](const ModelSocket& socket) { return socket.phase == Phase::kNone; }) -
        sockets_.begin());
    // The rare answers rarely, and no socket without a place for it.
    static constexpr int kAnswers[] = {CF_ACCEPT, CF_ACCEPT, CF_ACCEPT, CF_ACCEPT,
                                       CF_ACCEPT, CF_REJECT, CF_DEFER,  77};
    int answer = kAnswers[draw.choice % 8];
    if (answer == CF_ACCEPT && place == kSlots) {
        answer = CF_DEFER;
    }
    Condition condition(answer);
    int error = 0;
    sockaddr_in peer{};
    SOCKET s = INVALID_SOCKET;
    const auto call = [&] {
        s = san_.accept(listener.s, &error, Condition::function, condition.data(), &peer);
    };
    call();
    if (listener.phase != Phase::kListening) {
        expect(error, {WSAEINVAL}, "WSPAccept on another socket");
        return;
    }
    const bool certain =
        std::any_of(listener.callers.begin(), listener.callers.end(), [this](std::size_t caller) {
            return !sockets_[caller].may_be_refused && !sockets_[caller].may_be_reset;
        });
    if (error == WSAEWOULDBLOCK && certain) {  // it is on its way
        check(eventually([&] {
                  call();
                  return error != WSAEWOULDBLOCK;
              }),
              "a connection request does not arrive");
    }
    if (error == WSAEWOULDBLOCK) {
        note("WSPAccept, nobody there", error);
        check(condition.calls == 0, "the condition function was asked about nobody");
        return;
    }
    // Who was it?
    const std::string name = text(condition.caller);
    const auto caller =
        std::find_if(listener.callers.begin(), listener.callers.end(),
                     [&](std::size_t slot) { return text(sockets_[slot].local) == name; });
    const auto gone = std::find(listener.withdrawn.begin(), listener.withdrawn.end(), name);
    if (!check(condition.calls != 0, "an answer without asking the condition function") ||
        !check(caller != listener.callers.end() || gone != listener.withdrawn.end(),
               "a connection request of nobody who called")) {
        return;
    }
    check(text(condition.callee) == text(listener.local), "the callee's address is another");
    check(text(peer) == name, "the peer's address is not filled in");
    if (answer == CF_DEFER) {
        expect(error, {WSATRY_AGAIN}, "WSPAccept, deferred");
        return;
    }
    if (caller == listener.callers.end()) {
        listener.withdrawn.erase(gone);
    }
    if (answer != CF_ACCEPT) {
        if (expect(error, {answer == CF_REJECT ? WSAECONNREFUSED : WSAEINVAL},
                   "WSPAccept, refused") &&
            caller != listener.callers.end()) {
            const std::size_t refused = *caller;
            sockets_[refused].may_be_refused = true;
            settle(refused);
        }
        return;
    }
    if (caller == listener.callers.end()) {
        if (!expect(error, {0, WSAECONNRESET, WSAEACCES}, "WSPAccept of a request withdrawn") ||
            error != 0) {
            return;
        }
    } else if (!expect(error, {0}, "WSPAccept")) {
        return;
    }
    auto connection = std::make_shared<Connection>();
    ModelSocket& accepted = sockets_[place];
    accepted = {};
    accepted.s = s;
    accepted.handle = upcalls_.latest_handle();
    if (caller == listener.callers.end()) {
        connection->closed[0] = true;  // the accept has overtaken the withdrawal
        became_connected(place, connection, 1, SIZE_MAX);
        return;
    }
    const std::size_t client = *caller;
    became_connected(place, connection, 1, client);
    check(eventually([&] {
              return san_.connect(sockets_[client].s, address_of(INADDR_ANY, 0)) == WSAEISCONN;
          }),
          "an accepted connect does not end");
    sockets_[client].connect_unreported = true;
    became_connected(client, connection, 0, place);
}

void AdversarialSwitch::became_connected(std::size_t slot, std::shared_ptr<Connection> connection,
                                         int side, std::size_t peer) {
    caller_leaves(slot);
    ModelSocket& socket = sockets_[slot];
    socket.phase = Phase::kConnected;
    socket.connection = std::move(connection);
    socket.side = side;
    socket.peer = peer;
    socket.arena = std::make_unique<Arena>();
    socket.read_only = std::make_unique<Arena>();
    socket.write_only = std::make_unique<Arena>();
    if (peer != SIZE_MAX) {  // else it may end at any moment
        register_arenas(slot);
    }
}

void AdversarialSwitch::register_arenas(std::size_t slot) {
    ModelSocket& socket = sockets_[slot];
    const auto add = [&](Arena& arena, DWORD rights) {
        int error = 0;
        HANDLE handle = san_.register_memory(socket.s, arena.begin(), arena.size(), rights, &error);
        expect(error, {0}, "WSPRegisterMemory on a new connection");
        return handle;
    };
    socket.region = add(*socket.arena, MEM_READWRITE);
    socket.read_only_region = add(*socket.read_only, MEM_READ);
    socket.write_only_region = add(*socket.write_only, MEM_WRITE);
    do_expose({slot, slot, 2, 0, ExposedMemory::kSize / 2});
}

// The whole way at once, so that there are always connections to play with.
void AdversarialSwitch::do_connect_pair(const Draw& draw) {
    std::vector<std::size_t> places;
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
        if (sockets_[slot].phase == Phase::kNone) {
            places.push_back(slot);
        }
    }
    if (places.size() < 3) {
        return;
    }
    const std::size_t listener = places[draw.choice % 3];
    const std::size_t client = places[(draw.choice + 1) % 3];
    const auto step = [&](void (AdversarialSwitch::*call)(const Draw&), const Draw& with) {
        if (!failed_) {
            (this->*call)(with);
        }
    };
    for (const std::size_t slot : {listener, client}) {
        step(&AdversarialSwitch::do_socket, {slot, slot, 1, 0, 0});
        step(&AdversarialSwitch::do_bind, {slot, slot, 7, 0, 0});
    }
    step(&AdversarialSwitch::do_listen, {listener, listener, 0, 3, 0});
    step(&AdversarialSwitch::do_connect, {client, listener, 0, 0, 0});
    step(&AdversarialSwitch::do_accept, {listener, listener, 0, 0, 0});
    step(&AdversarialSwitch::do_close, {listener, listener, 1, 0, 0});
}

void AdversarialSwitch::do_event_select(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    const WSAEVENT event = upcalls_.create_event();
    if (draw.choice % 8 == 0) {
        expect(san_.event_select(socket.s, event, FD_CLOSE | FD_ACCEPT), {WSAEINVAL},
               "WSPEventSelect of other bits");
        expect(san_.event_select(socket.s, nullptr, FD_CONNECT), {WSAEINVAL},
               "WSPEventSelect without an event");
        return;
    }
    static constexpr LONG kMasks[] = {0, FD_ACCEPT, FD_CONNECT, FD_ACCEPT | FD_CONNECT};
    const LONG mask = kMasks[draw.size % 4];
    if (!expect(san_.event_select(socket.s, event, mask), {0}, "WSPEventSelect")) {
        return;
    }
    if (socket.event != nullptr) {
        upcalls_.retire_event(socket.event);  // not to be signalled from here on
    }
    socket.event = mask != 0 ? event : nullptr;
    socket.mask = mask;
    if ((mask & FD_CONNECT) != 0 && socket.connect_unreported) {
        check(upcalls_.signaled(event), "a result that nobody has read is not signalled at once");
    }
}

void AdversarialSwitch::do_enum_events(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    if (draw.choice % 8 == 0) {
        expect(san_.enum_events(socket.s, nullptr, nullptr), {WSAEINVAL},
               "WSPEnumNetworkEvents without a record");
        return;
    }
    WSANETWORKEVENTS events{};
    if (!expect(san_.enum_events(socket.s, socket.event, &events), {0}, "WSPEnumNetworkEvents")) {
        return;
    }
    const bool certain = socket.connect_unreported;
    refresh(draw.slot);  // a connect may have ended in between
    const LONG seen = events.lNetworkEvents;
    check((seen & ~socket.mask) == 0, "an event that is not selected");
    check((seen & FD_ACCEPT) == 0 || socket.phase == Phase::kListening, "FD_ACCEPT of no listener");
    if ((seen & FD_CONNECT) != 0) {
        check(socket.connect_unreported, "FD_CONNECT without a connect that has ended");
        socket.connect_unreported = false;
        const int code = events.iErrorCode[FD_CONNECT_BIT];
        check(socket.phase == Phase::kConnected
                  ? code == 0
                  : (code == WSAECONNREFUSED && socket.may_be_refused) ||
                        (code == WSAECONNRESET && socket.may_be_reset),
              "FD_CONNECT with a code that cannot be");
    } else {
        check(!certain || (socket.mask & FD_CONNECT) == 0, "FD_CONNECT is missing");
    }
}

void AdversarialSwitch::do_close(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone || (draw.choice % 2 == 0 && draw.size % 4 != 0)) {
        return;
    }
    if (!expect(san_.close(socket.s), {0}, "WSPCloseSocket")) {
        return;
    }
    expect(san_.close(socket.s), {WSAENOTSOCK}, "a second WSPCloseSocket");
    if (socket.event != nullptr) {
        upcalls_.retire_event(socket.event);
    }
    stale_.push_back(socket.s);
    if (socket.phase == Phase::kConnected) {
        socket.connection->closed[socket.side] = true;
        harvest(draw.slot, true);
        if (failed_) {
            return;
        }
        check(socket.sends.empty() && socket.receives.empty(),
              "an operation is pending after WSPCloseSocket");
        socket.connection->memory[socket.side].freeze(0, ExposedMemory::kSize);
        check_memory(*socket.connection);
        if (socket.peer != SIZE_MAX) {
            sockets_[socket.peer].peer = SIZE_MAX;
        }
    }
    if (socket.phase == Phase::kConnecting) {
        for (ModelSocket& listener : sockets_) {
            if (std::erase(listener.callers, draw.slot) != 0) {
                listener.withdrawn.push_back(text(socket.local));
                judge_backlog(listener);
            }
        }
    }
    const std::vector<std::size_t> callers = std::exchange(socket.callers, {});
    socket = {};
    for (const std::size_t caller : callers) {
        sockets_[caller].may_be_refused = true;
        sockets_[caller].may_be_reset = true;
        settle(caller);
    }
}

void AdversarialSwitch::do_stale(const Draw& draw) {
    const SOCKET s = stale_.empty() || draw.choice % 16 == 0 ? static_cast<SOCKET>(INVALID_SOCKET)
                                                             : stale_[draw.size % stale_.size()];
    char byte = 0;
    int error = 0;
    Operation operation;
    WSANETWORKEVENTS events{};
    switch (draw.more % 12) {
        case 0:
            error = san_.bind(s, fresh_address());
            break;
        case 1:
            error = san_.listen(s, 1);
            break;
        case 2:
            error = san_.connect(s, fresh_address());
            break;
        case 3:
            (void)san_.accept(s, &error);
            break;
        case 4:
            error = san_.event_select(s, nullptr, 0);
            break;
        case 5:
            error = san_.enum_events(s, nullptr, &events);
            break;
        case 6:
            error = san_.close(s);
            break;
        case 7:
            error = san_.send(s, &byte, 1, &operation);
            break;
        case 8:
            error = san_.recv(s, &byte, 1, &operation);
            break;
        case 9:
            error = san_.overlapped_result(s, &operation, 0).error;
            break;
        case 10:
            (void)san_.register_memory(s, &byte, 1, MEM_READ, &error);
            break;
        default:
            error = san_.deregister_memory(s, &byte);
            break;
    }
    expect(error, {WSAENOTSOCK}, "a call with a descriptor that is none");
}

// Calls that mean the same in every state, and change nothing.
void AdversarialSwitch::do_nonsense(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase == Phase::kNone) {
        return;
    }
    sockaddr_in address = fresh_address();
    DWORD returned = 0;
    INT value = 1;
    INT length = sizeof(value);
    auto* const bytes = reinterpret_cast<char*>(&value);
    switch (draw.choice % 8) {
        case 0:
            address.sin_family = 1;
            expect(san_.connect(socket.s, address), {WSAEAFNOSUPPORT}, "WSPConnect of a family");
            break;
        case 1:
            expect(san_.ioctl(socket.s, 0x48001234U, nullptr, 0, nullptr, 0, &returned),
                   {WSAEINVAL}, "WSPIoctl of an unknown code");
            break;
        case 2:
            expect(san_.ioctl(socket.s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned),
                   {WSAEFAULT}, "WSPIoctl without room");
            break;
        case 3:
            expect(san_.get_option(socket.s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, bytes, &length), {0},
                   "WSPGetSockOpt");
            break;
        case 4:
            expect(san_.get_option(socket.s, 77, SO_MAX_MSG_SIZE, bytes, &length), {WSAEINVAL},
                   "WSPGetSockOpt of an unknown level");
            break;
        case 5:
            expect(san_.set_option(socket.s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, bytes, length),
                   {WSAENOPROTOOPT}, "WSPSetSockOpt of an option that is only read");
            break;
        case 6:
            expect(san_.deregister_memory(socket.s, this), {WSAEINVAL}, "WSPDeregisterMemory");
            break;
        default:
            expect(san_.qos_by_name(socket.s, nullptr, nullptr), {WSAEOPNOTSUPP},
                   "WSPGetQOSByName");
    }
}

}  // namespace sanpoll::conformance

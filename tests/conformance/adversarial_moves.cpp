// The adversarial switch gives connections away, to this very process, and takes them back.
#include <unistd.h>

#include <algorithm>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {

void AdversarialSwitch::do_duplicate(const Draw& draw) {
    harvest(draw.slot);
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    const auto own = static_cast<DWORD>(::getpid());
    WSAPROTOCOL_INFOW info{};
    if (draw.choice % 4 == 0 || socket.phase == Phase::kListening) {
        expect(san_.duplicate(socket.s, 0x7FFFFFFF, &info), {WSAEINVAL},
               "WSPDuplicateSocket for nobody");
        expect(san_.duplicate(socket.s, own, nullptr), {WSAEINVAL},
               "WSPDuplicateSocket without a place for the token");
        return;
    }
    if (socket.phase != Phase::kConnected) {
        expect(san_.duplicate(socket.s, own, &info), {WSAEINVAL}, "WSPDuplicateSocket");
        return;
    }
    if (socket.broken != 0) {
        expect(san_.duplicate(socket.s, own, &info), {WSAENOTCONN}, "WSPDuplicateSocket, broken");
        return;
    }
    // The switches let their sends and RDMA finish first. An empty message could not be told from the
    // empty completion of a receive, and a connection that is ending may end on the way.
    const bool empty_message =
        std::any_of(socket.incoming().begin(), socket.incoming().end(),
                    [](const Message& message) { return message.length == 0; });
    if (!socket.sends.empty() || !socket.connection->rdma[1 - socket.side].empty() ||
        empty_message || !socket.stands()) {
        return;
    }
    if (!fabric_under_test().moves_sockets) {
        expect(san_.duplicate(socket.s, own, &info), {WSAENETDOWN},
               "WSPDuplicateSocket where sockets do not move");
        return;
    }
    int answer = san_.duplicate(socket.s, own, &info);
    if (answer == WSAEINVAL) {
        // RDMA has ended for the peer; that it has is on its way to here. Switches would have told each
        // other by a message, and that comes after it.
        check(eventually([&] {
                  answer = san_.duplicate(socket.s, own, &info);
                  return answer != WSAEINVAL;
              }),
              "RDMA of the peer's does not end");
    }
    if (!expect(answer, {0}, "WSPDuplicateSocket")) {
        return;
    }
    check(info.dwProviderReserved != 0, "a token that is 0");
    while (!failed_ && !socket.receives.empty()) {
        Operation& operation = *socket.receives.front();
        if (!check(operation.done(), "a receive is pending after WSPDuplicateSocket")) {
            return;
        }
        if (operation.error() == 0 && operation.bytes() == 0) {
            check(socket.arena->intact(operation.block, operation.length),
                  "a receive was written beside");
        } else {
            harvest_receive(socket, operation, false);
        }
        socket.arena->give_back(operation.block);
        std::unique_ptr<Operation> buried = std::move(socket.receives.front());
        socket.receives.pop_front();
        bury(std::move(buried));
    }
    Operation refused;
    expect(san_.send(socket.s, socket.arena->begin(), 8, &refused), {WSAENOTCONN},
           "WSPSend on a socket that is away");
    WSABUFEX buffer{8, socket.arena->begin(), socket.region};
    expect(san_.rdma_write(socket.s, &buffer, 0, nullptr, 0, 0, &refused), {WSAENOTCONN},
           "WSPRdmaWrite on a socket that is away");
    conceal_all(socket);
    take_back(draw.slot, info, draw.choice % 2 == 0);
}

void AdversarialSwitch::take_back(std::size_t slot, WSAPROTOCOL_INFOW& info, bool close_first) {
    ModelSocket& socket = sockets_[slot];
    const SOCKET old = socket.s;
    const auto close_old = [&] {
        expect(san_.close(old), {0}, "WSPCloseSocket of the old descriptor");
        stale_.push_back(old);
    };
    if (socket.event != nullptr) {  // registrations do not move
        upcalls_.retire_event(std::exchange(socket.event, nullptr));
    }
    socket.mask = 0;
    socket.connect_unreported = false;
    if (close_first) {
        close_old();
    }
    int error = 0;
    const SOCKET s = san_.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
    if (!expect(error, {0}, "WSPSocket with a token")) {
        return;
    }
    if (s != old) {
        socket.handle = upcalls_.latest_handle();
        socket.s = s;
        if (!close_first) {
            close_old();
        }
    }
    (void)san_.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
    expect(error, {WSAEINVAL}, "WSPSocket with a token that was used");
    register_arenas(slot);
}

}  // namespace sanpoll::conformance

// The adversarial switch's transfers, and how their results are checked.
#include <algorithm>
#include <cstring>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {

void AdversarialSwitch::do_register(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    int error = 0;
    if (socket.phase != Phase::kConnected) {
        char byte = 0;
        (void)san_.register_memory(socket.s, &byte, 1, MEM_READ, &error);
        expect(error, {WSAENOTCONN}, "WSPRegisterMemory without a connection");
        return;
    }
    if (draw.choice % 4 == 0) {
        (void)san_.register_memory(socket.s, socket.arena->begin(), 8, 4 + draw.size % 99, &error);
        expect(error, {WSAEINVAL}, "WSPRegisterMemory with bad rights");
        return;
    }
    HANDLE handle = san_.register_memory(socket.s, socket.arena->begin(), socket.arena->size(),
                                         MEM_READWRITE, &error);
    if (!expect(error, socket.or_not_connected(0), "WSPRegisterMemory") || error != 0) {
        return;
    }
    if (socket.region != nullptr) {  // one is enough; the second one is in nobody's way
        expect(san_.deregister_memory(socket.s, handle),
               socket.sends.empty() && socket.receives.empty() ? std::vector<int>{0}
                                                               : std::vector<int>{0, WSAEINVAL},
               "WSPDeregisterMemory of a second registration");
        return;
    }
    socket.region = handle;
}

void AdversarialSwitch::do_deregister(const Draw& draw) {
    harvest(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase != Phase::kConnected || socket.region == nullptr) {
        return;
    }
    ModelSocket& other = sockets_[draw.other];
    if (draw.choice % 3 == 0) {
        if (other.phase == Phase::kConnected && draw.other != draw.slot) {
            expect(san_.deregister_memory(other.s, socket.region), {WSAEINVAL},
                   "WSPDeregisterMemory on another socket");
        }
        return;
    }
    std::vector<int> allowed{0, WSAEINVAL};
    if (socket.sends.empty() && socket.receives.empty()) {
        allowed = {0};
    } else if (!socket.receives.empty() && socket.incoming().empty() && socket.stands() &&
               socket.receives.front()->length != 0) {
        allowed = {WSAEINVAL};  // nothing can have come: that receive is pending and holds it
    }
    const int answer = san_.deregister_memory(socket.s, socket.region);
    if (!expect(answer, allowed, "WSPDeregisterMemory") || answer != 0) {
        return;
    }
    socket.region = nullptr;
    // Nothing that was using it is pending; what is told by upcall may be on its way.
    const auto uses_memory = [](const auto& operation) { return operation->length != 0; };
    check(eventually([&] {
              harvest(draw.slot);
              return failed_ ||
                     (std::none_of(socket.sends.begin(), socket.sends.end(), uses_memory) &&
                      std::none_of(socket.receives.begin(), socket.receives.end(), uses_memory));
          }),
          "memory was deregistered while a transfer used it");
}

void AdversarialSwitch::transfer(const Draw& draw, bool is_send) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    if (socket.phase != Phase::kConnected) {
        Operation operation;
        char byte = 0;
        expect(is_send ? san_.send(socket.s, &byte, 1, &operation)
                       : san_.recv(socket.s, &byte, 1, &operation),
               {WSAENOTCONN}, is_send ? "WSPSend unconnected" : "WSPRecv unconnected");
        return;
    }
    auto& pending = is_send ? socket.sends : socket.receives;
    if (pending.size() >= 10) {
        harvest(draw.slot);
        return;
    }
    const std::size_t block = socket.arena->take();
    if (failed_ || block == Arena::kBlocks) {
        return;
    }
    static constexpr std::size_t kMost[] = {1, 60, 70, 600, Arena::kBlock, Arena::kBlock};
    auto operation = std::make_unique<Operation>();
    operation->is_send = is_send;
    operation->notified = draw.choice / 16 % 2 != 0;
    operation->hEvent =
        reinterpret_cast<WSAEVENT>(operation->notified ? draw.more * 2UL : draw.more * 2UL + 1);
    operation->block = block;
    // Receives are mostly long enough.
    operation->length =
        is_send || draw.choice % 8 == 0 ? draw.size % (kMost[draw.choice % 6] + 1) : Arena::kBlock;
    if (is_send) {
        operation->message = next_message_++;
        fill_pattern(socket.arena->block(block), operation->length, operation->message);
    }
    const std::vector<int> allowed = socket.or_the_end(
        socket.region == nullptr && operation->length != 0 ? WSAEFAULT : WSA_IO_PENDING);
    // Two pieces now and then, with an empty one between them.
    const auto first = static_cast<ULONG>(operation->length / 3);
    const auto rest = static_cast<ULONG>(operation->length - first);
    char* const at = socket.arena->block(block);
    WSABUF pieces[3] = {{first, at}, {0, nullptr}, {rest, at + first}};
    WSABUF whole{static_cast<ULONG>(operation->length), at};
    const bool cut = draw.choice / 32 % 4 == 0;
    const int answer =
        is_send ? san_.send_list(socket.s, cut ? pieces : &whole, cut ? 3 : 1, operation.get())
                : san_.recv_list(socket.s, cut ? pieces : &whole, cut ? 3 : 1, operation.get());
    if (!expect(answer, allowed, is_send ? "WSPSend" : "WSPRecv")) {
        pending.push_back(std::move(operation));  // whatever it is, it must stay in memory
        return;
    }
    if (answer == WSA_IO_PENDING) {
        if (is_send) {
            socket.outgoing().push_back({operation->message, operation->length, false,
                                         operation.get(), behind_doomed(socket)});
        }
        pending.push_back(std::move(operation));
        return;
    }
    socket.arena->give_back(block);
    refused(draw.slot, answer);
}

// A call was refused, perhaps because the connection has ended.
void AdversarialSwitch::refused(std::size_t slot, int answer) {
    ModelSocket& socket = sockets_[slot];
    if ((answer != WSAECONNRESET && answer != WSAECONNABORTED) || socket.broken != 0) {
        return;
    }
    // Nothing more comes, so what has come must be there.
    check(eventually([&] {
              harvest(slot);
              return failed_ || (socket.receives.empty() && socket.sends.empty());
          }),
          "operations are pending on a connection that has ended");
    connection_seen_broken(socket, answer);
}

void AdversarialSwitch::do_bad_transfer(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase != Phase::kConnected) {
        return;
    }
    Operation operation;
    char outside[16] = {};
    const bool is_send = draw.more % 2 != 0;
    WSABUF buffer{8, socket.arena->block(0)};
    LPWSAOVERLAPPED overlapped = &operation;
    DWORD flags = 0;
    DWORD count = 1;
    int code = WSAEFAULT;
    switch (draw.choice % 6) {
        case 0:
            buffer.buf = outside;
            break;
        case 1:
            buffer.buf = is_send ? socket.write_only->begin() : socket.read_only->begin();
            break;
        case 2:
            buffer = {8, socket.arena->begin() + socket.arena->size() - 4};
            break;
        case 3:
            flags = WSP_MSG_OOB;
            code = WSAEOPNOTSUPP;
            break;
        case 4:
            overlapped = nullptr;
            code = WSAEINVAL;
            break;
        default:
            count = 100000;
            code = WSAEINVAL;
    }
    const int answer = is_send ? san_.send_list(socket.s, &buffer, count, overlapped, flags)
                               : san_.recv_list(socket.s, &buffer, count, overlapped, flags);
    expect(answer, socket.or_the_end(code), is_send ? "a bad WSPSend" : "a bad WSPRecv");
    check(operation.Internal == 0, "a refused operation says that it is in progress");
}

void AdversarialSwitch::do_result(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase != Phase::kConnected) {
        return;
    }
    auto& pending = draw.choice % 2 == 0 ? socket.sends : socket.receives;
    if (pending.empty()) {
        return;
    }
    Operation& operation = *pending[draw.size % pending.size()];
    const Result result = san_.overlapped_result(socket.s, &operation, 0);
    note("WSPGetOverlappedResult", result.error);
    if (result.error == WSA_IO_INCOMPLETE) {
        return;
    }
    // Told by upcall, it may be seen here first, inside the upcall.
    check(eventually([&] { return operation.done(); }), "a result without a completion");
    check(result.error == operation.error(), "two errors of one operation");
    check(result.error != 0 || result.bytes == operation.bytes(), "two lengths of one operation");
    check(result.error != 0 || result.flags == 0, "flags of an operation that has none");
}

void AdversarialSwitch::do_harvest(const Draw& draw) { harvest(draw.slot); }

// Among operations of one kind, what is done has everything before it done.
void AdversarialSwitch::check_order(ModelSocket& socket) {
    for (auto* pending : {&socket.sends, &socket.receives}) {
        bool later_done[2] = {false, false};
        for (auto at = pending->rbegin(); at != pending->rend(); ++at) {
            const bool done = (*at)->done();
            check(done || !later_done[(*at)->notified ? 1 : 0], "completions out of order");
            later_done[(*at)->notified ? 1 : 0] |= done;
        }
    }
}

void AdversarialSwitch::harvest(std::size_t slot, bool closed_here) {
    ModelSocket& socket = sockets_[slot];
    if (socket.phase != Phase::kConnected) {
        return;
    }
    if (!closed_here) {
        // Drives a provider that works inside its calls.
        for (auto* pending : {&socket.sends, &socket.receives}) {
            if (!pending->empty()) {
                (void)san_.overlapped_result(socket.s, pending->front().get(), 0);
            }
        }
    }
    check_order(socket);
    // Sends first: a message that was received may have been sent by an operation that is pending still.
    for (const bool sends : {true, false}) {
        auto& pending = sends ? socket.sends : socket.receives;
        while (!failed_ && !pending.empty()) {
            Operation& operation = *pending.front();
            if (closed_here) {
                check(eventually([&] { return operation.done(); }),
                      "an operation does not complete although its socket is closed");
            }
            if (failed_ || !operation.done()) {
                break;
            }
            if (operation.notified) {
                check(operation.upcall_handle == socket.handle, "an upcall with another handle");
                std::uint64_t& last = socket.last_upcall[sends ? 1 : 0];
                check(operation.upcall_number > last, "upcalls out of order");
                last = operation.upcall_number;
            }
            sends ? harvest_send(socket, operation, closed_here)
                  : harvest_receive(socket, operation, closed_here);
            socket.arena->give_back(operation.block);
            std::unique_ptr<Operation> buried = std::move(pending.front());
            pending.pop_front();
            bury(std::move(buried));
        }
    }
}

void AdversarialSwitch::harvest_send(ModelSocket& socket, Operation& operation, bool closed_here) {
    const int error = operation.error();
    note(operation.rdma == nullptr ? "a send completes"
         : operation.rdma->write   ? "an RDMA write completes"
                                   : "an RDMA read completes",
         error);
    check(error != 0 || !socket.send_failed, "a success after a failure");
    if (error == 0) {
        check(operation.bytes() == operation.length, "another length than was posted");
    } else {
        socket.send_failed = true;
        check(operation.bytes() == 0, "bytes of a failed send");
        check((error == WSA_OPERATION_ABORTED && closed_here) ||
                  ((error == WSAECONNRESET || error == WSAECONNABORTED) && socket.peer_closed()) ||
                  (error == WSAECONNABORTED && socket.connection->may_have_failed()) ||
                  (error == WSAECONNRESET && socket.may_look_reset()),
              "a send fails without a reason");
    }
    if (operation.rdma != nullptr) {
        harvest_rdma(socket, operation);
        return;
    }
    auto& outgoing = socket.outgoing();
    const auto message = std::find_if(outgoing.begin(), outgoing.end(), [&](const Message& sent) {
        return sent.number == operation.message;
    });
    if (message != outgoing.end()) {
        message->send = nullptr;
        message->send_completed = error == 0;
    }
    char* const at = socket.arena->block(operation.block);
    check(has_pattern(at, operation.length, operation.message), "a send has changed its buffer");
    check(socket.arena->intact(operation.block, operation.length), "a send has written");
    std::memset(at, 0xEE, operation.length);  // who reads it from now on reads nonsense
}

void AdversarialSwitch::harvest_receive(ModelSocket& socket, Operation& operation,
                                        bool closed_here) {
    const int error = operation.error();
    note("a receive completes", error);
    auto& incoming = socket.incoming();
    char* const at = socket.arena->block(operation.block);
    if (error != 0) {
        check(operation.bytes() == 0, "bytes of a failed receive");
        check(socket.arena->intact(operation.block, operation.length),
              "a failed receive has written beside its buffer");
    }
    switch (error) {
        case 0: {
            if (!check(!incoming.empty(), "a message that nobody has sent")) {
                return;
            }
            const Message message = incoming.front();
            incoming.pop_front();
            ++delivered_;
            check(!message.doomed, "a message has overtaken RDMA that must be refused");
            check_written_before(socket, message.number);
            check(operation.bytes() == message.length, "a message of another length");
            check(message.length <= operation.length, "a message longer than its receive");
            check(has_pattern(at, std::min(message.length, operation.length), message.number),
                  "a message with other contents");
            check(socket.arena->intact(operation.block, message.length),
                  "bytes were written beside the message");
            return;
        }
        case WSAEMSGSIZE:
            check(!incoming.empty() && incoming.front().length > operation.length,
                  "WSAEMSGSIZE of a message that fits");
            return;
        case WSA_OPERATION_ABORTED:
            check(closed_here, "a receive is aborted although its socket is open");
            return;
        case WSAECONNRESET:
        case WSAECONNABORTED: {
            const std::vector<int> ends = socket.ends();
            check(std::find(ends.begin(), ends.end(), error) != ends.end(),
                  "a receive fails with another error than the connection's");
            connection_seen_broken(socket, error);
            return;
        }
        default:
            fail("a receive completes with " + std::to_string(error));
    }
}

// From here on no receive gets anything: what was sent with success must have been received.
void AdversarialSwitch::connection_seen_broken(ModelSocket& socket, int error) {
    socket.broken = error;
    ExposedMemory& memory = socket.connection->memory[socket.side];
    memory.freeze(0, ExposedMemory::kSize);
    if (fabric_under_test().has_devices && socket.connection->may_have_failed()) {
        // A send ends when its bytes may be used again: they have been copied, or given to TCP. A refusal ends
        // the connection without waiting for what is under way; only before an orderly end has all of it arrived.
        return;
    }
    for (const Message& message : socket.incoming()) {
        check(!message.send_completed, "a message whose send had completed is lost");
    }
}

}  // namespace sanpoll::conformance

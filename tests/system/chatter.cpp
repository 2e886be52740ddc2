#include "tests/system/chatter.hpp"

#include <cstring>

#include "tests/system/mixed_message.hpp"

namespace sanpoll::system_test {
namespace {

constexpr ULONG_PTR kLeftBehind = 0x5A5A5A5A;  // in a structure that nobody may write to any more
constexpr DWORD kNap = 200;                    // milliseconds between looks at the deadline

void leave_mark(WSAOVERLAPPED& overlapped) noexcept {
    overlapped.Internal = kLeftBehind;
    overlapped.InternalHigh = kLeftBehind;
}

static_assert(Chatter::kReceives + Chatter::kSends <= sanpoll_switch::WSA_MAXIMUM_WAIT_EVENTS);

std::uint32_t length_of(std::uint64_t number) noexcept {
    const std::uint64_t dice = mixed(number);
    return dice % 64 == 0 ? Chatter::kLongest : 8 + static_cast<std::uint32_t>((dice >> 8) % 8000);
}

}  // namespace

Chatter::Chatter(const Provider& provider, ProviderSocket socket, Told told, bool talks)
    : provider_(provider),
      socket_(socket),
      told_(told),
      talks_(talks),
      memory_(std::size_t{kLongest} * (kReceives + kSends)),
      operations_(kReceives + (talks ? kSends : 0)) {
    register_memory(provider_, socket_.descriptor, memory_.data(), memory_.size(), MEM_READWRITE);
    if (told_ == Told::kByPort) {
        port_ = sanpoll_switch::CreateIoCompletionPort(
            sanpoll_switch::as_handle(socket_.switch_handle), nullptr, 0, 0);
    }
    for (std::size_t i = 0; i < operations_.size(); ++i) {
        Operation& operation = operations_[i];
        operation.buffer = memory_.data() + i * kLongest;
        operation.sends = i >= kReceives;
        if (told_ == Told::kByEvent) {
            events_.push_back(std::make_unique<Event>());
        }
        operation.overlapped.hEvent = event_of(i);
        leave_mark(operation.overlapped);
    }
}

Chatter::~Chatter() {
    provider_.close(socket_.descriptor);
    if (port_ != nullptr) {
        sanpoll_switch::CloseHandle(port_);
    }
}

WSAEVENT Chatter::event_of(std::size_t index) const {
    switch (told_) {
        case Told::kPolled:
            return kPolled;
        case Told::kByPort:
            return nullptr;
        case Told::kByEvent:
            break;
    }
    return events_[index]->handle();
}

void Chatter::accuse(const std::string& fault) {
    if (fault_.empty()) {
        fault_ = fault;
    }
}

void Chatter::start() {
    for (Operation& operation : operations_) {
        post(operation);
    }
}

void Chatter::post(Operation& operation) {
    if (broken_) {
        return;
    }
    operation.length = kLongest;
    if (operation.sends) {
        operation.length = length_of(sent_);
        std::memcpy(operation.buffer, &sent_, sizeof(sent_));
    }
    operation.pending = true;
    ++pending_;
    WSABUF buffer{operation.length, operation.buffer};
    const int error =
        operation.sends
            ? post_send(provider_, socket_.descriptor, &buffer, 1, &operation.overlapped)
            : post_receive(provider_, socket_.descriptor, &buffer, 1, &operation.overlapped);
    if (error == 0) {
        sent_ += operation.sends ? 1 : 0;
        return;
    }
    retire(operation);
    broken_ = true;
    if (error != WSAECONNRESET) {
        accuse("a post was refused with " + sanpoll_switch::wsa_error_name(error));
    }
    end_ = std::chrono::steady_clock::now();
}

void Chatter::take(Operation& operation, const Result& result) {
    if (!operation.pending) {
        accuse("an operation completed that was not pending");
        return;
    }
    retire(operation);
    (operation.sends ? sends_taken_ : receives_taken_) += 1;
    end_ = std::chrono::steady_clock::now();
    if (result.error == WSAECONNRESET) {
        ++resets_;
        broken_ = true;
        receive_was_reset_ |= !operation.sends;
    } else if (result.error != 0) {
        accuse("an operation ended with " + sanpoll_switch::wsa_error_name(result.error));
        broken_ = true;
    } else if (!operation.sends) {
        std::uint64_t number = 0;
        std::memcpy(&number, operation.buffer, sizeof(number));
        if (number != received_ || result.bytes != length_of(number)) {
            accuse("message " + std::to_string(received_) + " is message " +
                   std::to_string(number) + " with " + std::to_string(result.bytes) + " bytes");
        }
        ++received_;
    }
}

void Chatter::retire(Operation& operation) noexcept {
    operation.pending = false;
    --pending_;
    leave_mark(operation.overlapped);
}

Chatter::Operation& Chatter::oldest_receive() noexcept {
    return operations_[receives_taken_ % kReceives];
}

Chatter::Operation& Chatter::oldest_send() noexcept {
    return operations_[kReceives + sends_taken_ % kSends];
}

// Receives end in the order in which they were posted, and so do sends: only the oldest is looked at.
bool Chatter::poll() {
    bool progress = false;
    const auto look_at = [&](Operation& operation) {
        if (!operation.pending) {
            return false;
        }
        const auto result = result_of(provider_, socket_.descriptor, &operation.overlapped);
        if (!result) {
            return false;
        }
        take(operation, *result);
        post(operation);
        progress = true;
        return true;
    };
    for (std::uint32_t i = 0; i < kReceives && look_at(oldest_receive()); ++i) {
    }
    for (std::uint32_t i = 0; i < kSends && talks_ && look_at(oldest_send()); ++i) {
    }
    return progress;
}

void Chatter::take_from_port(DWORD milliseconds) {
    sanpoll_switch::OVERLAPPED_ENTRY entries[kReceives + kSends];
    ULONG count = 0;
    if (!sanpoll_switch::GetQueuedCompletionStatusEx(port_, entries, kReceives + kSends, &count,
                                                     milliseconds, FALSE)) {
        return;
    }
    for (ULONG i = 0; i < count; ++i) {
        auto& operation = *reinterpret_cast<Operation*>(entries[i].lpOverlapped);
        if (operation.pending && operation.overlapped.Internal == WSS_OPERATION_IN_PROGRESS) {
            accuse("a notification came before the result");
        }
        take(operation,
             {static_cast<int>(entries[i].Internal), entries[i].dwNumberOfBytesTransferred});
        post(operation);
    }
}

void Chatter::take_from_events(DWORD milliseconds) {
    WSAEVENT handles[kReceives + kSends];
    for (std::size_t i = 0; i < operations_.size(); ++i) {
        handles[i] = events_[i]->handle();
    }
    const auto count = static_cast<DWORD>(operations_.size());
    const DWORD answer =
        sanpoll_switch::WSAWaitForMultipleEvents(count, handles, FALSE, milliseconds, FALSE);
    if (answer >= count) {
        return;  // time over
    }
    // The lowest signalled one is not always the oldest; they are looked at in posting order.
    const auto look_at = [&](Operation& operation, WSAEVENT event) {
        if (!operation.pending ||
            sanpoll_switch::WSAWaitForMultipleEvents(1, &event, FALSE, 0, FALSE) !=
                sanpoll_switch::WSA_WAIT_EVENT_0) {
            return false;
        }
        sanpoll_switch::WSAResetEvent(event);
        const auto result = result_of(provider_, socket_.descriptor, &operation.overlapped);
        if (!result) {
            accuse("an event was set before the result was there");
            return false;
        }
        take(operation, *result);
        post(operation);
        return true;
    };
    const auto index_of = [this](const Operation& operation) {
        return static_cast<std::size_t>(&operation - operations_.data());
    };
    while (look_at(oldest_receive(), handles[index_of(oldest_receive())])) {
    }
    while (talks_ && look_at(oldest_send(), handles[index_of(oldest_send())])) {
    }
}

void Chatter::sleep_until_end(std::chrono::steady_clock::time_point deadline) {
    while (!ended() && std::chrono::steady_clock::now() < deadline) {
        switch (told_) {
            case Told::kPolled: {
                Operation& next = oldest_receive().pending ? oldest_receive() : oldest_send();
                take(next,
                     *result_of(provider_, socket_.descriptor, &next.overlapped, /*wait=*/true));
                post(next);
                break;
            }
            case Told::kByPort:
                take_from_port(kNap);
                break;
            case Told::kByEvent:
                take_from_events(kNap);
                break;
        }
    }
}

void Chatter::check_after_end() {
    for (Operation& operation : operations_) {
        if (operation.overlapped.Internal != kLeftBehind ||
            operation.overlapped.InternalHigh != kLeftBehind) {
            accuse("an operation was completed twice, or never");
        }
    }
    if (told_ == Told::kByPort) {
        take_from_port(0);  // whatever comes is not pending, hence a fault
    }
    for (const auto& event : events_) {
        const WSAEVENT handle = event->handle();
        if (sanpoll_switch::WSAWaitForMultipleEvents(1, &handle, FALSE, 0, FALSE) ==
            sanpoll_switch::WSA_WAIT_EVENT_0) {
            accuse("an event was set once more");
        }
    }
    // Messages that had come before may still be fetched, but not after a receive has been reset.
    for (const bool sends : {true, false}) {
        for (bool refused = false; !refused && fault_.empty();) {
            refused = !post_late(sends);
        }
    }
}

bool Chatter::post_late(bool sends) {
    WSAOVERLAPPED late{};
    late.hEvent = kPolled;
    WSABUF buffer{kLongest, memory_.data()};
    const int error = sends ? post_send(provider_, socket_.descriptor, &buffer, 1, &late)
                            : post_receive(provider_, socket_.descriptor, &buffer, 1, &late);
    if (error != 0) {
        if (error != WSAECONNRESET) {
            accuse("a post after the end was refused with " +
                   sanpoll_switch::wsa_error_name(error));
        }
        return false;
    }
    const Result result = *result_of(provider_, socket_.descriptor, &late, /*wait=*/true);
    if (receive_was_reset_) {
        accuse("a post was taken although a receive had been reset; it ended with " +
               sanpoll_switch::wsa_error_name(result.error));
    } else if (result.error != WSAECONNRESET && (sends || result.error != 0)) {
        accuse("a post after the end ended with " + sanpoll_switch::wsa_error_name(result.error));
    }
    return true;
}

}  // namespace sanpoll::system_test

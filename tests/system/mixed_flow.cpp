#include "tests/system/mixed_flow.hpp"

#include <algorithm>
#include <stdexcept>

namespace sanpoll::system_test {
namespace {

constexpr std::uint64_t kPaceLength = 64;  // messages until a window or a depth changes
constexpr std::byte kGuardByte{0xA5};

bool notified_by(Telling telling, std::uint64_t dice) noexcept {
    return telling == Telling::kNotified || (telling == Telling::kBoth && dice % 4 == 0);
}

// Cuts [0, length) at random places into `count` pieces, of which some may be empty.
std::vector<std::uint32_t>& cuts(std::uint32_t length, std::uint32_t count, std::uint64_t dice) {
    static thread_local std::vector<std::uint32_t> places;
    places.assign(1, 0);
    for (std::uint32_t i = 1; i < count; ++i) {
        places.push_back(static_cast<std::uint32_t>(mixed(dice + i) % (std::uint64_t{length} + 1)));
    }
    places.push_back(length);
    std::sort(places.begin(), places.end());
    return places;
}

WSABUF piece(std::byte* data, std::uint32_t length) noexcept {
    return {length, reinterpret_cast<CHAR*>(data)};
}

// Most messages go in one piece, as a switch sends them.
std::uint32_t piece_count(std::uint64_t dice) noexcept {
    const auto roll = static_cast<std::uint32_t>(dice >> 24) % 16;
    return roll < 9 ? 1 : roll - 7;  // 1, or 2 to 8
}

}  // namespace

// ---- operation --------------------------------------------------------------------------------------

void Operation::prepare(bool notified) {
    if (state_.load(std::memory_order_acquire) != State::kIdle ||
        overlapped.Internal != kLeftBehind || overlapped.InternalHigh != kLeftBehind ||
        overlapped.OffsetHigh != kLeftBehind) {
        throw std::runtime_error("an operation was completed twice");
    }
    overlapped.Internal = 0;
    overlapped.hEvent = notified ? nullptr : kPolled;
    state_.store(notified ? State::kToBeNotified : State::kPolled, std::memory_order_release);
}

void Operation::withdraw() noexcept { retire(); }

std::optional<Result> Operation::collect(const Provider& provider, SOCKET socket) noexcept {
    if (state_.load(std::memory_order_acquire) == State::kToBeNotified) {
        // Turns the core, as a caller that has nothing else to do may.
        (void)result_of(provider, socket, &overlapped);
        return std::nullopt;
    }
    return result_of(provider, socket, &overlapped);
}

void Operation::retire() noexcept {
    overlapped.Internal = kLeftBehind;
    overlapped.InternalHigh = kLeftBehind;
    overlapped.OffsetHigh = kLeftBehind;
    state_.store(State::kIdle, std::memory_order_release);
}

void Operation::notified(const sanpoll_switch::OVERLAPPED_ENTRY& entry) {
    auto* operation = reinterpret_cast<Operation*>(entry.lpOverlapped);
    if (operation->state_.exchange(State::kNotified, std::memory_order_acq_rel) !=
        State::kToBeNotified) {
        throw std::runtime_error("a notification came for an operation that expects none");
    }
}

// ---- sending ----------------------------------------------------------------------------------------

SendFlow::SendFlow(const FlowPlan& plan) : plan_(plan), memory_(kMostPending * kCopied) {
    for (std::uint32_t i = 0; i < kMostPending; ++i) {
        operations_.push_back(std::make_unique<Operation>());
    }
    register_memory(*plan_.provider, plan_.socket, memory_.data(), memory_.size(), MEM_READ);
    register_memory(*plan_.provider, plan_.socket, plan_.pool->data(), plan_.pool->bytes(),
                    MEM_READ);
}

std::uint32_t SendFlow::fill(Operation& operation, const Message& message, std::byte* copy) {
    const std::uint64_t dice = plan_.stream.dice(posted_);
    std::uint32_t count = piece_count(dice);
    const std::uint64_t head = message.head(plan_.pool->data());
    std::byte* body = plan_.pool->data() + message.offset;
    std::memcpy(copy, &head, sizeof(head));
    if (message.length <= kCopied) {
        if (message.has_checksum()) {
            std::memcpy(copy + kChecksumBytes, body, message.body());
        }
        if (message.length == 0 && count == 1) {
            return 0;  // no piece at all
        }
        const auto& places = cuts(message.length, count, dice);
        for (std::uint32_t i = 0; i < count; ++i) {
            operation.pieces[i] = piece(copy + places[i], places[i + 1] - places[i]);
        }
        return count;
    }
    count = std::max(count, 2U);
    operation.pieces[0] = piece(copy, kChecksumBytes);
    const auto& places = cuts(message.body(), count - 1, dice);
    for (std::uint32_t i = 1; i < count; ++i) {
        operation.pieces[i] = piece(body + places[i - 1], places[i] - places[i - 1]);
    }
    return count;
}

bool SendFlow::post() {
    if (posted_ % kPaceLength == 0) {
        window_ = 1 + static_cast<std::uint32_t>(plan_.stream.dice(posted_) % kMostPending);
    }
    const Message message = plan_.stream.message(posted_);
    const std::uint64_t place = posted_ % kMostPending;
    Operation& operation = *operations_[place];
    const std::uint32_t count = fill(operation, message, memory_.data() + place * kCopied);
    operation.prepare(notified_by(plan_.telling, plan_.stream.dice(posted_) >> 40));
    const int error =
        post_send(*plan_.provider, plan_.socket, operation.pieces, count, &operation.overlapped);
    // The array is the caller's again.
    std::fill_n(operation.pieces, Operation::kMostPieces, WSABUF{});
    if (error == WSAEWOULDBLOCK) {
        operation.withdraw();
        return false;
    }
    if (error != 0) {
        fail(plan_.name + ": WSPSend of message " + std::to_string(posted_), error);
    }
    ++posted_;
    bytes_ += message.length;
    return true;
}

bool SendFlow::step() {
    bool progress = false;
    while (collected_ < posted_) {
        Operation& oldest = *operations_[collected_ % kMostPending];
        const auto result = oldest.collect(*plan_.provider, plan_.socket);
        if (!result) {
            break;
        }
        const std::uint32_t length = plan_.stream.message(collected_).length;
        if (result->error != 0 || result->bytes != length) {
            fail(plan_.name + ": the send of message " + std::to_string(collected_) + " with " +
                     std::to_string(length) + " bytes ended with " + std::to_string(result->bytes),
                 result->error);
        }
        oldest.retire();
        ++collected_;
        progress = true;
    }
    while (posted_ < plan_.messages && posted_ - collected_ < window_ && post()) {
        progress = true;
    }
    return progress;
}

std::string SendFlow::state() const {
    return plan_.name + " sent " + std::to_string(collected_) + "+" +
           std::to_string(posted_ - collected_);
}

// ---- receiving --------------------------------------------------------------------------------------

ReceiveFlow::ReceiveFlow(const FlowPlan& plan)
    : plan_(plan),
      piece_counts_(kMostPending),
      slots_(std::size_t{kMostPending} * kSlotStride),
      // Not touched before a message needs it: most sockets see few large ones.
      large_(std::make_unique_for_overwrite<std::byte[]>(kLongestMessage)),
      gathered_(kSlot) {
    for (std::uint32_t i = 0; i < kMostPending; ++i) {
        operations_.push_back(std::make_unique<Operation>());
    }
    register_memory(*plan_.provider, plan_.socket, slots_.data(), slots_.size(), MEM_WRITE);
    register_memory(*plan_.provider, plan_.socket, large_.get(), kLongestMessage, MEM_WRITE);
}

bool ReceiveFlow::post() {
    if (posted_ % kPaceLength == 0) {
        depth_ = 1 + static_cast<std::uint32_t>(plan_.stream.dice(posted_) % kMostPending);
    }
    const std::uint64_t dice = plan_.stream.dice(posted_);
    const std::uint32_t length = plan_.stream.message(posted_).length;
    const std::uint64_t place = posted_ % kMostPending;
    Operation& operation = *operations_[place];
    const bool large = length > kSlot;
    if (large && large_in_use_) {
        return false;
    }
    // Some have just the room that is needed, some more.
    const std::uint32_t most = large ? kLongestMessage : kSlot;
    const std::uint32_t room =
        dice % 2 == 0 ? length
                      : length + static_cast<std::uint32_t>((dice >> 8) % (most - length + 1));
    std::uint32_t count = piece_count(dice);
    if (room == 0 && count == 1) {
        count = 0;
    } else {
        const auto& places = cuts(room, count, dice);
        for (std::uint32_t i = 0; i < count; ++i) {
            const std::uint32_t size = places[i + 1] - places[i];
            std::byte* start =
                large ? large_.get() + places[i] : slot(posted_) + places[i] + i * kGuard;
            operation.pieces[i] = piece(start, size);
            if (!large) {
                std::fill_n(start + size, kGuard, kGuardByte);
            }
        }
    }
    piece_counts_[place] = count;
    operation.prepare(notified_by(plan_.telling, dice >> 40));
    // The list is the caller's again after the call, so it gets a copy.
    WSABUF list[Operation::kMostPieces];
    std::copy_n(operation.pieces, Operation::kMostPieces, list);
    const int error =
        post_receive(*plan_.provider, plan_.socket, list, count, &operation.overlapped);
    if (error == WSAEWOULDBLOCK) {
        operation.withdraw();
        return false;
    }
    if (error != 0) {
        fail(plan_.name + ": WSPRecv of message " + std::to_string(posted_), error);
    }
    large_in_use_ |= large;
    ++posted_;
    return true;
}

void ReceiveFlow::check(const Operation& operation, std::uint64_t number, const Result& result) {
    const Message message = plan_.stream.message(number);
    const std::string what = plan_.name + ": message " + std::to_string(number) + " of " +
                             std::to_string(message.length) + " bytes ";
    if (result.error != 0 || result.bytes != message.length) {
        fail(what + "came with " + std::to_string(result.bytes), result.error);
    }
    const std::byte* content = large_.get();
    if (message.length > kSlot) {
        large_in_use_ = false;
    } else {
        std::uint32_t left = message.length;
        const std::uint32_t count = piece_counts_[number % kMostPending];
        for (std::uint32_t i = 0; i < count; ++i) {
            const WSABUF& part = operation.pieces[i];
            const auto* start = reinterpret_cast<const std::byte*>(part.buf);
            const std::uint32_t used = std::min<std::uint32_t>(left, part.len);
            std::copy_n(start, used, gathered_.data() + (message.length - left));
            left -= used;
            if (std::count(start + part.len, start + part.len + kGuard, kGuardByte) != kGuard) {
                throw std::runtime_error(what + "was written past the end of a piece");
            }
        }
        content = gathered_.data();
    }
    if (!message.is(content)) {
        throw std::runtime_error(what + "is damaged, or another one");
    }
}

bool ReceiveFlow::step() {
    bool progress = false;
    while (collected_ < posted_) {
        Operation& oldest = *operations_[collected_ % kMostPending];
        const auto result = oldest.collect(*plan_.provider, plan_.socket);
        if (!result) {
            break;
        }
        check(oldest, collected_, *result);
        oldest.retire();
        ++collected_;
        progress = true;
    }
    while (posted_ < plan_.messages && posted_ - collected_ < depth_ && post()) {
        progress = true;
    }
    return progress;
}

std::string ReceiveFlow::state() const {
    return plan_.name + " received " + std::to_string(collected_) + "+" +
           std::to_string(posted_ - collected_);
}

}  // namespace sanpoll::system_test

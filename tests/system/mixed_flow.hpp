// The two halves of a socket under mixed traffic. Each is stepped by one thread at a time, and never
// waits; the halves of one socket may be different threads'.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/system/mixed_message.hpp"
#include "tests/system/san.hpp"

namespace sanpoll::system_test {

/// How a socket's operations are completed.
enum class Telling { kPolled, kNotified, kBoth };

struct FlowPlan {
    const Provider* provider = nullptr;
    SOCKET socket = INVALID_SOCKET;
    Stream stream;
    std::uint64_t messages = 0;
    Telling telling = Telling::kPolled;
    Pool* pool = nullptr;
    std::string name;  // for messages
};

/// An operation, and where it stands. Completions that nobody waits for are noticed: a second
/// notification finds another state than kToBeNotified, a second write into the structure changes what
/// retire() has left there.
class Operation {
public:
    static constexpr std::uint32_t kMostPieces = 8;

    WSAOVERLAPPED overlapped{};  // first: a completion port hands out its address
    WSABUF pieces[kMostPieces] = {};

    Operation() { retire(); }

    /// Makes it ready to be posted. Throws if something has happened to it in the meantime.
    void prepare(bool notified);
    /// The call answered that nothing was started.
    void withdraw() noexcept;
    /// Whether it has been completed and, if so, told of; then with what result.
    [[nodiscard]] std::optional<Result> collect(const Provider& provider, SOCKET socket) noexcept;
    void retire() noexcept;

    /// An entry of a completion port, any thread. Throws if this operation does not expect one.
    static void notified(const sanpoll_switch::OVERLAPPED_ENTRY& entry);

private:
    enum class State : std::uint32_t { kIdle, kPolled, kToBeNotified, kNotified };
    static constexpr ULONG_PTR kLeftBehind = 0x5A5A5A5A;
    std::atomic<State> state_{State::kIdle};
};

class SendFlow {
public:
    explicit SendFlow(const FlowPlan& plan);
    /// Posts and collects what can be; true if there was anything.
    bool step();
    [[nodiscard]] bool done() const noexcept { return collected_ == plan_.messages; }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::string state() const;

private:
    static constexpr std::uint32_t kMostPending = 16;
    static constexpr std::uint32_t kCopied = 1024;  // shorter ones may go in one piece

    std::uint32_t fill(Operation& operation, const Message& message, std::byte* copy);
    bool post();

    const FlowPlan plan_;
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<std::byte> memory_;
    std::uint32_t window_ = 1;
    std::uint64_t posted_ = 0;
    std::uint64_t collected_ = 0;
    std::uint64_t bytes_ = 0;
};

class ReceiveFlow {
public:
    explicit ReceiveFlow(const FlowPlan& plan);
    bool step();
    [[nodiscard]] bool done() const noexcept { return collected_ == plan_.messages; }
    [[nodiscard]] std::string state() const;

private:
    static constexpr std::uint32_t kMostPending = 32;
    static constexpr std::uint32_t kSlot = 16U << 10;
    static constexpr std::uint32_t kGuard = 8;  // untouched bytes between scattered pieces
    static constexpr std::uint32_t kSlotStride = kSlot + kGuard * Operation::kMostPieces + 64;

    [[nodiscard]] std::byte* slot(std::uint64_t number) noexcept {
        return slots_.data() + (number % kMostPending) * kSlotStride;
    }
    bool post();
    void check(const Operation& operation, std::uint64_t number, const Result& result);

    const FlowPlan plan_;
    std::vector<std::unique_ptr<Operation>> operations_;
    std::vector<std::uint32_t> piece_counts_;
    std::vector<std::byte> slots_;
    std::unique_ptr<std::byte[]> large_;  // for one message that no slot holds
    bool large_in_use_ = false;
    std::vector<std::byte> gathered_;
    std::uint32_t depth_ = 1;
    std::uint64_t posted_ = 0;
    std::uint64_t collected_ = 0;
};

}  // namespace sanpoll::system_test

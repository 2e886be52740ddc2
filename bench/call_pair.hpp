// What call_sections measures with: both ends of a connection in one process, and their calls.
//
// Contract: one thread, which drives both ends. Throws ConnectionFault where a call answers what it should not.
#pragma once

#include <cstdint>
#include <memory>
#include <sanpoll/switch.hpp>
#include <utility>
#include <vector>

#include "bench/san_socket.hpp"

namespace sanpoll::bench {

inline constexpr std::uint32_t kCallBatch =
    16;  // calls in one window, where one after the other makes sense
inline constexpr std::uint32_t kCallMemory = 1U << 20;
inline constexpr std::uint32_t kCallReceives = 64;  // receives that are posted on a connection

inline void check_call(const char* step, bool good, int error) {
    if (!good) throw san_fault(step, error);
}

struct alignas(64) CallOperation {
    WSAOVERLAPPED overlapped{};
    CallOperation() {
        overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
    }  // polled for
};

// CallMemory that a connection's end has registered, for messages and for RDMA.
class CallMemory {
public:
    explicit CallMemory(const SanSocket& socket) : socket_(socket), data_(new char[kCallMemory]()) {
        int error = 0;
        handle_ = socket.provider().extensions().register_memory(
            socket.descriptor(), data_.get(), kCallMemory, MEM_READWRITE, &error);
        check_call("WSPRegisterMemory", handle_ != nullptr, error);
    }
    [[nodiscard]] char* data() const { return data_.get(); }
    [[nodiscard]] HANDLE handle() const { return handle_; }
    [[nodiscard]] std::vector<char> expose() const {
        std::vector<char> descriptor(64);
        auto length = static_cast<DWORD>(descriptor.size());
        int error = 0;
        check_call("WSPRegisterRdmaMemory",
                   socket_.provider().extensions().register_rdma_memory(
                       socket_.descriptor(), data_.get(), kCallMemory, MEM_READWRITE,
                       descriptor.data(), &length, &error) == 0,
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
inline int WSPAPI no_send(SOCKET, LPWSABUF, DWORD, LPDWORD, DWORD, LPWSAOVERLAPPED,
                          LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID, LPINT error_number) {
    *error_number = WSA_IO_PENDING;
    return SOCKET_ERROR;
}
inline int WSPAPI no_receive(SOCKET, LPWSABUF, DWORD, LPDWORD, LPDWORD, LPWSAOVERLAPPED,
                             LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID,
                             LPINT error_number) {
    *error_number = WSA_IO_PENDING;
    return SOCKET_ERROR;
}
inline BOOL WSPAPI no_result(SOCKET, LPWSAOVERLAPPED, LPDWORD, BOOL, LPDWORD, LPINT) {
    return TRUE;
}

// Both ends of a connection. What is measured are its calls of the table, with what passing their arguments takes.
class CallPair {
public:
    CallPair(const sanpoll_switch::Provider& provider, SanSocket sender, SanSocket receiver)
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
    [[nodiscard]] const CallMemory& from() const { return from_; }

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
    [[gnu::always_inline]] bool ended(const SanSocket& socket, CallOperation& operation) {
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

    // Receives that wait are those from oldest_ on, kCallReceives of them.
    void fill(std::uint32_t size) {
        for (std::uint32_t i = 0; i < kCallReceives; ++i)
            check_call("WSPRecv", receive(i, size) == WSA_IO_PENDING, 0);
        oldest_ = 0;
    }
    // Takes `count` messages and posts their receives again.
    void take(std::uint32_t count, std::uint32_t size) {
        for (; count != 0; --count) {
            while (!received(oldest_)) {
            }
            check_call("WSPRecv", receive(oldest_, size) == WSA_IO_PENDING, 0);
            next();
        }
    }
    [[nodiscard]] std::uint32_t oldest() const { return oldest_; }
    void next() { oldest_ = (oldest_ + 1) % kCallReceives; }

private:
    // Before the sockets: closing them completes what is pending.
    std::vector<CallOperation> sends_ = std::vector<CallOperation>(kCallBatch);
    std::vector<CallOperation> receives_ = std::vector<CallOperation>(kCallReceives);
    const sanpoll_switch::Provider& provider_;
    WSPPROC_TABLE table_;
    const sanpoll_switch::ExtensionFunctions& functions_;
    SanSocket sender_;
    SanSocket receiver_;
    CallMemory from_;
    CallMemory to_;
    std::vector<char> target_;
    std::uint32_t oldest_ = 0;
};

}  // namespace sanpoll::bench

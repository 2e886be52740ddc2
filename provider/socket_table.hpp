// From descriptor to record, without trusting the descriptor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "provider/socket.hpp"

namespace sanpoll::provider {

/// A descriptor is the record's generation (upper 32 bits, odd while live) and its index plus one. A
/// descriptor that was never issued, is forged, or was closed fits no live record.
class SocketTable {
public:
    static constexpr std::uint32_t kChunk = 256;
    static constexpr std::uint32_t kMaxSockets = 1U << 18;

    // Records are never unmapped: a stale descriptor may be tried until the process has ended.

    struct Found {
        Socket* socket = nullptr;  // nullptr: not a socket
        engine::PostGate::View view{};
    };

    /// A record and its gate's word (PostGate::look).
    struct Seen {
        Socket* socket = nullptr;
        std::uint64_t word = 0;
    };

    /// Any thread, lock-free. The view's generation is that of the descriptor.
    [[nodiscard]] Found find(SOCKET descriptor) const noexcept {
        const Seen seen = look(descriptor);
        if (seen.socket == nullptr || !is_live(seen, descriptor)) [[unlikely]] {
            return {};
        }
        return {seen.socket, engine::PostGate::view_of(seen.word)};
    }

    /// The record that a descriptor would be of, and what its gate says; nullptr if there is none. Whether it
    /// is of this descriptor, is_live() and is_open() tell. Any thread, lock-free.
    [[nodiscard]] Seen look(SOCKET descriptor) const noexcept {
        const auto place = static_cast<std::uint32_t>(descriptor);
        if (place > kMaxSockets) [[unlikely]] {
            return {};
        }
        // Pairs with the release in allocate(). What stands for no record is of no descriptor.
        Socket* socket = records_[place].load(std::memory_order_acquire);
        if (socket == nullptr) [[unlikely]] {
            return {};
        }
        return {socket, socket->gate.look()};
    }
    [[nodiscard]] static bool is_live(const Seen& seen, SOCKET descriptor) noexcept {
        const auto generation = static_cast<std::uint32_t>(descriptor >> 32);
        return engine::PostGate::is_of(seen.word, generation) && (generation & 1U) != 0;
    }
    [[nodiscard]] static bool is_open(const Seen& seen, SOCKET descriptor) noexcept {
        return engine::PostGate::is_open_for(seen.word,
                                             static_cast<std::uint32_t>(descriptor >> 32));
    }

    /// The record that a descriptor would be of while the provider runs, or another one: whether it is this
    /// descriptor's, PostGate::is_direct tells, and it never is while the provider does not run. Without a branch: the
    /// descriptor is cut to the places that are in use, and where no record is there, one is that stands for none.
    /// Any thread, lock-free.
    [[nodiscard]] Socket& reach(SOCKET descriptor) const noexcept {
        // Pairs with the releases in reach_all(): at each place there is a record. And with that in allocate(): it is made.
        const std::uint32_t place =
            static_cast<std::uint32_t>(descriptor) & reach_.load(std::memory_order_acquire);
        return known(records_[place].load(std::memory_order_acquire));
    }
    /// reach() of who asks the record something else: nullptr if it is not of this place.
    [[nodiscard]] Socket* reach_exactly(SOCKET descriptor) const noexcept {
        Socket& record = reach(descriptor);
        return record.index + 1U == static_cast<std::uint32_t>(descriptor) ? &record : nullptr;
    }
    /// The record of a descriptor that reach() has found to be direct, whether it still would or not.
    [[nodiscard]] Socket& at(SOCKET descriptor) const noexcept {
        return known(
            records_[static_cast<std::uint32_t>(descriptor)].load(std::memory_order_relaxed));
    }
    /// Before the first serve(); may throw std::bad_alloc.
    void prepare();
    /// From now on reach() finds records, and before the first time it is not to be called. / It finds none. / The same in the child of a fork, for good and without a lock. Control plane.
    void serve();
    void stop_serving();
    void abandon_in_child() noexcept { reach_.store(kNowhere, std::memory_order_release); }

    /// The record, if its gate is open: generation and state in one comparison. Any thread, lock-free.
    [[nodiscard]] Socket* find_open(SOCKET descriptor) const noexcept {
        const Seen seen = look(descriptor);
        return seen.socket != nullptr && is_open(seen, descriptor) ? seen.socket : nullptr;
    }

    /// A live record in state kCreated and its descriptor; nullptr when the table is full or memory is
    /// short. Control plane.
    [[nodiscard]] Socket* allocate(SOCKET& descriptor);
    /// Whether allocate() would find room.
    [[nodiscard]] bool has_room();
    /// Gives back a record whose gate was closed and which nothing refers to any more.
    void free(Socket& socket);
    /// Descriptors of all live sockets.
    [[nodiscard]] std::vector<SOCKET> live();

private:
    // The lower half of a descriptor is a place, from 1 on. reach_ has all lower bits set up to those of the places in
    // use; or it is kNowhere, also as long as there are none. No descriptor is cut to a place whose record is direct for it unless it names the place: of
    // the records that stand for none, the one at the places below kNowhere is direct for kOddOne, which is
    // cut to place 1, or to kNowhere itself; and the one there is direct for 0, which is cut to place 0.
    static constexpr std::uint32_t kNowhere = 2 * kMaxSockets;
    static constexpr SOCKET kOddOne = kNowhere | 1U;

    [[nodiscard]] static Socket& known(Socket* record) noexcept {
        if (record == nullptr) {
            __builtin_unreachable();
        }
        return *record;
    }
    void reach_all() noexcept;

    // By place, and not by chunk: a look-up has one step less. Four MiB of address space, of which only the
    // pages of sockets that have existed, or might be next, are ever touched.
    std::atomic<Socket*> records_[kNowhere + 1] = {};
    std::atomic<std::uint32_t> reach_{0};
    Socket* none_ = nullptr;  // two that stand for none
    std::mutex mutex_;
    std::vector<std::uint32_t> free_;
    std::size_t free_head_ = 0;  // taken from the front: the longest unused first
    std::uint32_t made_ = 0;
    std::uint32_t filled_ = 0;  // places below have a record, or one that stands for none
    bool serving_ = false;
};

}  // namespace sanpoll::provider

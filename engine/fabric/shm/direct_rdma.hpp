// Short RDMA operations in a straight line, woven into the calls of who posts them: see engine/direct_rdma.hpp.
#pragma once

#include "engine/fabric/shm/direct_messages.hpp"

namespace sanpoll::engine::shm {

// Does the common case or nothing at all, as its neighbours of messages. What rdma_one() looks at is looked at here, or
// was by the operation that went the same way before and has not changed since: StoreTarget.
template <typename Copy>
[[gnu::always_inline]] inline bool ShmPort::move_again(Connection& connection, bool write,
                                                       const void* name, std::uint32_t offset,
                                                       std::uint64_t address, std::uint32_t length,
                                                       Copy copy) noexcept {
    if (connection.stop_send()) [[unlikely]] {
        return false;
    }
    if (!connection.sends.empty()) [[unlikely]] {
        return false;
    }
    if (connection.taken != connection.sent) [[unlikely]] {
        return false;  // ShmPort::peer_has_taken_all
    }
    const StoreTarget& target = write ? connection.written : connection.read;
    if (offset > target.length || length > target.length - offset) [[unlikely]] {
        return false;
    }
    if (!target.is_named(name)) [[unlikely]] {
        return false;
    }
    ExposureSlot& slot = *target.slot;
    const std::uint64_t state = target.state;
    std::byte* const range = target.base + offset;
    if (!ExposuresSeen::begin_again(slot, state)) [[unlikely]] {
        return false;
    }
    auto* const ours = reinterpret_cast<std::byte*>(address);
    copy(write ? range : ours, write ? ours : range);
    if (!write && !ExposuresSeen::stands(slot, state)) [[unlikely]] {
        ExposuresSeen::end(slot);
        return false;  // it may be of something else
    }
    ExposuresSeen::end(slot);
    ShmCounters& counters = port_of(connection).counters_;
    (write ? counters.rdma_bytes_stored : counters.rdma_bytes_loaded).add(length);
    counters.rdma_stores.add();
    counters.rdma_operations.add();
    return true;
}

[[gnu::always_inline]] inline bool ShmPort::rdma_directly(Connection& connection, bool write,
                                                          const void* name, std::uint32_t offset,
                                                          std::uint64_t address,
                                                          std::uint32_t length) noexcept {
    return move_again(
        connection, write, name, offset, address,
        length, [=](std::byte * to, const std::byte* from) __attribute__((always_inline)) {
            // Asked for before the bytes to be stored are there: who waits for them holds the line. A
            // store alone took 143 ns to be seen where this takes 110.
            __builtin_prefetch(to, 1);
            if (length == 8) [[likely]] {
                copy_exactly<8>(to, from);  // one store: nobody sees a part of it
            } else {
                copy_narrow(to, from, length);
            }
        });
}

}  // namespace sanpoll::engine::shm

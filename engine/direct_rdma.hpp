// RDMA without a layer in between, as engine/direct.hpp has it for messages: an operation of one piece whose end is
// polled for, on the exposure and in the local region of the one before.
#pragma once

#include "engine/direct.hpp"
#include "engine/fabric/shm/direct_rdma.hpp"

namespace sanpoll::engine::direct {

inline constexpr std::uint32_t kLongestRdma = shm::ShmPort::kDirectRdma;

/// `name` is a RemoteName, `region` what the caller says that the local piece lies in; `length` is 1 to kLongestRdma. Unless
/// it says kNothing the operation has ended well, and `ended` was called. The second part of kNothing is
/// PollingCore::rdma_at_once. Any thread; lock-free, no allocation, no system call.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome rdma(const Way& way, bool write, const void* name,
                                                      std::uint32_t offset, RegionRef region,
                                                      std::uint64_t address, std::uint32_t length,
                                                      Ended ended) noexcept {
    PollToken::Word* token = nullptr;
    if (!begin(way, token)) [[unlikely]] {
        return Outcome::kNothing;
    }
    const RegionTable::Window& local = way.regions.last_of_rdma(write ? kRead : kWrite);
    if (local.ref != region) [[unlikely]] {
        return nothing(token);
    }
    if (!local.contains(address, length)) [[unlikely]] {
        return nothing(token);
    }
    shm::Connection& connection = connection_of(way);
    if (!shm::ShmPort::rdma_directly(connection, write, name, offset, address, length))
        [[unlikely]] {
        return nothing(token);
    }
    ended();
    PollingCore& core = *connection.core;
    if (core.somebody_waits()) [[unlikely]] {
        return Outcome::kHeld;
    }
    core.count_direct_post();
    core.count_direct_end();
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The same of any length but 0, with calls on the way. True: it has ended well, and `ended` was called.
template <typename Ended>
[[nodiscard]] inline bool rdma_of_any_length(const Way& way, bool write, const void* name,
                                             std::uint32_t offset, RegionRef region,
                                             std::uint64_t address, std::uint32_t length,
                                             Ended ended) noexcept {
    if (!begin_again(way)) {
        return false;
    }
    const RegionTable::Window& local = way.regions.last_of_rdma(write ? kRead : kWrite);
    shm::Connection& connection = connection_of(way);
    const bool done =
        local.ref == region && local.contains(address, length) &&
        port_of(connection).rdma_again(connection, write, name, offset, address, length);
    if (done) {
        ended();
        connection.core->count_direct_post();
        connection.core->count_direct_end();
        connection.core->after_completion();
    }
    way.token.release();
    return done;
}

/// The second part of one that is held.
inline void end_rdma(const Way& way) noexcept {
    const shm::Connection& connection = connection_of(way);
    connection.core->count_direct_post();
    connection.core->count_direct_end();
    connection.core->after_completion();
    way.token.release();
}

}  // namespace sanpoll::engine::direct

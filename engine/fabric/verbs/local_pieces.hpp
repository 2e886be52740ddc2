// The pieces of a pending request, cut as work requests need them.
#pragma once

#include <infiniband/verbs.h>

#include <algorithm>
#include <cstdint>

#include "engine/fabric/request_queue.hpp"
#include "engine/fabric/verbs/memory_keys.hpp"

namespace sanpoll::engine::verbs {

/// Walks through the memory of one request of a queue, with the keys of its device. The core holds the
/// regions. Pieces without bytes, such as those that name an RDMA request's remote side, are passed over.
class LocalPieces {
public:
    /// From byte `offset` of the request on.
    LocalPieces(const MemoryKeys& keys, const RequestQueue& queue, RequestQueue::Position position,
                std::uint32_t offset) noexcept
        : keys_(keys),
          queue_(queue),
          position_(position),
          count_(queue.at(position).sge_count),
          within_(offset) {
        settle();
    }

    /// The next bytes, at most `bytes` of them and in at most `most` elements of `list`. Returns the number
    /// of elements; `taken` becomes their bytes. 0 only at the end of the request, or when `bytes` is 0.
    [[nodiscard]] std::uint32_t take(ibv_sge* list, std::uint32_t most, std::uint32_t bytes,
                                     std::uint32_t& taken) noexcept {
        std::uint32_t used = 0;
        taken = 0;
        while (used < most && taken < bytes && index_ < count_) {
            const Sge& piece = queue_.piece_at(position_, index_);
            const std::uint32_t step = std::min(bytes - taken, piece.length - within_);
            list[used++] = {piece.address + within_, step, keys_.lkey(piece.region)};
            taken += step;
            within_ += step;
            settle();
        }
        return used;
    }

private:
    // Onto the next byte, if there is one.
    void settle() noexcept {
        while (index_ < count_ && within_ >= queue_.piece_at(position_, index_).length) {
            within_ -= queue_.piece_at(position_, index_).length;
            ++index_;
        }
    }

    const MemoryKeys& keys_;
    const RequestQueue& queue_;
    RequestQueue::Position position_;
    std::uint32_t count_;
    std::uint32_t index_ = 0;
    std::uint32_t within_;
};

}  // namespace sanpoll::engine::verbs

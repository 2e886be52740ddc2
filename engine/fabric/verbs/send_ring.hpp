// The send queue of a connection: which work requests are in it and what their end means.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "engine/fabric/verbs/private_buffers.hpp"
#include "engine/fabric/verbs/work_request_id.hpp"

namespace sanpoll::engine::verbs {

/// Work requests that messages, pieces and RDMA leave free, so that other packets find room.
inline constexpr std::uint32_t kRingReserve = 4;

/// Pieces of one work request.
inline constexpr std::uint32_t kMaxWorkSges = kMaxSges;

/// Work requests are added to a chain, which goes to the device with one call (VerbsPort::ring_doorbell).
/// They end in the order in which they were added. Not all ask for a completion (they are `signalled`):
/// one in kSignalEvery does, and everything whose end somebody waits for; its completion ends those before
/// it, too. So at least one of any kSignalEvery is signalled, and room always comes back. Owned by the core.
class SendRing {
public:
    static constexpr std::uint32_t kSignalEvery = 8;
    static constexpr std::uint8_t kNoSlot = 0xFF;
    static_assert(kSignalEvery <= kLongSlots && kSignalEvery * 2 <= kSendDepth);

    struct Entry {
        WorkKind kind;
        std::uint8_t long_slot;  // to be given back, or kNoSlot
        bool last;               // kRead, kRdma: the operation's last work request
        std::uint32_t tag;       // kRead, kRdma: which operation
    };

    /// Off the core. `holds`: see take_chain(). False: no memory.
    [[nodiscard]] bool make(bool holds) noexcept {
        holds_ = holds;
        places_.reset(new (std::nothrow) Place[kSendDepth]());
        return places_ != nullptr;
    }

    [[nodiscard]] std::uint32_t room() const noexcept { return kSendDepth - (tail_ - head_); }
    [[nodiscard]] bool empty() const noexcept { return tail_ == head_; }
    /// How many work requests have ended, as far as completions have told; wraps.
    [[nodiscard]] std::uint32_t ended() const noexcept { return head_; }
    /// Work requests of a kind that touches the user's memory (kRead, kRdma) that have not ended.
    [[nodiscard]] std::uint32_t work_of(WorkKind kind) const noexcept {
        return kind == WorkKind::kRead ? reads_ : rdma_;
    }

    /// Adds a work request to the chain; there is room. Opcode, pieces and flags other than
    /// IBV_SEND_SIGNALED are the caller's to fill in; sg_list points to kMaxWorkSges pieces. `wait`: its
    /// own completion is wanted.
    [[nodiscard]] ibv_send_wr& add(std::uint64_t id_without_slot, const Entry& entry,
                                   bool wait) noexcept {
        Place& place = places_[tail_ % kSendDepth];
        place.entry = entry;
        ibv_send_wr& request = place.request;
        request = {};
        request.wr_id = id_without_slot | (tail_ & 0xFFFF);
        request.sg_list = place.sges;
        if (wait || ++unsignalled_ == kSignalEvery) {
            request.send_flags = IBV_SEND_SIGNALED;
            unsignalled_ = 0;
        }
        reads_ += entry.kind == WorkKind::kRead ? 1 : 0;
        rdma_ += entry.kind == WorkKind::kRdma ? 1 : 0;
        if (chain_end_ != nullptr) {
            chain_end_->next = &request;
        } else {
            chain_ = &request;
        }
        chain_end_ = &request;
        ++tail_;
        return request;
    }
    /// The number in the ring of the work request that add() gave out last: short slots go by it.
    [[nodiscard]] std::uint32_t next_place() const noexcept { return tail_ % kSendDepth; }

    /// What may go now of what was added, linked; nullptr: nothing. Where it `holds`, whatever follows an RDMA
    /// READ stays here until that has ended: Soft-iWARP lets sends and writes overtake reads, so that their
    /// completions say nothing of reads. IBV_SEND_FENCE would do, but what Soft-iWARP fences stands in the way
    /// of its answers to the peer's READs, and two ends that both fence wait for each other for ever.
    [[nodiscard]] ibv_send_wr* take_chain() noexcept {
        ibv_send_wr* const chain = chain_;
        ibv_send_wr* last = nullptr;
        ibv_send_wr* each = holds_ ? chain : nullptr;
        for (; each != nullptr; last = std::exchange(each, each->next)) {
            if (each->opcode == IBV_WR_RDMA_READ) {
                ++reading_;
                each->send_flags |= IBV_SEND_SIGNALED;  // what is held hears of its end
            } else if (reading_ != 0) {
                break;
            }
        }
        chain_ = each;
        if (each == nullptr) {
            chain_end_ = nullptr;
        } else if (last == nullptr) {
            return nullptr;
        } else {
            last->next = nullptr;
        }
        return chain;
    }
    /// Whether something is left for take_chain(), now or later.
    [[nodiscard]] bool chained() const noexcept { return chain_ != nullptr; }

    /// A completion has come for `slot`: calls end(entry, last) for it (last) and those before it, oldest
    /// first.
    /// False if nothing of that number is under way.
    template <typename End>
    [[nodiscard]] bool retire(std::uint16_t slot, End end) noexcept {
        const std::uint32_t count = ((slot - head_) & 0xFFFF) + 1;
        if (count > tail_ - head_) [[unlikely]] {
            return false;
        }
        for (std::uint32_t i = 0; i < count; ++i) {
            const Entry entry = places_[head_ % kSendDepth].entry;
            if (holds_ && places_[head_ % kSendDepth].request.opcode == IBV_WR_RDMA_READ) {
                --reading_;
            }
            ++head_;
            reads_ -= entry.kind == WorkKind::kRead ? 1 : 0;
            rdma_ -= entry.kind == WorkKind::kRdma ? 1 : 0;
            end(entry, i + 1 == count);
        }
        return true;
    }

private:
    struct Place {
        ibv_send_wr request;
        ibv_sge sges[kMaxWorkSges];
        Entry entry;
    };

    std::unique_ptr<Place[]> places_;
    std::uint32_t head_ = 0;  // the oldest that has not ended
    std::uint32_t tail_ = 0;
    std::uint32_t unsignalled_ = 0;
    std::uint32_t reads_ = 0;  // work requests of that kind
    std::uint32_t rdma_ = 0;
    std::uint32_t reading_ =
        0;  // RDMA READs that were given out and have not ended; only if it holds
    bool holds_ = false;
    ibv_send_wr* chain_ = nullptr;
    ibv_send_wr* chain_end_ = nullptr;
};

}  // namespace sanpoll::engine::verbs

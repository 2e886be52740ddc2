// The pending operations of one direction of a connection, first in, first out.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "engine/memory_region.hpp"
#include "engine/status.hpp"
#include "engine/work_request.hpp"

namespace sanpoll::engine {

/// The first words of a pending operation.
struct QueuedHead {
    std::uint64_t context;
    std::uint32_t length;
    std::uint8_t flags;
    std::uint8_t sge_count;
    Opcode opcode;
    // For a fabric that has several requests of a queue under way at once:
    std::uint8_t state;  // 0 when pushed; the fabric's own
};
static_assert(sizeof(QueuedHead) == 16);

/// QueuedHead::flags: a receive of one piece that is polled for; QueuedRequest::holds() knows its hold, and no region is
/// named.
inline constexpr std::uint8_t kPushedDirectly = 2;

/// A pending operation. Two pieces here, the others in cells behind.
struct QueuedRequest : QueuedHead {
    Sge sge[kInlineSges];
    std::uint32_t bytes;  // how the request ended, until those before it have ended too
    Status status;
    std::uint32_t number;
    std::uint32_t padding;

    /// Of one that was pushed directly: its one piece has the place of a second one to say where it is held.
    [[nodiscard]] RegionTable::Holds& holds() const noexcept {
        return *reinterpret_cast<RegionTable::Holds*>(sge[1].address);
    }
    /// Whether it is one: the last four bytes of the head in one comparison.
    [[nodiscard]] bool was_pushed_directly() const noexcept {
        using Words = std::array<std::uint32_t, 4>;
        return std::bit_cast<Words>(static_cast<const QueuedHead&>(*this))[3] == direct_kind();
    }
    /// Makes it one, in one store.
    void mark_pushed_directly() noexcept {
        const std::uint32_t kind = direct_kind();
        std::memcpy(reinterpret_cast<std::byte*>(this) + offsetof(QueuedHead, flags), &kind,
                    sizeof(kind));
    }

private:
    [[nodiscard]] static constexpr std::uint32_t direct_kind() noexcept {
        constexpr QueuedHead kHead{0, 0, kPushedDirectly, 1, Opcode::kReceive, 0};
        return std::bit_cast<std::array<std::uint32_t, 4>>(kHead)[3];
    }
};
static_assert(sizeof(QueuedRequest) == 64);

/// A ring of cells that grows fourfold when it is full: idle connections stay small, busy ones stop allocating
/// once they have grown to what they use. Owned by the core.
class RequestQueue {
public:
    /// Room for what an idle connection has pending, made with the connection and off the core. Beyond
    /// it push() allocates, each time the queue is deeper than it ever was. Twice this is the larger part of
    /// what an idle connection takes. False when memory is short.
    [[nodiscard]] bool prepare() noexcept { return grow(kPrepared); }

    /// False when memory is short; the queue is then unchanged.
    [[nodiscard]] bool push(const WorkRequest& request) noexcept {
        const std::uint32_t cells = cells_for(request.sge_count);
        if (tail_ - head_ + cells > capacity() && !grow(cells)) [[unlikely]] {
            return false;
        }
        QueuedRequest& queued = cell(tail_).request;
        queued.context = request.context;
        queued.length = request.length;
        queued.flags = request.flags;
        queued.sge_count = request.sge_count;
        queued.opcode = request.opcode;
        queued.state = 0;
        queued.sge[0] = request.sge[0];
        queued.sge[1] = request.sge[1];
        for (std::uint32_t i = kInlineSges; i < request.sge_count; ++i) {
            cell(tail_ + 1 + (i - kInlineSges) / 4).more[(i - kInlineSges) % 4] = request.piece(i);
        }
        tail_ += cells;
        extra_ += cells - 1;
        if (static_cast<std::int32_t>(direct_until_ - tail_) < 0) {
            direct_until_ = tail_;
        }
        return true;
    }

    /// Whether push_directly() may be called without a look.
    [[nodiscard]] bool takes_directly() const noexcept { return direct_until_ != tail_; }
    /// Takes that look: whether there is a cell, and the queue stays shorter than `depth`. It holds for as many as there
    /// are cells and places now: what is pushed meanwhile takes at most one of both for each cell, what is popped adds.
    [[gnu::noinline]] bool look_for_room(std::uint32_t depth) noexcept {
        const std::uint32_t cells = capacity() - (tail_ - head_);
        const std::uint32_t places = size() + 1 < depth ? depth - 1 - size() : 0;
        const std::uint32_t room = cells < places ? cells : places;
        direct_until_ = tail_ + room;
        return room != 0;
    }
    /// From now on takes_directly() is false, until somebody looks for room.
    void stop_directly() noexcept { direct_until_ = tail_; }
    /// push() of a receive that is kPushedDirectly, after takes_directly().
    void push_directly(std::uint64_t context, std::uint64_t address, std::uint32_t length,
                       RegionTable::Holds* holds) noexcept {
        QueuedRequest& queued = cell(tail_).request;
        ++tail_;
        queued.context = context;
        queued.length = length;
        queued.mark_pushed_directly();
        queued.sge[0].address = address;
        queued.sge[0].length = length;
        queued.sge[1].address = reinterpret_cast<std::uint64_t>(holds);
    }
    [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
    [[nodiscard]] bool is_end(std::uint32_t position) const noexcept { return position == tail_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return tail_ - head_ - extra_; }

    [[nodiscard]] const QueuedRequest& front() const noexcept { return at(head_); }

    /// The `index`-th piece of the front request.
    [[nodiscard]] const Sge& piece(std::uint32_t index) const noexcept {
        return piece_at(head_, index);
    }

    /// Where a request is, from push() to pop().
    using Position = std::uint32_t;
    [[nodiscard]] Position first() const noexcept { return head_; }
    [[nodiscard]] Position end() const noexcept { return tail_; }
    [[nodiscard]] Position after(Position position) const noexcept {
        return position + cells_for(at(position).sge_count);
    }
    [[nodiscard]] const QueuedRequest& at(Position position) const noexcept {
        return cell(position).request;
    }
    [[nodiscard]] QueuedRequest& at(Position position) noexcept { return cell(position).request; }
    [[nodiscard]] const Sge& piece_at(Position position, std::uint32_t index) const noexcept {
        return index < kInlineSges
                   ? cell(position).request.sge[index]
                   : cell(position + 1 + (index - kInlineSges) / 4).more[(index - kInlineSges) % 4];
    }

    void pop() noexcept {
        const std::uint32_t cells = cells_for(front().sge_count);
        head_ += cells;
        extra_ -= cells - 1;
    }
    /// The same, for a front request of at most kInlineSges pieces.
    void pop_single() noexcept { ++head_; }

private:
    union Cell {
        QueuedRequest request;
        Sge more[4];
    };
    static_assert(sizeof(Cell) == 64);

    [[nodiscard]] static std::uint32_t cells_for(std::uint32_t sge_count) noexcept {
        return sge_count <= kInlineSges ? 1 : 1 + (sge_count - kInlineSges + 3) / 4;
    }
    [[nodiscard]] Cell& cell(std::uint32_t position) const noexcept {
        return cells_[position & mask_];
    }

    static constexpr std::uint32_t kPrepared = 8;

    bool grow(std::uint32_t needed) noexcept {
        std::uint32_t capacity = cells_ ? this->capacity() * 4 : 8;
        while (capacity < tail_ - head_ + needed) {
            capacity *= 2;
        }
        std::unique_ptr<Cell[]> cells(new (std::nothrow) Cell[capacity]);
        if (!cells) {
            return false;
        }
        for (std::uint32_t position = head_; position != tail_; ++position) {
            cells[position & (capacity - 1)] = cell(position);
        }
        cells_ = std::move(cells);
        mask_ = capacity - 1;
        return true;
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return cells_ ? mask_ + 1 : 0; }

    // Counts that change together do not lie side by side: compilers make vectors of those, in more instructions.
    std::unique_ptr<Cell[]> cells_;
    std::uint32_t head_ = 0;
    std::uint32_t mask_ = 0;  // of positions: cells less one
    std::uint32_t tail_ = 0;
    std::uint32_t direct_until_ = 0;  // the position from which takes_directly() is false
    std::uint32_t extra_ = 0;         // cells beyond one for each request
};

}  // namespace sanpoll::engine

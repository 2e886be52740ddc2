// The pending operations of one direction of a connection, first in, first out.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

#include "engine/status.hpp"
#include "engine/work_request.hpp"

namespace sanpoll::engine {

/// A pending operation. Two pieces here, the others in cells behind.
struct QueuedRequest {
    std::uint64_t context;
    std::uint32_t length;
    std::uint8_t flags;
    std::uint8_t sge_count;
    Opcode opcode;
    // For a fabric that has several requests of a queue under way at once:
    std::uint8_t state;  // 0 when pushed; the fabric's own
    Sge sge[kInlineSges];
    std::uint32_t bytes;  // how the request ended, until those before it have ended too
    Status status;
    std::uint32_t number;
    std::uint32_t padding;
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
        if (tail_ - head_ + cells > capacity_ && !grow(cells)) [[unlikely]] {
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
        ++size_;
        return true;
    }

    /// Whether push_one() may be called.
    [[nodiscard]] bool has_room() const noexcept { return tail_ - head_ < capacity_; }
    /// push() of a request of one piece whose end is polled for, after has_room().
    void push_one(std::uint64_t context, Opcode opcode, std::uint64_t address, std::uint32_t length,
                  std::uint32_t region) noexcept {
        QueuedRequest& queued = cell(tail_).request;
        queued.context = context;
        queued.length = length;
        queued.flags = 0;
        queued.sge_count = 1;
        queued.opcode = opcode;
        queued.state = 0;
        queued.sge[0] = {address, length, region};
        ++tail_;
        ++size_;
    }

    [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return size_; }

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
        head_ += cells_for(front().sge_count);
        --size_;
    }
    /// The same, for a front request of at most kInlineSges pieces.
    void pop_single() noexcept {
        ++head_;
        --size_;
    }

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
        return cells_[position & (capacity_ - 1)];
    }

    static constexpr std::uint32_t kPrepared = 8;

    bool grow(std::uint32_t needed) noexcept {
        std::uint32_t capacity = capacity_ == 0 ? 8 : capacity_ * 4;
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
        capacity_ = capacity;
        return true;
    }

    std::unique_ptr<Cell[]> cells_;
    std::uint32_t capacity_ = 0;
    std::uint32_t head_ = 0;
    std::uint32_t tail_ = 0;
    std::uint32_t size_ = 0;
};

}  // namespace sanpoll::engine

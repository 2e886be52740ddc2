// What the provider's socket is to a fabric, for tests that turn cores by hand.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "engine/memory_region.hpp"
#include "engine/polling_core.hpp"
#include "engine/post_gate.hpp"
#include "engine/remote_regions.hpp"
#include "engine/work_request.hpp"

namespace sanpoll::tests {

using Bytes = std::vector<std::byte>;

/// A message whose every byte follows from its number and length. Made by the word, as sanitizers look at each access.
[[nodiscard]] inline Bytes message_of(std::uint64_t number, std::size_t length) {
    Bytes bytes(length);
    std::uint64_t state = number * 0x9E3779B97F4A7C15ULL + length + 1;
    for (std::size_t at = 0; at < length; at += sizeof(state)) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::memcpy(bytes.data() + at, &state, std::min(sizeof(state), length - at));
    }
    return bytes;
}

/// One operation that was posted: its memory and, later, its end.
struct Operation {
    Bytes bytes;
    std::atomic<int> ends{0};  // must become 1 and stay so
    std::uint32_t length = 0;
    engine::Status status = engine::Status::kOk;

    [[nodiscard]] bool ended() const { return ends.load(std::memory_order_acquire) != 0; }
    [[nodiscard]] bool good() const { return ended() && status == engine::Status::kOk; }
    /// What was received.
    [[nodiscard]] Bytes content() const {
        return Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    }
};

inline engine::Handlers operation_handlers();

/// What the provider's socket is to the engine.
class Socket {
public:
    Socket() {
        generation = gate.revive();
        region = regions.add(1, 1ULL << 56, engine::kRead | engine::kWrite);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    [[nodiscard]] engine::EndpointOwner owner() {
        engine::EndpointOwner lent;
        lent.owner = this;
        lent.slot = &slot;
        lent.core_slot = &core_slot;
        lent.gate = &gate;
        lent.generation = generation;
        lent.saturation = &saturation;
        lent.regions = &regions;
        lent.remote = &remote;
        return lent;
    }

    Operation& send(Bytes bytes, const std::vector<std::uint32_t>& cuts = {}) {
        return post(engine::Opcode::kSend, std::move(bytes), cuts);
    }
    Operation& send_number(std::uint64_t number, std::size_t length) {
        return send(message_of(number, length));
    }
    Operation& receive(std::size_t room, const std::vector<std::uint32_t>& cuts = {}) {
        return post(engine::Opcode::kReceive, Bytes(room, std::byte{0xEE}), cuts);
    }

    /// `cuts` divide the bytes into pieces; none: one piece.
    Operation& post(engine::Opcode opcode, Bytes bytes, const std::vector<std::uint32_t>& cuts) {
        Operation& operation = operations.emplace_back();
        operation.bytes = std::move(bytes);
        engine::WorkRequest request{};
        request.opcode = opcode;
        post_pieces(operation, request, operation.bytes.data(),
                    static_cast<std::uint32_t>(operation.bytes.size()), cuts);
        return operation;
    }
    /// Likewise, on memory that is not the operation's own.
    Operation& post_at(engine::Opcode opcode, std::byte* at, std::uint32_t length,
                       const std::vector<std::uint32_t>& cuts = {}) {
        Operation& operation = operations.emplace_back();
        engine::WorkRequest request{};
        request.opcode = opcode;
        post_pieces(operation, request, at, length, cuts);
        return operation;
    }
    /// RDMA between the memory at `local` and what the peer has exposed.
    Operation& rdma_at(engine::Opcode opcode, const engine::RemotePlace& place, std::byte* local,
                       std::uint32_t length, const std::vector<std::uint32_t>& cuts = {}) {
        Operation& operation = operations.emplace_back();
        post_remote(operation, opcode, place, local, length, cuts);
        return operation;
    }
    /// Likewise, with bytes of the operation's own.
    Operation& rdma(engine::Opcode opcode, const engine::RemotePlace& place, Bytes bytes,
                    const std::vector<std::uint32_t>& cuts = {}) {
        Operation& operation = operations.emplace_back();
        operation.bytes = std::move(bytes);
        post_remote(operation, opcode, place, operation.bytes.data(),
                    static_cast<std::uint32_t>(operation.bytes.size()), cuts);
        return operation;
    }

    /// As the provider closes: everything pending ends, then `closed` is called.
    void close() {
        const auto before = gate.close(generation);
        ASSERT_TRUE(before.has_value());
        if (before->state == engine::PostGate::State::kShut) {
            return;
        }
        engine::Endpoint* endpoint = slot.load();
        struct Op final : engine::ControlOp {
            explicit Op(engine::Endpoint& target) : endpoint(target) {}
            void run() noexcept override { endpoint.port->close(endpoint); }
            engine::Endpoint& endpoint;
        } op(*endpoint);
        core_slot.load()->run(op, endpoint, before->sequence);
    }

    engine::PostGate gate;
    std::uint32_t generation = 0;
    std::atomic<engine::Endpoint*> slot{nullptr};
    std::atomic<engine::PollingCore*> core_slot{nullptr};
    engine::Saturation saturation;
    engine::RegionTable regions;
    engine::RemoteRegions remote;
    engine::RegionRef region = 0;
    std::deque<Operation> operations;  // all that were posted; addresses stay
    std::atomic<int> closures{0};
    engine::Status last = engine::Status::kOk;  // of the last post

private:
    void post_remote(Operation& operation, engine::Opcode opcode, const engine::RemotePlace& place,
                     std::byte* local, std::uint32_t length,
                     const std::vector<std::uint32_t>& cuts) {
        engine::WorkRequest request{};
        request.opcode = opcode;
        engine::set_remote(request, place);
        request.sge_count = engine::kRemoteSges;
        post_pieces(operation, request, local, length, cuts);
    }
    void post_pieces(Operation& operation, engine::WorkRequest& request, std::byte* at,
                     std::uint32_t length, const std::vector<std::uint32_t>& cuts) {
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = length;
        std::vector<std::uint32_t> ends = cuts;
        ends.push_back(length);
        std::uint32_t start = 0;
        for (const std::uint32_t end : ends) {
            request.piece(request.sge_count++) = {reinterpret_cast<std::uint64_t>(at) + start,
                                                  end - start, region};
            start = end;
        }
        engine::PollingCore* core = core_slot.load();
        last = core == nullptr ? engine::Status::kNotOpen
                               : core->post(request, gate, generation, slot);
        if (last != engine::Status::kOk) {
            operation.status = last;
        }
    }
};

inline engine::Handlers operation_handlers() {
    engine::Handlers handlers;
    handlers.completed = [](std::uint64_t context, std::uint32_t bytes,
                            engine::Status status) noexcept {
        auto* operation = reinterpret_cast<Operation*>(context);
        operation->length = bytes;
        operation->status = status;
        operation->ends.fetch_add(1, std::memory_order_release);
    };
    handlers.notify = [](const engine::Completion& completion) noexcept {
        auto* operation = reinterpret_cast<Operation*>(completion.context);
        operation->length = completion.bytes;
        operation->status = completion.status;
        operation->ends.fetch_add(1, std::memory_order_release);
    };
    handlers.closed = [](void* owner) noexcept {
        static_cast<Socket*>(owner)->closures.fetch_add(1, std::memory_order_release);
    };
    return handlers;
}

}  // namespace sanpoll::tests

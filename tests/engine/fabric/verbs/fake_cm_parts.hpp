// What the fake CM is made of, shared by its two sources.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <memory>

#include "tests/engine/fabric/verbs/fake_cm.hpp"

namespace sanpoll::tests {

/// The one that there is.
inline FakeCm* current_cm = nullptr;

// What RDMA CM delivers on InfiniBand: always as much, zeroes behind what was sent.
constexpr std::size_t kRequestBytes = 56;
constexpr std::size_t kAcceptanceBytes = 196;
constexpr std::size_t kRejectionBytes = 148;
constexpr int kInvalidServiceId = 8;
constexpr int kConsumerReject = 28;

struct FakeCm::Event {
    rdma_cm_event event{};
    std::array<std::byte, 256> data{};
};

struct FakeCm::Channel {
    rdma_event_channel channel{};
    std::deque<std::unique_ptr<Event>> events;
};

struct FakeCm::Id {
    enum class State { kIdle, kListening, kAsking, kAsked, kConnected, kOver };

    rdma_cm_id id{};
    State state = State::kIdle;
    Id* peer = nullptr;
    std::uint32_t ip = 0;
    std::uint16_t port = 0;
    bool removed = false;
};

inline FakeCm::Id& id_of(rdma_cm_id* id) { return *reinterpret_cast<FakeCm::Id*>(id); }
inline FakeCm::Channel& channel_of(rdma_event_channel* channel) {
    return *reinterpret_cast<FakeCm::Channel*>(channel);
}

}  // namespace sanpoll::tests

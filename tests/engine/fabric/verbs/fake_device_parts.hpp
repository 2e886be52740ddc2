// What a FakeDevice is made of. For its own files only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "tests/engine/fabric/verbs/fake_device.hpp"

namespace sanpoll::tests {

// A pointer to one of verbs.h's structures is a pointer to ours, which derives from it.
struct FakeDevice::Context : verbs_context {
    ibv_device made_of{};
    FakeDevice* owner = nullptr;

    [[nodiscard]] static FakeDevice& of(ibv_context* context) {
        return *static_cast<Context*>(::verbs_get_ctx(context))->owner;
    }
};

struct FakeDevice::Domain : ibv_pd {
    std::uint32_t users = 0;
};

struct FakeDevice::Registration : ibv_mr {
    std::uint64_t begins = 0;  // as the device counts
    int access = 0;
};

struct FakeDevice::Shared {
    std::mutex mutex;
    std::map<std::uint32_t, std::unique_ptr<Registration>> registrations;  // by key
};

struct FakeDevice::Channel : ibv_comp_channel {
    ibv_cq* source = nullptr;
};

struct FakeDevice::Queue : ibv_cq_ex {
    std::deque<ibv_wc> entries;
    std::size_t room = 0;
    bool armed = false;
    std::uint32_t unacknowledged = 0;
    ibv_wc current{};

    [[nodiscard]] static Queue& of(ibv_cq* cq) {
        return *static_cast<Queue*>(reinterpret_cast<ibv_cq_ex*>(cq));
    }
    [[nodiscard]] ibv_cq* plain() { return ::ibv_cq_ex_to_cq(this); }
};

struct FakeDevice::Work {
    ibv_send_wr request{};
    std::vector<ibv_sge> sges;
    std::vector<std::byte>
        bytes;  // of an inline request from the start, else when it is carried out
    std::uint64_t number = 0;
};

struct FakeDevice::Pair : ibv_qp {
    struct Receive {
        std::uint64_t id;
        ibv_sge sge;
    };
    std::deque<Receive> receives;
    std::deque<Work> waiting;
    Pair* peer = nullptr;
    bool broken = false;
    bool terminated = false;  // will be broken
    bool held = false;
    std::optional<ibv_wc_status> failure;
    ibv_qp_cap cap{};
    std::uint64_t posted = 0;
    std::uint64_t known_ended = 0;  // as far as completions that were polled tell

    [[nodiscard]] static Pair& of(ibv_qp* qp) { return *static_cast<Pair*>(qp); }
};

}  // namespace sanpoll::tests

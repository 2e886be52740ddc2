// Notices without memory: who posts a notified operation is told, and what was posted is told of whatever the notifier is at.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "engine/polling_core.hpp"
#include "tests/engine/core_bench.hpp"
#include "tests/engine/denied_memory.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/posting.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::counting;
using tests::DeniedMemory;
using tests::eventually;
using tests::FakeSocket;
using tests::inline_config;

constexpr std::size_t kMany = 5000;

Config with_a_small_ring() {
    Config config = inline_config();
    config.notifier_slots = 16;
    return config;
}

Status post_without_memory(FakeSocket& socket, std::uint64_t number) {
    const DeniedMemory denial(0, true);
    return socket.post(number, kNotify);
}

void deliver_all(PollingCore& core) {
    do {
        core.poll_once();  // which refills the ring
    } while (core.deliver_notices(64) != 0);
}

TEST(PollingCoreNotices, WithoutMemoryForItsNoticeAPostIsRefused) {
    CoreBench bench(with_a_small_ring());
    FakeSocket socket(bench.core, bench.port);
    bench.port.reserve(2 * kMany);
    bench.port.complete_at_once.store(false);
    std::uint64_t accepted = 0;
    Status status = Status::kOk;
    for (; accepted < kMany; ++accepted) {
        status = post_without_memory(socket, accepted);
        if (status != Status::kOk) {
            break;
        }
    }
    ASSERT_EQ(status, Status::kNoMemory) << accepted << " were accepted";
    ASSERT_GE(accepted, 16U);
    EXPECT_EQ(socket.gate.view().sequence, accepted) << "the refused one has no number";
    // One that is polled for needs no place.
    EXPECT_EQ(socket.post(kMany), Status::kOk);
    // All that were accepted end although there is no memory and nobody takes notices.
    {
        const DeniedMemory denial(0, true);
        bench.port.arrivals.store(static_cast<int>(accepted));
        while (bench.port.arrivals.load() != 0) {
            bench.core.poll_once();
        }
    }
    deliver_all(bench.core);
    EXPECT_EQ(socket.record.notified, counting(accepted));
    // With memory it goes on, and without it as well, in the places that are free again.
    ASSERT_EQ(socket.post(accepted, kNotify), Status::kOk);
    ASSERT_EQ(post_without_memory(socket, accepted + 1), Status::kOk);
    bench.port.arrivals.store(3);
    deliver_all(bench.core);
    EXPECT_EQ(socket.record.notified, counting(accepted + 2));
    EXPECT_EQ(socket.close(), accepted + 3);
    deliver_all(bench.core);
    EXPECT_EQ(socket.record.closures(), 1);
}

TEST(PollingCoreNotices, ARefusedPostKeepsNoPlace) {
    CoreBench bench(with_a_small_ring());
    FakeSocket open(bench.core, bench.port);
    FakeSocket closed(bench.core, bench.port);
    bench.port.reserve(kMany);
    EXPECT_EQ(closed.close(), 0U);
    for (std::uint64_t i = 0; i < kMany; ++i) {
        ASSERT_EQ(post_without_memory(closed, i), Status::kNotOpen);
    }
    EXPECT_EQ(post_without_memory(open, 0), Status::kOk);
}

TEST(PollingCoreNotices, WhatWasToldKeepsNoPlace) {
    CoreBench bench(with_a_small_ring());
    bench.port.reserve(kMany);
    for (std::uint64_t i = 0; i < kMany; ++i) {
        FakeSocket socket(bench.core, bench.port);
        ASSERT_EQ(post_without_memory(socket, 0), Status::kOk) << "socket " << i;
        EXPECT_EQ(socket.close(), 1U);
        deliver_all(bench.core);
        ASSERT_EQ(socket.record.closures(), 1);
    }
}

// The notifier is inside an upcall that needs the token, as a close does. Whoever holds the token has more to tell than the
// ring holds, and no memory.
TEST(PollingCoreNotices, NobodyWaitsForANotifierThatNeedsTheToken) {
    CoreBench bench(with_a_small_ring());
    ASSERT_EQ(bench.start(), "");
    constexpr std::uint64_t kPosts = 400;
    bench.port.reserve(kPosts);
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    struct Nothing final : ControlOp {
        void run() noexcept override {}
    };
    std::atomic<bool> inside{false};
    socket.record.on_notify = [&](const Completion&) {
        if (!inside.exchange(true)) {
            Nothing op;
            bench.core.run(op);
        }
    };
    for (std::uint64_t i = 0; i < kPosts; ++i) {
        post_patiently(socket, i, kNotify);
    }
    // The posts may have gone by a lane.
    ASSERT_TRUE(eventually([&] { return bench.port.count.load() == kPosts; }));
    ASSERT_TRUE(eventually([&] { return bench.core.try_acquire(); }));
    bench.port.arrivals.store(1);
    (void)bench.core.turn();
    EXPECT_TRUE(eventually([&] { return inside.load(); }));
    {
        const DeniedMemory denial(0, true);
        bench.port.arrivals.store(kPosts - 1);
        while (bench.port.arrivals.load() != 0) {
            (void)bench.core.turn();
        }
    }
    bench.core.release();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == kPosts; }));
    EXPECT_EQ(socket.record.notified, counting(kPosts));
    EXPECT_EQ(socket.close(), kPosts);
    EXPECT_TRUE(eventually([&] { return socket.record.closures() == 1; }));
}

}  // namespace
}  // namespace sanpoll::engine

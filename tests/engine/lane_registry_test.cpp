#include "engine/lane_registry.hpp"

#include <gtest/gtest.h>
#include <malloc.h>

#include <thread>
#include <vector>

#include "engine/lane.hpp"
#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::FakeSocket;
using tests::inline_config;

TEST(LaneRegistry, AThreadHasOneLaneToACore) {
    CoreBench bench(inline_config());
    Lane* mine = LaneRegistry::find_or_make(bench.core, 16);
    ASSERT_NE(mine, nullptr);
    EXPECT_EQ(LaneRegistry::find_or_make(bench.core, 16), mine);
    Lane* other = nullptr;
    std::thread([&] { other = LaneRegistry::find_or_make(bench.core, 16); }).join();
    EXPECT_NE(other, nullptr);
    EXPECT_NE(other, mine);
}

TEST(LaneRegistry, CoresHaveLanesOfTheirOwn) {
    const Config config;
    Notifier notifier(config);
    PollingCore first(config, Clock::steady(), tests::record_handlers(), notifier, 0);
    PollingCore second(config, Clock::steady(), tests::record_handlers(), notifier, 1);
    EXPECT_NE(LaneRegistry::find_or_make(first, 16), LaneRegistry::find_or_make(second, 16));
    LaneRegistry::forget_all();
}

TEST(LaneRegistry, AThreadsEndRetiresItsLaneAndTheRestIsDelivered) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    Lane* lane = nullptr;
    std::thread([&] {
        lane = LaneRegistry::find_or_make(bench.core, 64);
        for (std::uint64_t i = 0; i < 40; ++i) {
            ASSERT_EQ(socket.post(i), Status::kOk);
        }
        EXPECT_FALSE(lane->retired());
    }).join();
    ASSERT_NE(lane, nullptr);
    EXPECT_TRUE(lane->retired());
    while (bench.core.turn()) {
    }
    bench.core.release();
    EXPECT_EQ(socket.record.completions(), 40U);
}

TEST(LaneRegistry, LanesOfEndedThreadsAreFreed) {
    // Each lane takes a MiB. (The sanitizers' allocators tell nothing; leaks are theirs to find.)
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    const auto in_use = [] {
        const struct mallinfo2 info = ::mallinfo2();
        return info.uordblks + info.hblkhd;
    };
    std::size_t early = 0;
    const std::uint64_t threads = tests::scaled(500);
    for (std::uint64_t i = 0; i < threads; ++i) {
        std::thread([&] {
            ASSERT_NE(LaneRegistry::find_or_make(bench.core, 16384), nullptr);
        }).join();
        bench.core.poll_once();
        if (i == 20) {
            early = in_use();
        }
    }
    EXPECT_LT(in_use(), early + (64U << 20));
}

TEST(LaneRegistry, LanesOfAnEngineThatIsGoneAreForgotten) {
    for (int life = 0; life < 5; ++life) {
        CoreBench bench(inline_config());
        FakeSocket socket(bench.core, bench.port);
        ASSERT_TRUE(bench.core.try_acquire());
        ASSERT_EQ(socket.post(1), Status::kOk);  // by this thread's lane
        (void)bench.core.turn();
        bench.core.release();
        EXPECT_EQ(socket.record.completions(), 1U);
    }
}

TEST(LaneRegistry, AThreadMayOutliveTheEngine) {
    std::atomic<int> stage{0};
    std::thread thread;
    {
        CoreBench bench(inline_config());
        thread = std::thread([&] {
            EXPECT_NE(LaneRegistry::find_or_make(bench.core, 16), nullptr);
            stage.store(1);
            (void)tests::eventually([&] { return stage.load() == 2; });
        });
        ASSERT_TRUE(tests::eventually([&] { return stage.load() == 1; }));
    }
    stage.store(2);
    thread.join();  // retires nothing: the lane is gone (a sanitizer would tell)
}

// A destructor that runs after the registry's own, and posts.
struct Late {
    ~Late() {
        if (socket != nullptr) {
            status = socket->post(9) == Status::kOk ? 1 : 2;
        }
    }
    FakeSocket* socket = nullptr;
    static std::atomic<int> status;
};
std::atomic<int> Late::status{0};

TEST(LaneRegistry, AThreadsLastDestructorsMayStillPost) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    std::thread([&] {
        thread_local Late late;  // made before the thread's lanes, so destroyed after them
        late.socket = &socket;
        ASSERT_NE(LaneRegistry::find_or_make(bench.core, 16), nullptr);
    }).join();
    EXPECT_EQ(Late::status.load(), 1);
    EXPECT_EQ(socket.record.completions(), 1U);
}

TEST(LaneRegistry, ManyThreadsComeAndGoWhileTheCoreTurns) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    std::atomic<std::uint64_t> posts{0};
    std::vector<std::thread> spawners;
    for (int s = 0; s < 3; ++s) {
        spawners.emplace_back([&] {
            for (std::uint64_t i = 0; i < tests::scaled(200); ++i) {
                std::thread([&] {
                    for (int n = 0; n < 20; ++n) {
                        ASSERT_EQ(socket.post(0), Status::kOk);
                        posts.fetch_add(1);
                    }
                }).join();
            }
        });
    }
    for (std::thread& thread : spawners) {
        thread.join();
    }
    EXPECT_EQ(socket.close(), posts.load());
    EXPECT_EQ(socket.record.completions(), posts.load());
}

}  // namespace
}  // namespace sanpoll::engine

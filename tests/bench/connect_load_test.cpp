#include "bench/connect_load.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

namespace sanpoll::bench {
namespace {

// Connections that are accepted after some looks.
class FakeClient final : public ConnectClient {
public:
    explicit FakeClient(bool begin_connects) : begin_connects_(begin_connects) {}
    [[nodiscard]] bool begin_connects() const noexcept override { return begin_connects_; }
    void begin(std::size_t slot) override {
        ASSERT_EQ(looks_[slot], 0);
        ++begun_;
        looks_[slot] = 3;
        most_ = std::max(most_, ++under_way_);
    }
    bool accepted(std::size_t slot, ConnectWait, bool) override { return --looks_[slot] == 0; }
    void sleep(std::size_t) override { ++slept_; }
    void end(std::size_t) override { --under_way_; }
    void keep() override {}
    void drop() override {}

    std::uint64_t begun_ = 0;
    int under_way_ = 0;
    int most_ = 0;
    int slept_ = 0;

private:
    bool begin_connects_;
    std::array<int, kMostSlots> looks_{};
};

TEST(ConnectLoad, KeepsSoManyUnderWay) {
    FakeClient client(false);
    const ConnectTimes times = run_connects(client, SpinRule{}, 100, 4, ConnectWait::kSleep);
    EXPECT_EQ(times.connected.total(), 100U);
    EXPECT_EQ(times.whole.total(), 100U);
    EXPECT_EQ(client.begun_, 100U);
    EXPECT_EQ(client.most_, 4);
    EXPECT_EQ(client.under_way_, 0);
    EXPECT_GT(client.slept_, 0);
}

TEST(ConnectLoad, PollsWithoutSleeping) {
    FakeClient client(true);
    const ConnectTimes times = run_connects(client, SpinRule{}, 3, 8, ConnectWait::kPoll);
    EXPECT_EQ(times.connected.total(), 3U);
    EXPECT_EQ(times.whole.total(), 3U);
    EXPECT_EQ(client.most_, 3);
    EXPECT_EQ(client.slept_, 0);
}

}  // namespace
}  // namespace sanpoll::bench

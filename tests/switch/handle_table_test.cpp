#include "switch/handle_table.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

namespace sanpoll_switch::detail {
namespace {

std::atomic<int> recycled{0};

struct Object {
    std::atomic<int> value{0};
    void recycle() noexcept {
        value.store(0);
        recycled.fetch_add(1);
    }
};

using Table = HandleTable<Object, HandleKind::kEvent, 4>;

class HandleTableTest : public ::testing::Test {
protected:
    void SetUp() override { recycled.store(0); }
    std::uintptr_t open(int value = 1) {
        return table_->open([value](Object& object) { object.value.store(value); });
    }
    // On the heap like the real ones: 32 KB. Leaks its chunks as they do; one for the whole suite.
    static Table* table_;
};

Table* HandleTableTest::table_ = new Table;

TEST_F(HandleTableTest, LivingHandleReachesItsObject) {
    const auto handle = open(42);
    ASSERT_NE(handle, 0u);
    EXPECT_EQ(handle & 3, 0u);
    EXPECT_EQ(table_->pin(handle)->value.load(), 42);
    EXPECT_TRUE(table_->close(handle));
}

TEST_F(HandleTableTest, ClosedHandleIsDeadAlsoWhenTheSlotLivesAgain) {
    const auto first = open();
    ASSERT_TRUE(table_->close(first));
    EXPECT_EQ(recycled.load(), 1);
    EXPECT_FALSE(table_->pin(first));
    EXPECT_FALSE(table_->close(first));
    const auto second = open();
    EXPECT_NE(first, second);
    EXPECT_EQ(first & 0xFFFFFFFF, second & 0xFFFFFFFF);  // the same slot
    EXPECT_FALSE(table_->pin(first));
    EXPECT_TRUE(table_->pin(second));
    EXPECT_TRUE(table_->close(second));
}

TEST_F(HandleTableTest, ForgedHandlesAreRefused) {
    const auto handle = open();
    for (std::uintptr_t bit = 0; bit < 64; ++bit) {
        EXPECT_FALSE(table_->pin(handle ^ (std::uintptr_t{1} << bit))) << bit;
    }
    EXPECT_FALSE(table_->pin(0));
    EXPECT_FALSE(table_->pin(~std::uintptr_t{0}));
    HandleTable<Object, HandleKind::kSocket, 4> other_kind;
    EXPECT_FALSE(other_kind.pin(handle));
    EXPECT_TRUE(table_->close(handle));
}

TEST_F(HandleTableTest, PinKeepsTheObjectPastTheClose) {
    const auto handle = open(5);
    auto pin = table_->pin(handle);
    ASSERT_TRUE(pin);
    EXPECT_FALSE(pin.closed());
    bool told = false;
    EXPECT_TRUE(table_->close(handle, [&](Object& object) { told = object.value.load() == 5; }));
    EXPECT_TRUE(told);
    EXPECT_TRUE(pin.closed());
    EXPECT_EQ(pin->value.load(), 5);
    EXPECT_EQ(recycled.load(), 0);
    EXPECT_FALSE(table_->pin(handle));

    auto moved = std::move(pin);
    EXPECT_FALSE(pin);  // NOLINT(bugprone-use-after-move): emptiness is the contract
    EXPECT_EQ(recycled.load(), 0);
    moved.release();
    EXPECT_EQ(recycled.load(), 1);
}

TEST_F(HandleTableTest, HandlesAreDistinct) {
    std::set<std::uintptr_t> handles;
    for (int i = 0; i < 100; ++i)
        handles.insert(open());
    EXPECT_EQ(handles.size(), 100u);
    for (const auto handle : handles)
        EXPECT_TRUE(table_->close(handle));
}

TEST_F(HandleTableTest, FullTableAnswersZero) {
    static auto& small = *new HandleTable<Object, HandleKind::kPort, 1>;
    std::vector<std::uintptr_t> handles;
    for (std::size_t i = 0; i < small.kMaxChunks; ++i)
        handles.push_back(small.open([](Object&) {}));
    EXPECT_NE(handles.back(), 0u);
    EXPECT_EQ(small.open([](Object&) {}), 0u);
    EXPECT_TRUE(small.close(handles[7]));
    handles[7] = small.open([](Object&) {});
    EXPECT_NE(handles[7], 0u);
    for (const auto handle : handles)
        EXPECT_TRUE(small.close(handle));
}

TEST_F(HandleTableTest, OneOfSeveralClosersSucceeds) {
    for (int round = 0; round < 200; ++round) {
        const auto handle = open();
        std::atomic<int> closed{0};
        std::vector<std::thread> closers;
        closers.reserve(4);
        for (int i = 0; i < 3; ++i) {
            closers.emplace_back([&] { closed.fetch_add(table_->close(handle) ? 1 : 0); });
        }
        for (std::thread& closer : closers)
            closer.join();
        EXPECT_EQ(closed.load(), 1);
    }
    EXPECT_EQ(recycled.load(), 200);
}

// Whoever gets a pin sees the object of exactly that handle, although the slot changes hands all
// the time.
TEST_F(HandleTableTest, PinnedObjectIsNeverAnothers) {
    std::atomic<std::uintptr_t> current{0};
    std::atomic<bool> stop{false};
    std::vector<std::thread> users;
    users.reserve(4);
    for (int i = 0; i < 3; ++i) {
        users.emplace_back([&] {
            while (!stop.load()) {
                const auto handle = current.load();
                if (auto pin = table_->pin(handle)) {
                    // The value is the low half of the generation, set before the handle exists.
                    const int before = pin->value.load();
                    EXPECT_GT(before, 0);
                    EXPECT_EQ(pin->value.load(), before);
                }
            }
        });
    }
    for (int round = 1; round < 20000; ++round) {
        const auto handle = open(round);
        current.store(handle);
        EXPECT_TRUE(table_->close(handle));
    }
    stop.store(true);
    for (std::thread& user : users)
        user.join();
    EXPECT_EQ(recycled.load(), 19999);
}

}  // namespace
}  // namespace sanpoll_switch::detail

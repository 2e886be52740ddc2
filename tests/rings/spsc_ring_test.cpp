#include "rings/spsc_ring.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace sanpoll::rings {
namespace {

constexpr std::uint32_t kNearTheEnd = 0xFFFFFFFFU - 20;

// The memory of a ring with guard lines on both sides, quiescent at any position: as after `position`
// slots have been written and read.
class Memory {
public:
    explicit Memory(std::uint32_t capacity, std::uint32_t position = 0)
        : capacity_(capacity), position_(position), slots_(new Slot[capacity + 2]()) {
        for (const std::uint32_t guard : {0U, capacity + 1}) {
            std::fill(std::begin(slots_[guard].payload), std::end(slots_[guard].payload), kGuard);
            slots_[guard].sequence.store(0xC3C3C3C3);
        }
        if (position != 0) {
            for (std::uint32_t back = 1; back <= capacity; ++back) {
                const std::uint32_t written = position - back;
                slots_[1 + slot_index(written, capacity - 1)].sequence.store(written + 1);
            }
        }
        consumed_.value.store(position);
    }

    [[nodiscard]] SpscProducer producer() {
        return SpscProducer(&slots_[1], capacity_, &consumed_, position_);
    }
    [[nodiscard]] SpscConsumer consumer() {
        return SpscConsumer(&slots_[1], capacity_, &consumed_, position_);
    }
    [[nodiscard]] ConsumedWord& consumed() { return consumed_; }
    [[nodiscard]] Slot& slot(std::uint32_t index) { return slots_[1 + index]; }
    [[nodiscard]] bool holds(const std::byte* payload) const {
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            if (slots_[1 + i].payload == payload) {
                return true;
            }
        }
        return false;
    }
    [[nodiscard]] bool guards_intact() const {
        for (const std::uint32_t guard : {0U, capacity_ + 1}) {
            for (const std::byte value : slots_[guard].payload) {
                if (value != kGuard) {
                    return false;
                }
            }
            if (slots_[guard].sequence.load() != 0xC3C3C3C3) {
                return false;
            }
        }
        return true;
    }

private:
    static constexpr std::byte kGuard{0xC3};

    std::uint32_t capacity_;
    std::uint32_t position_;
    std::unique_ptr<Slot[]> slots_;
    ConsumedWord consumed_{};
};

TEST(SpscRing, IsEmptyWhenNew) {
    SpscRing ring(8);
    std::uint64_t value = 0;
    EXPECT_EQ(ring.consumer().front(), nullptr);
    EXPECT_FALSE(ring.consumer().try_pop(value));
    EXPECT_EQ(ring.producer().room(), 8U);
    EXPECT_FALSE(ring.producer().corrupt());
}

TEST(SpscRing, CapacityIsRoundedUpToAPowerOfTwo) {
    const std::array<std::array<std::uint32_t, 2>, 6> cases = {
        {{0, 2}, {1, 2}, {2, 2}, {3, 4}, {8, 8}, {1000, 1024}}};
    for (const auto& [asked, given] : cases) {
        SpscRing ring(asked);
        EXPECT_EQ(ring.producer().capacity(), given) << asked;
        EXPECT_EQ(ring.consumer().capacity(), given) << asked;
    }
}

TEST(SpscRing, EndsAreInLinesOfTheirOwn) {
    SpscRing ring(8);
    const auto producer = reinterpret_cast<std::uintptr_t>(&ring.producer());
    const auto consumer = reinterpret_cast<std::uintptr_t>(&ring.consumer());
    EXPECT_EQ(producer % kCacheLine, 0U);
    EXPECT_EQ(consumer % kCacheLine, 0U);
    EXPECT_GE(consumer - producer, kCacheLine);
}

TEST(SpscRing, TakesExactlyItsCapacity) {
    SpscRing ring(8);
    for (std::uint64_t i = 0; i < 8; ++i) {
        EXPECT_TRUE(ring.producer().try_push(i)) << i;
    }
    EXPECT_FALSE(ring.producer().has_room(1));
    EXPECT_FALSE(ring.producer().try_push(std::uint64_t{8}));
    EXPECT_FALSE(ring.producer().corrupt());
}

TEST(SpscRing, GivesBackInOrder) {
    SpscRing ring(8);
    for (std::uint64_t i = 0; i < 1000; ++i) {
        ASSERT_TRUE(ring.producer().try_push(i));
        std::uint64_t value = ~0ULL;
        ASSERT_TRUE(ring.consumer().try_pop(value));
        ASSERT_EQ(value, i);
    }
    EXPECT_EQ(ring.consumer().front(), nullptr);
}

TEST(SpscRing, FillsAndEmptiesManyTimes) {
    SpscRing ring(16);
    std::uint64_t next = 0;
    for (int lap = 0; lap < 100; ++lap) {
        for (std::uint64_t i = 0; i < 16; ++i) {
            ASSERT_TRUE(ring.producer().try_push(next + i)) << lap;
        }
        ASSERT_FALSE(ring.producer().try_push(next));
        for (std::uint64_t i = 0; i < 16; ++i) {
            std::uint64_t value = ~0ULL;
            ASSERT_TRUE(ring.consumer().try_pop(value));
            ASSERT_EQ(value, next + i);
        }
        std::uint64_t value = 0;
        ASSERT_FALSE(ring.consumer().try_pop(value));
        next += 16;
    }
}

TEST(SpscRing, CarriesAWholeSlot) {
    struct Full {
        std::array<std::uint8_t, kSlotPayload> bytes;
    };
    SpscRing ring(4);
    Full in{};
    std::iota(in.bytes.begin(), in.bytes.end(), std::uint8_t{1});
    ASSERT_TRUE(ring.producer().try_push(in));
    Full out{};
    ASSERT_TRUE(ring.consumer().try_pop(out));
    EXPECT_EQ(in.bytes, out.bytes);
}

TEST(SpscRing, FrontStaysUntilItIsReleased) {
    SpscRing ring(4);
    ASSERT_TRUE(ring.producer().try_push(std::uint64_t{7}));
    const std::byte* first = ring.consumer().front();
    ASSERT_NE(first, nullptr);
    EXPECT_EQ(ring.consumer().front(), first);
    EXPECT_EQ(ring.consumer().front_with_second_line(), first);
    ring.consumer().release(1);
    EXPECT_EQ(ring.consumer().front(), nullptr);
    EXPECT_EQ(ring.consumer().front_with_second_line(), nullptr);
}

TEST(SpscRing, ProgressIsPublishedEveryEighthOfTheCapacity) {
    for (const std::uint32_t capacity : {8U, 64U, 1024U}) {
        Memory memory(capacity);
        SpscProducer producer = memory.producer();
        SpscConsumer consumer = memory.consumer();
        for (std::uint32_t i = 0; i < capacity; ++i) {
            ASSERT_TRUE(producer.try_push(i));
        }
        std::uint32_t value = 0;
        for (std::uint32_t i = 1; i <= capacity; ++i) {
            ASSERT_TRUE(consumer.try_pop(value));
            const std::uint32_t step = capacity / 8;
            ASSERT_EQ(memory.consumed().value.load(), i / step * step) << capacity;
            ASSERT_EQ(producer.room(), i / step * step) << capacity;
        }
    }
}

TEST(SpscRing, RingsOfLessThanEightPublishEverySlot) {
    Memory memory(4);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    std::uint32_t value = 0;
    for (std::uint32_t i = 0; i < 4; ++i) {
        ASSERT_TRUE(producer.try_push(i));
        ASSERT_TRUE(consumer.try_pop(value));
        EXPECT_EQ(memory.consumed().value.load(), i + 1);
    }
}

TEST(SpscRing, PublishProgressTellsAtOnce) {
    SpscRing ring(64);
    for (std::uint32_t i = 0; i < 64; ++i) {
        ASSERT_TRUE(ring.producer().try_push(i));
    }
    std::uint32_t value = 0;
    ASSERT_TRUE(ring.consumer().try_pop(value));
    EXPECT_FALSE(ring.producer().has_room(1));
    ring.consumer().publish_progress();
    EXPECT_TRUE(ring.producer().has_room(1));
    EXPECT_FALSE(ring.producer().has_room(2));
}

// ---- batches ----------------------------------------------------------------------------------------

TEST(SpscRingBatch, PushesWhatFits) {
    SpscRing ring(8);
    std::vector<std::uint32_t> values(5);
    std::iota(values.begin(), values.end(), 0U);
    EXPECT_EQ(ring.producer().push_batch(std::span<const std::uint32_t>(values)), 5U);
    EXPECT_EQ(ring.producer().push_batch(std::span<const std::uint32_t>(values)), 3U);
    EXPECT_EQ(ring.producer().push_batch(std::span<const std::uint32_t>(values)), 0U);
    std::vector<std::uint32_t> out(10, 99);
    EXPECT_EQ(ring.consumer().pop_batch(std::span<std::uint32_t>(out)), 8U);
    const std::vector<std::uint32_t> wanted = {0, 1, 2, 3, 4, 0, 1, 2, 99, 99};
    EXPECT_EQ(out, wanted);
}

TEST(SpscRingBatch, MoreThanTheCapacityIsCut) {
    SpscRing ring(8);
    std::vector<std::uint32_t> values(100, 3);
    EXPECT_EQ(ring.producer().push_batch(std::span<const std::uint32_t>(values)), 8U);
}

TEST(SpscRingBatch, NothingIsNothing) {
    SpscRing ring(8);
    EXPECT_EQ(ring.producer().push_batch(std::span<const std::uint32_t>()), 0U);
    EXPECT_EQ(ring.consumer().pop_batch(std::span<std::uint32_t>()), 0U);
    std::uint32_t one = 0;
    EXPECT_EQ(ring.consumer().pop_batch(std::span<std::uint32_t>(&one, 1)), 0U);
}

TEST(SpscRingBatch, PopPublishesProgressOnceABatch) {
    Memory memory(64);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    const std::vector<std::uint32_t> values(64, 1);
    ASSERT_EQ(producer.push_batch(std::span<const std::uint32_t>(values)), 64U);
    std::vector<std::uint32_t> out(7);
    ASSERT_EQ(consumer.pop_batch(std::span<std::uint32_t>(out)), 7U);
    EXPECT_EQ(memory.consumed().value.load(), 0U);
    out.resize(20);
    ASSERT_EQ(consumer.pop_batch(std::span<std::uint32_t>(out)), 20U);
    EXPECT_EQ(memory.consumed().value.load(), 27U);
}

// ---- records of several slots -----------------------------------------------------------------------

TEST(SpscRingRecord, IsInvisibleUntilItIsPublished) {
    SpscRing ring(8);
    ASSERT_TRUE(ring.producer().has_room(3));
    for (std::uint32_t i = 0; i < 3; ++i) {
        std::memset(ring.producer().payload(i), static_cast<int>(i + 1), kSlotPayload);
    }
    EXPECT_EQ(ring.consumer().front(), nullptr);
    ring.producer().publish_record(3);
    ASSERT_NE(ring.consumer().front(), nullptr);
    for (std::uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(ring.consumer().payload(i)[0], static_cast<std::byte>(i + 1));
        EXPECT_EQ(ring.consumer().payload(i)[kSlotPayload - 1], static_cast<std::byte>(i + 1));
    }
}

TEST(SpscRingRecord, FollowingSlotsCarrySequenceWordsToo) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    ASSERT_TRUE(producer.has_room(5));
    producer.publish_record(5);
    for (std::uint32_t i = 0; i < 8; ++i) {
        EXPECT_EQ(memory.slot(slot_index(i, 7)).sequence.load(), i < 5 ? i + 1 : 0U) << i;
    }
}

TEST(SpscRingRecord, WrapsAroundTheEndOfTheRing) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    for (std::uint32_t n = 0; n < 200; ++n) {
        const std::uint32_t slots = n % 5 + 1;
        ASSERT_TRUE(producer.has_room(slots)) << n;
        for (std::uint32_t i = 0; i < slots; ++i) {
            const std::uint32_t value = n * 8 + i;
            std::memcpy(producer.payload(i), &value, sizeof(value));
        }
        producer.publish_record(slots);
        ASSERT_NE(consumer.front(), nullptr) << n;
        for (std::uint32_t i = 0; i < slots; ++i) {
            std::uint32_t value = 0;
            std::memcpy(&value, consumer.payload(i), sizeof(value));
            ASSERT_EQ(value, n * 8 + i);
        }
        consumer.release(slots);
        ASSERT_EQ(consumer.front(), nullptr);
    }
    EXPECT_TRUE(memory.guards_intact());
}

TEST(SpscRingRecord, HasRoomCountsAllItsSlots) {
    SpscRing ring(8);
    ASSERT_TRUE(ring.producer().has_room(5));
    ring.producer().publish_record(5);
    EXPECT_FALSE(ring.producer().has_room(5));
    EXPECT_TRUE(ring.producer().has_room(3));
    ring.consumer().release(5);
    EXPECT_TRUE(ring.producer().has_room(8));
}

// ---- positions pass 2^32 ----------------------------------------------------------------------------

TEST(SpscRingWrap, SingleSlotsGoOn) {
    Memory memory(8, kNearTheEnd);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    EXPECT_EQ(consumer.front(), nullptr);
    for (std::uint32_t i = 0; i < 100; ++i) {
        ASSERT_TRUE(producer.try_push(i)) << i;
        std::uint32_t value = ~0U;
        ASSERT_TRUE(consumer.try_pop(value)) << i;
        ASSERT_EQ(value, i);
        ASSERT_EQ(consumer.front(), nullptr) << i;
    }
    EXPECT_EQ(producer.position(), kNearTheEnd + 100);
    EXPECT_LT(producer.position(), 100U);
    EXPECT_FALSE(producer.corrupt());
}

TEST(SpscRingWrap, FullIsFullAtEveryPosition) {
    for (std::uint32_t start = 0xFFFFFFFFU - 40; start != 40; ++start) {
        Memory memory(16, start);
        SpscProducer producer = memory.producer();
        SpscConsumer consumer = memory.consumer();
        ASSERT_EQ(consumer.front(), nullptr) << start;
        for (std::uint32_t i = 0; i < 16; ++i) {
            ASSERT_TRUE(producer.try_push(i)) << start;
        }
        ASSERT_FALSE(producer.try_push(16U)) << start;
        ASSERT_FALSE(producer.corrupt()) << start;
        std::array<std::uint32_t, 20> out{};
        ASSERT_EQ(consumer.pop_batch(std::span<std::uint32_t>(out)), 16U) << start;
        ASSERT_EQ(out[15], 15U);
        ASSERT_EQ(producer.room(), 16U) << start;
    }
}

TEST(SpscRingWrap, BatchesAndRecordsGoOn) {
    Memory memory(32, kNearTheEnd);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    std::mt19937 random(7);
    std::uint32_t written = 0;
    std::uint32_t read = 0;
    while (read < 5000) {
        const std::uint32_t slots = random() % 5 + 1;
        if (producer.has_room(slots)) {
            for (std::uint32_t i = 0; i < slots; ++i, ++written) {
                std::memcpy(producer.payload(i), &written, sizeof(written));
            }
            producer.publish_record(slots);
        }
        for (std::uint32_t n = random() % 6; n-- > 0 && consumer.front() != nullptr;) {
            std::uint32_t value = ~0U;
            std::memcpy(&value, consumer.front(), sizeof(value));
            ASSERT_EQ(value, read);
            consumer.release(1);
            ++read;
        }
    }
    EXPECT_FALSE(producer.corrupt());
    EXPECT_TRUE(memory.guards_intact());
}

// ---- the other side lies ----------------------------------------------------------------------------

TEST(SpscRingCorrupt, ProgressBeyondWhatWasWrittenIsDetected) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    for (std::uint32_t i = 0; i < 8; ++i) {
        ASSERT_TRUE(producer.try_push(i));
    }
    memory.consumed().value.store(9);
    EXPECT_FALSE(producer.has_room(1));
    EXPECT_TRUE(producer.corrupt());
}

TEST(SpscRingCorrupt, ProgressThatGoesBackIsDetected) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    SpscConsumer consumer = memory.consumer();
    std::uint32_t value = 0;
    for (std::uint32_t i = 0; i < 8; ++i) {
        ASSERT_TRUE(producer.try_push(i));
        ASSERT_TRUE(consumer.try_pop(value));
    }
    ASSERT_EQ(producer.room(), 8U);  // has seen 8
    memory.consumed().value.store(7);
    EXPECT_EQ(producer.room(), 0U);
    EXPECT_TRUE(producer.corrupt());
}

TEST(SpscRingCorrupt, ProgressOfEverythingWrittenIsHonest) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    for (std::uint32_t i = 0; i < 8; ++i) {
        ASSERT_TRUE(producer.try_push(i));
    }
    memory.consumed().value.store(8);
    EXPECT_EQ(producer.room(), 8U);
    EXPECT_FALSE(producer.corrupt());
}

TEST(SpscRingCorrupt, StaysSoWhenTheLieIsTakenBack) {
    Memory memory(8);
    SpscProducer producer = memory.producer();
    for (std::uint32_t i = 0; i < 8; ++i) {
        ASSERT_TRUE(producer.try_push(i));
    }
    memory.consumed().value.store(0x80000000U);
    EXPECT_FALSE(producer.has_room(1));
    memory.consumed().value.store(8);
    EXPECT_FALSE(producer.has_room(1));
    EXPECT_EQ(producer.room(), 0U);
    EXPECT_FALSE(producer.try_push(1U));
    const std::vector<std::uint32_t> values(3, 1);
    EXPECT_EQ(producer.push_batch(std::span<const std::uint32_t>(values)), 0U);
    EXPECT_TRUE(producer.corrupt());
}

TEST(SpscRingCorrupt, NoProgressWordLeadsOutsideTheRing) {
    std::mt19937 random(20);
    int corrupt = 0;
    for (int round = 0; round < 2000; ++round) {
        const std::uint32_t start = round % 2 == 0 ? 0 : 0xFFFFFFFFU - random() % 64;
        Memory memory(16, start);
        SpscProducer producer = memory.producer();
        for (int step = 0; step < 50; ++step) {
            const std::uint32_t word =
                random() % 2 == 0 ? random() : producer.position() - random() % 40 + 4;
            memory.consumed().value.store(word);
            const std::uint32_t wanted = random() % 20;
            if (producer.has_room(wanted)) {
                ASSERT_LE(wanted, 16U);
                for (std::uint32_t i = 0; i < wanted; ++i) {
                    ASSERT_TRUE(memory.holds(producer.payload(i)));
                    std::memset(producer.payload(i), 0x5A, kSlotPayload);
                }
                if (wanted != 0) {
                    producer.publish_record(wanted);
                }
            }
            ASSERT_LE(producer.room(), 16U);
        }
        corrupt += producer.corrupt() ? 1 : 0;
        ASSERT_TRUE(memory.guards_intact());
    }
    EXPECT_GT(corrupt, 1000);
}

TEST(SpscRingCorrupt, NoSequenceWordLeadsTheReaderOutsideTheRing) {
    std::mt19937 random(21);
    Memory memory(16, kNearTheEnd);
    SpscConsumer consumer = memory.consumer();
    int seen = 0;
    for (int step = 0; step < 20000; ++step) {
        memory.slot(random() % 16)
            .sequence.store(random() % 2 == 0 ? random() : consumer.position() + random() % 4);
        if (const std::byte* head = consumer.front(); head != nullptr) {
            ++seen;
            ASSERT_TRUE(memory.holds(head));
            consumer.release(random() % 6);
        }
        ASSERT_TRUE(memory.holds(consumer.payload(random())));
    }
    EXPECT_GT(seen, 100);
    EXPECT_TRUE(memory.guards_intact());
}

}  // namespace
}  // namespace sanpoll::rings

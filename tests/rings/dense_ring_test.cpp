#include "rings/dense_ring.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace sanpoll::rings {
namespace {

struct Wide {
    std::uint64_t words[8] = {};
    friend bool operator==(const Wide&, const Wide&) = default;
};

struct Pair {
    std::uint64_t words[2] = {};
    friend bool operator==(const Pair&, const Pair&) = default;
};

template <typename T>
T made_of(std::uint64_t number) {
    T value;
    std::array<std::uint64_t, sizeof(T) / 8> words;
    for (std::size_t i = 0; i < words.size(); ++i)
        words[i] = number * 1000003 * i + number;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    return value;
}

// The memory of a ring, to look at and to lie in.
template <typename T>
struct Memory {
    explicit Memory(std::uint32_t size, std::uint32_t start = 0)
        : capacity(size),
          position(start),
          lines(new Line[size * sizeof(T) / kCacheLine]()),
          escaped(size),
          written(size),
          found(size) {
        announced.value.store(start);
        consumed.value.store(start);
    }

    struct alignas(kCacheLine) Line {
        std::uint64_t words[8];
    };
    [[nodiscard]] DenseCells<T> cells() {
        return {lines[0].words, escaped.data(), &announced, &consumed, capacity};
    }
    [[nodiscard]] DenseProducer<T> producer() {
        return DenseProducer<T>(cells(), written.data(), position);
    }
    [[nodiscard]] DenseConsumer<T> consumer() {
        return DenseConsumer<T>(cells(), found.data(), position);
    }
    [[nodiscard]] std::size_t escapes() const {
        return escaped.size() - static_cast<std::size_t>(
                                    std::count(escaped.begin(), escaped.end(), std::uint64_t{0}));
    }

    std::uint32_t capacity;
    std::uint32_t position;
    std::unique_ptr<Line[]> lines;
    std::vector<std::uint64_t> escaped;
    std::vector<std::uint64_t> written;
    std::vector<std::uint64_t> found;
    AnnouncedWord announced{};
    ConsumedWord consumed{};
};

// A consumer in a stream sees what is not announced a little later: so many looks are always enough.
template <typename Pop>
bool within_patience(Pop&& pop) {
    for (int i = 0; i < 10'000'000; ++i) {
        if (pop()) return true;
    }
    return false;
}

template <typename T>
class DenseRingOf : public testing::Test {};
using Elements = testing::Types<std::uint64_t, Pair, Wide>;
TYPED_TEST_SUITE(DenseRingOf, Elements);

TYPED_TEST(DenseRingOf, IsEmptyWhenNew) {
    DenseRing<TypeParam> ring(64);
    TypeParam value{};
    EXPECT_FALSE(ring.consumer().try_pop(value));
    EXPECT_FALSE(ring.producer().corrupt());
    EXPECT_EQ(ring.producer().capacity(), 64U);
}

TYPED_TEST(DenseRingOf, TakesExactlyItsCapacity) {
    DenseRing<TypeParam> ring(32);
    for (std::uint64_t i = 0; i < 32; ++i)
        EXPECT_TRUE(ring.producer().try_push(made_of<TypeParam>(i))) << i;
    EXPECT_FALSE(ring.producer().try_push(made_of<TypeParam>(32)));
    EXPECT_FALSE(ring.producer().corrupt());
    for (std::uint64_t i = 0; i < 32; ++i) {
        TypeParam value{};
        ASSERT_TRUE(within_patience([&] { return ring.consumer().try_pop(value); })) << i;
        EXPECT_EQ(value, made_of<TypeParam>(i));
    }
    ring.consumer().publish_progress();
    EXPECT_TRUE(ring.producer().try_push(made_of<TypeParam>(32)));
}

// What is alone is seen by the first look, as long as nothing like a stream came before.
TYPED_TEST(DenseRingOf, SeesASingleElementAtOnce) {
    DenseRing<TypeParam> ring(64);
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_TRUE(ring.producer().try_push(made_of<TypeParam>(i)));
        TypeParam value{};
        ASSERT_TRUE(ring.consumer().try_pop(value));
        EXPECT_EQ(value, made_of<TypeParam>(i));
        EXPECT_FALSE(ring.consumer().streaming());
    }
}

// Trying for a stream where there is none must become rare: it makes the next element wait.
TYPED_TEST(DenseRingOf, TriesSeldomWhereThereIsNoStream) {
    DenseRing<TypeParam> ring(64);
    int tries = 0;
    for (std::uint64_t i = 0; i < 20'000; ++i) {
        ASSERT_TRUE(ring.producer().try_push(made_of<TypeParam>(i)));
        TypeParam value{};
        ASSERT_TRUE(within_patience([&] { return ring.consumer().try_pop(value); }));
        ASSERT_EQ(value, made_of<TypeParam>(i));
        if (ring.consumer().streaming()) {
            ++tries;
            // Nothing comes meanwhile.
            ASSERT_TRUE(within_patience([&] {
                TypeParam none{};
                EXPECT_FALSE(ring.consumer().try_pop(none));
                return !ring.consumer().streaming();
            }));
        }
    }
    EXPECT_GE(tries, 1);
    EXPECT_LE(tries, 16);  // 16, 32, ... 4096, and every 4096 then
}

// Against a queue of the library: any mix of calls, any values, many laps.
template <typename T>
void compare_with_a_model(std::uint32_t capacity, std::uint64_t seed, bool few_values) {
    std::mt19937_64 random(seed);
    DenseRing<T> ring(capacity);
    std::deque<T> model;
    const auto next = [&] { return made_of<T>(few_values ? random() % 3 : random()); };
    for (int step = 0; step < 30'000; ++step) {
        switch (random() % 4) {
            case 0: {
                const T value = next();
                if (ring.producer().try_push(value)) model.push_back(value);
                break;
            }
            case 1: {
                std::vector<T> values(random() % 40);
                for (T& value : values)
                    value = next();
                const std::size_t pushed = ring.producer().push_batch(values);
                ASSERT_LE(pushed, values.size());
                model.insert(model.end(), values.begin(),
                             values.begin() + static_cast<std::ptrdiff_t>(pushed));
                break;
            }
            case 2: {
                T value{};
                if (ring.consumer().try_pop(value)) {
                    ASSERT_FALSE(model.empty());
                    ASSERT_EQ(value, model.front());
                    model.pop_front();
                }
                break;
            }
            default: {
                std::vector<T> values(random() % 40);
                const std::size_t popped = ring.consumer().pop_batch(values);
                ASSERT_LE(popped, model.size());
                for (std::size_t i = 0; i < popped; ++i) {
                    ASSERT_EQ(values[i], model.front()) << step;
                    model.pop_front();
                }
            }
        }
        ASSERT_LE(model.size(), ring.producer().capacity());
    }
    T value{};
    while (!model.empty()) {
        ASSERT_TRUE(within_patience([&] { return ring.consumer().try_pop(value); }));
        ASSERT_EQ(value, model.front());
        model.pop_front();
    }
    EXPECT_FALSE(ring.producer().corrupt());
}

TYPED_TEST(DenseRingOf, DoesWhatAQueueDoes) {
    for (const std::uint32_t capacity : {16U, 64U, 1024U})
        compare_with_a_model<TypeParam>(capacity, capacity, false);
}

TYPED_TEST(DenseRingOf, EqualElementsAreElementsToo) {
    for (const std::uint32_t capacity : {16U, 64U, 1024U})
        compare_with_a_model<TypeParam>(capacity, capacity + 1, true);
}

// Every word that could look like something else: what a cell held before, a mark, nothing.
TEST(DenseRingEscapes, CarryWhateverIsMeantToConfuse) {
    constexpr std::uint32_t kCapacity = 16;
    for (const bool in_batches : {false, true}) {
        Memory<std::uint64_t> memory(kCapacity);
        auto producer = memory.producer();
        auto consumer = memory.consumer();
        std::mt19937_64 random(7);
        std::size_t most_escapes = 0;
        for (int lap = 0; lap < 200; ++lap) {
            const auto key = dense::kKeys[lap % 2];
            std::array<std::uint64_t, kCapacity> values;
            for (std::uint32_t i = 0; i < kCapacity; ++i) {
                const std::uint64_t confusing[] = {memory.lines[i / 8].words[i % 8] ^ key,
                                                   dense::kMarks[0] ^ key,
                                                   dense::kMarks[1] ^ key,
                                                   key,
                                                   random(),
                                                   0};
                values[i] = confusing[random() % std::size(confusing)];
            }
            if (in_batches) {
                ASSERT_EQ(producer.push_batch(values), kCapacity);
            } else {
                for (const std::uint64_t value : values)
                    ASSERT_TRUE(producer.try_push(value));
            }
            most_escapes = std::max(most_escapes, memory.escapes());
            for (std::uint32_t i = 0; i < kCapacity;) {
                std::array<std::uint64_t, kCapacity> got{};
                std::size_t count = 0;
                ASSERT_TRUE(within_patience([&] {
                    count = in_batches ? consumer.pop_batch(got) : consumer.try_pop(got[0]);
                    return count > 0;
                }));
                for (std::size_t k = 0; k < count; ++k, ++i)
                    ASSERT_EQ(got[k], values[i]) << "lap " << lap << ", cell " << i;
            }
            consumer.publish_progress();
        }
        EXPECT_GT(most_escapes, 0U);
    }
}

TEST(DenseRingEscapes, AreNotNeededForOrdinaryValues) {
    Memory<std::uint64_t> memory(64);
    auto producer = memory.producer();
    auto consumer = memory.consumer();
    for (std::uint64_t i = 0; i < 10'000; ++i) {
        ASSERT_TRUE(producer.try_push(i % 5 == 0 ? 0 : i));
        std::uint64_t value = 1;
        ASSERT_TRUE(within_patience([&] { return consumer.try_pop(value); }));
    }
    EXPECT_EQ(memory.escapes(), 0U);
}

TEST(DenseRingProgress, IsToldEveryEighth) {
    Memory<std::uint64_t> memory(64);
    auto producer = memory.producer();
    auto consumer = memory.consumer();
    for (std::uint32_t i = 1; i <= 64; ++i) {
        ASSERT_TRUE(producer.try_push(i));
        std::uint64_t value = 0;
        ASSERT_TRUE(within_patience([&] { return consumer.try_pop(value); }));
        EXPECT_EQ(memory.consumed.value.load(), i / 8 * 8);
    }
}

TEST(DenseRingProgress, OfTheProducerIsAnnouncedNowAndThen) {
    Memory<std::uint64_t> memory(1024);
    auto producer = memory.producer();
    const std::uint32_t every = DenseCells<std::uint64_t>::announce_every(1024);
    ASSERT_GE(every, 8U);
    for (std::uint32_t i = 1; i <= 1024; ++i) {
        ASSERT_TRUE(producer.try_push(i));
        EXPECT_EQ(memory.announced.value.load(), i / every * every);
    }
}

TEST(DenseRingHostile, ProgressThatCannotBeMakesTheProducerStop) {
    for (const std::uint32_t lie : {17U, 1000U, 0xFFFFFFFFU, 0x80000000U}) {
        Memory<std::uint64_t> memory(16);
        auto producer = memory.producer();
        for (std::uint64_t i = 0; i < 16; ++i)
            ASSERT_TRUE(producer.try_push(i));
        memory.consumed.value.store(lie);
        EXPECT_FALSE(producer.try_push(16));
        EXPECT_TRUE(producer.corrupt());
        memory.consumed.value.store(16);
        const std::array<std::uint64_t, 3> more = {1, 2, 3};
        EXPECT_FALSE(producer.try_push(16));
        EXPECT_EQ(producer.push_batch(more), 0U);
    }
}

TEST(DenseRingHostile, ProgressThatGoesBackIsDetected) {
    Memory<std::uint64_t> memory(16);
    auto producer = memory.producer();
    for (std::uint64_t i = 0; i < 16; ++i)
        ASSERT_TRUE(producer.try_push(i));
    memory.consumed.value.store(8);
    for (std::uint64_t i = 0; i < 8; ++i)
        ASSERT_TRUE(producer.try_push(i));
    memory.consumed.value.store(4);
    EXPECT_FALSE(producer.try_push(0));
    EXPECT_TRUE(producer.corrupt());
}

// Whatever a producer writes anywhere, a consumer stays in its memory (a sanitizer watches) and returns.
TYPED_TEST(DenseRingOf, SurvivesAnyProducer) {
    std::mt19937_64 random(3);
    Memory<TypeParam> memory(64);
    auto consumer = memory.consumer();
    std::array<TypeParam, 48> values;
    for (int i = 0; i < 20'000; ++i) {
        memory.announced.value.store(static_cast<std::uint32_t>(
            random() % 2 == 0 ? random() : consumer.position() + random() % 70));
        memory.lines[random() % (64 * sizeof(TypeParam) / kCacheLine)].words[random() % 8] =
            random() % 4 == 0 ? dense::kMarks[random() % 2] : random();
        const std::uint32_t before = consumer.position();
        const std::size_t count = consumer.pop_batch(values);
        ASSERT_LE(count, values.size());
        ASSERT_EQ(consumer.position() - before, count);
    }
}

// Positions are numbers modulo 2^32.
TYPED_TEST(DenseRingOf, GoesOnBeyondTheLastNumber) {
    for (const std::uint32_t capacity : {16U, 64U}) {
        const std::uint32_t start = 0U - 5 * capacity - 3;
        Memory<TypeParam> memory(capacity, start);
        auto producer = memory.producer();
        auto consumer = memory.consumer();
        std::array<TypeParam, 11> in;
        std::array<TypeParam, 11> out;
        std::uint64_t written = 0;
        std::uint64_t read = 0;
        for (int i = 0; i < 200; ++i) {
            for (std::size_t k = 0; k < in.size(); ++k)
                in[k] = made_of<TypeParam>(written + k);
            written += producer.push_batch(in);
            std::size_t got = 0;
            ASSERT_TRUE(within_patience([&] { return (got = consumer.pop_batch(out)) != 0; }));
            for (std::size_t k = 0; k < got; ++k)
                ASSERT_EQ(out[k], made_of<TypeParam>(read++));
        }
        EXPECT_LT(producer.position(), start);
        EXPECT_FALSE(producer.corrupt());
    }
}

// A full ring is full at every position, and not by one element more.
TYPED_TEST(DenseRingOf, IsFullAtEveryPosition) {
    for (std::uint32_t start = 0U - 20; start != 20; ++start) {
        Memory<TypeParam> memory(16, start);
        auto producer = memory.producer();
        for (std::uint64_t i = 0; i < 16; ++i)
            ASSERT_TRUE(producer.try_push(made_of<TypeParam>(i)));
        EXPECT_FALSE(producer.try_push(made_of<TypeParam>(16)));
        EXPECT_FALSE(producer.corrupt());
    }
}

TEST(DenseRing, CapacityIsRoundedUpToAPairOfLinesAndAPowerOfTwo) {
    EXPECT_EQ(DenseRing<std::uint64_t>(1).producer().capacity(), 16U);
    EXPECT_EQ(DenseRing<std::uint64_t>(17).producer().capacity(), 32U);
    EXPECT_EQ(DenseRing<Wide>(1).producer().capacity(), 2U);
    EXPECT_EQ(DenseRing<Wide>(1000).producer().capacity(), 1024U);
}

TEST(DenseRing, EndsAreInLinesOfTheirOwn) {
    DenseRing<std::uint64_t> ring(64);
    const auto producer = reinterpret_cast<std::uintptr_t>(&ring.producer());
    const auto consumer = reinterpret_cast<std::uintptr_t>(&ring.consumer());
    EXPECT_EQ(producer % kCacheLine, 0U);
    EXPECT_EQ(consumer % kCacheLine, 0U);
    EXPECT_GE(consumer - producer, sizeof(DenseProducer<std::uint64_t>));
}

}  // namespace
}  // namespace sanpoll::rings

// Order and integrity under true concurrency: more threads than cores, and two processes.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "rings/spsc_ring.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::rings {
namespace {

using tests::scaled;

constexpr std::uint32_t kMaxSlots = 5;

// On a machine with fewer cores than threads a spinning thread must make way for its partner.
class Patience {
public:
    void wait() noexcept {
        if (++tries_ % 32 == 0) {
            std::this_thread::yield();
        } else {
            cpu_pause();
        }
    }

private:
    std::uint32_t tries_ = 0;
};

std::uint64_t mix(std::uint64_t value) noexcept {
    value += 0x9E3779B97F4A7C15ULL;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31);
}

// What slot `part` of record `number` of stream `seed` holds: every byte follows from these three.
void fill(std::byte* payload, std::uint64_t seed, std::uint64_t number, std::uint32_t part) {
    constexpr std::uint32_t kWords = 15;
    std::uint64_t words[kWords];
    for (std::uint32_t i = 0; i < kWords; ++i) {
        words[i] = mix(seed ^ mix(number * 128 + part * 16 + i));
    }
    words[0] = number;
    std::memcpy(payload, words, sizeof(words));
    const auto tail = static_cast<std::uint32_t>(words[1] ^ words[kWords - 1]);
    static_assert(sizeof(words) + sizeof(tail) == kSlotPayload);
    std::memcpy(payload + sizeof(words), &tail, sizeof(tail));
}

bool as_filled(const std::byte* payload, std::uint64_t seed, std::uint64_t number,
               std::uint32_t part) {
    std::byte wanted[kSlotPayload];
    fill(wanted, seed, number, part);
    return std::memcmp(payload, wanted, kSlotPayload) == 0;
}

std::uint32_t slots_of(std::uint64_t seed, std::uint64_t number) {
    return static_cast<std::uint32_t>(mix(seed + number) % kMaxSlots) + 1;
}

void produce(SpscProducer& producer, std::uint64_t seed, std::uint64_t count) {
    Patience patience;
    for (std::uint64_t number = 0; number < count; ++number) {
        const std::uint32_t slots = slots_of(seed, number);
        while (!producer.has_room(slots)) {
            patience.wait();
        }
        for (std::uint32_t i = 0; i < slots; ++i) {
            fill(producer.payload(i), seed, number, i);
        }
        producer.publish_record(slots);
    }
}

// Returns how many records were as they should be.
std::uint64_t consume(SpscConsumer& consumer, std::uint64_t seed, std::uint64_t count) {
    Patience patience;
    std::uint64_t good = 0;
    for (std::uint64_t number = 0; number < count; ++number) {
        const auto nothing = [&] {
            return (number % 2 == 0 ? consumer.front() : consumer.front_with_second_line()) ==
                   nullptr;
        };
        while (nothing()) {
            patience.wait();
        }
        const std::uint32_t slots = slots_of(seed, number);
        bool sound = true;
        for (std::uint32_t i = 0; i < slots; ++i) {
            sound = sound && as_filled(consumer.payload(i), seed, number, i);
        }
        good += sound ? 1 : 0;
        consumer.release(slots);
    }
    return good;
}

TEST(SpscRingStress, RecordsKeepOrderAndBytesWithMoreThreadsThanCores) {
    const std::uint64_t count = scaled(200000);
    constexpr std::uint32_t kRings = 3;
    std::vector<std::unique_ptr<SpscRing>> rings;
    for (const std::uint32_t capacity : {8U, 64U, 1024U}) {
        rings.push_back(std::make_unique<SpscRing>(capacity));
    }
    std::uint64_t good[kRings] = {};
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < kRings; ++i) {
        threads.emplace_back([&, i] { produce(rings[i]->producer(), i, count); });
        threads.emplace_back([&, i] { good[i] = consume(rings[i]->consumer(), i, count); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::uint32_t i = 0; i < kRings; ++i) {
        EXPECT_EQ(good[i], count) << i;
        EXPECT_EQ(rings[i]->consumer().front(), nullptr);
        EXPECT_FALSE(rings[i]->producer().corrupt());
    }
}

TEST(SpscRingStress, BatchesKeepOrderWithMoreThreadsThanCores) {
    const std::uint64_t count = scaled(1000000);
    constexpr std::uint32_t kRings = 2;
    SpscRing rings[kRings] = {SpscRing(16), SpscRing(256)};
    std::uint64_t wrong[kRings] = {};
    std::vector<std::thread> threads;
    for (std::uint32_t r = 0; r < kRings; ++r) {
        threads.emplace_back([&, r] {
            std::mt19937 random(r);
            std::vector<std::uint64_t> batch;
            Patience patience;
            for (std::uint64_t next = 0; next < count;) {
                batch.resize(std::min<std::uint64_t>(random() % 40 + 1, count - next));
                for (std::uint64_t& value : batch) {
                    value = next++;
                }
                std::span<const std::uint64_t> left(batch);
                while (!left.empty()) {
                    const std::size_t pushed = rings[r].producer().push_batch(left);
                    left = left.subspan(pushed);
                    if (pushed == 0) {
                        patience.wait();
                    }
                }
            }
        });
        threads.emplace_back([&, r] {
            std::mt19937 random(100 + r);
            std::uint64_t out[40];
            Patience patience;
            for (std::uint64_t next = 0; next < count;) {
                const std::size_t got =
                    rings[r].consumer().pop_batch(std::span<std::uint64_t>(out, random() % 40 + 1));
                for (std::size_t i = 0; i < got; ++i) {
                    wrong[r] += out[i] != next++ ? 1 : 0;
                }
                if (got == 0) {
                    patience.wait();
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong[0], 0U);
    EXPECT_EQ(wrong[1], 0U);
}

TEST(SpscRingStress, AnEndMovesBetweenThreadsThatHandItOver) {
    // Two writers take turns under a word of their own; the reader must not notice.
    const std::uint64_t count = scaled(200000);
    SpscRing ring(64);
    std::atomic<std::uint64_t> next{0};
    const auto write = [&](std::uint64_t parity) {
        Patience patience;
        for (;;) {
            const std::uint64_t number = next.load(std::memory_order_acquire);
            if (number >= count) {
                return;
            }
            if (number % 2 != parity) {
                patience.wait();
                continue;
            }
            while (!ring.producer().try_push(number)) {
                patience.wait();
            }
            next.store(number + 1, std::memory_order_release);
        }
    };
    std::thread even(write, 0);
    std::thread odd(write, 1);
    std::uint64_t wrong = 0;
    Patience patience;
    for (std::uint64_t number = 0; number < count; ++number) {
        std::uint64_t value = 0;
        while (!ring.consumer().try_pop(value)) {
            patience.wait();
        }
        wrong += value != number ? 1 : 0;
    }
    even.join();
    odd.join();
    EXPECT_EQ(wrong, 0U);
}

// ---- two processes ----------------------------------------------------------------------------------

class SharedRing {
public:
    static constexpr std::uint32_t kCapacity = 256;
    static constexpr std::size_t kBytes = (kCapacity + 1) * sizeof(Slot);

    explicit SharedRing(int fd) {
        void* base = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        base_ = base == MAP_FAILED ? nullptr : static_cast<std::byte*>(base);
    }
    ~SharedRing() {
        if (base_ != nullptr) {
            ::munmap(base_, kBytes);
        }
    }
    SharedRing(const SharedRing&) = delete;
    SharedRing& operator=(const SharedRing&) = delete;

    [[nodiscard]] std::byte* base() const { return base_; }
    [[nodiscard]] ConsumedWord* consumed() const { return reinterpret_cast<ConsumedWord*>(base_); }
    [[nodiscard]] Slot* slots() const { return reinterpret_cast<Slot*>(base_) + 1; }
    [[nodiscard]] SpscProducer producer() const {
        return SpscProducer(slots(), kCapacity, consumed());
    }
    [[nodiscard]] SpscConsumer consumer() const {
        return SpscConsumer(slots(), kCapacity, consumed());
    }

private:
    std::byte* base_ = nullptr;
};

TEST(SpscRingProcesses, AMillionSlotsCrossBetweenTwoMappings) {
    const std::uint64_t count = scaled(1000000) / 3;  // records of 1 to 5 slots: 3 on average
    const int fd = ::memfd_create("ring", MFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(SharedRing::kBytes)), 0);
    SharedRing ours(fd);
    ASSERT_NE(ours.base(), nullptr);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        // The inherited mapping stays, so this one lies elsewhere.
        SharedRing theirs(fd);
        if (theirs.base() == nullptr || theirs.base() == ours.base()) {
            ::_exit(2);
        }
        SpscProducer producer = theirs.producer();
        produce(producer, 42, count);
        ::_exit(producer.corrupt() ? 3 : 0);
    }
    SpscConsumer consumer = ours.consumer();
    std::uint64_t good = 0;
    std::uint64_t slots_read = 0;
    int status = -1;
    bool ended = false;
    for (std::uint64_t number = 0; number < count; ++number) {
        std::uint64_t tries = 0;
        while (consumer.front() == nullptr) {
            if (++tries % 64 != 0) {
                cpu_pause();
                continue;
            }
            std::this_thread::yield();
            // The writer may have ended right after its last record.
            ASSERT_FALSE(ended) << "the writer is gone after " << number << " records";
            ended = tries % 6400 == 0 && ::waitpid(child, &status, WNOHANG) == child;
        }
        const std::uint32_t slots = slots_of(42, number);
        bool sound = true;
        for (std::uint32_t i = 0; i < slots; ++i) {
            sound = sound && as_filled(consumer.payload(i), 42, number, i);
        }
        good += sound ? 1 : 0;
        slots_read += slots;
        consumer.release(slots);
    }
    if (!ended) {
        ASSERT_EQ(::waitpid(child, &status, 0), child);
    }
    EXPECT_EQ(status, 0);
    EXPECT_EQ(good, count);
    EXPECT_GE(slots_read, count * 2);
    ::close(fd);
}

}  // namespace
}  // namespace sanpoll::rings

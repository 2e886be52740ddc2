#include "bench/core_exchange.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "bench/cpu_placement.hpp"
#include "engine/work_request.hpp"
#include "rings/slot.hpp"

namespace sanpoll::bench {
namespace {

// Two lines apart, because the prefetcher of many cores fetches lines in pairs.
constexpr std::size_t kApart = 128;
constexpr std::uint32_t kSlots = 256;
// As sanpoll-ping keeps posted at either end, and under way.
constexpr std::uint32_t kReceives = 8;
constexpr std::uint32_t kSends = 2;
constexpr std::uint32_t kEnds = 2;
constexpr std::uint32_t kAhead = 2;      // slots whose lines are asked for
constexpr std::uint64_t kMomentNs = 60;  // between two looks at a result; 30 and 100 are worse here
// Steps between two looks at a slot, as a core goes round its links; 0 to 100 make no difference.
constexpr std::uint32_t kElsewhere = 32;
constexpr std::uint32_t kLooksBehind = 16;  // in vain, before the result of a send is told
// Before the first one. The first is for who looks at once.
constexpr std::array<std::uint64_t, 10> kWaitsNs{0, 80, 110, 140, 170, 200, 230, 260, 300, 350};

constexpr std::uint64_t kInProgress = 1;
constexpr std::uint64_t kEnded = 0;
constexpr std::uint64_t kFailed = 1000;

enum class Request : std::uint32_t { kSend, kReceive };

struct alignas(kApart) Slot {
    std::atomic<std::uint32_t> sequence{0};  // full when it is that of its place in the stream
    Request request{};
    std::uint32_t end = 0;  // that the message goes to, or that receives
    std::uint32_t place = 0;
    std::uint32_t size = 0;
    alignas(rings::kCacheLine) std::byte bytes[kLongestExchanged];
};
static_assert(offsetof(Slot, bytes) == rings::kCacheLine);

struct alignas(kApart) Result {
    std::atomic<std::uint64_t> state{kInProgress};
    std::uint64_t bytes = 0;
};

struct alignas(kApart) Buffer {
    std::byte bytes[kLongestExchanged] = {};
};

struct Memory {
    Slot slots[kSlots];
    Result received[kEnds][kReceives];
    Buffer buffers[kEnds][kReceives];
    Result sent[kEnds][kSends];
    alignas(kApart) std::atomic<std::uint64_t> ready{0};  // threads at the start, or kFailed
};

void claim(const void* line) noexcept { __builtin_prefetch(line, 1, 3); }

// Nothing, in a way that no compiler knows: what it is added to waits for `x`.
std::uint64_t nothing_of(std::uint64_t x) noexcept {
    std::uint64_t none = 0;
    asm volatile("" : "+r"(none));
    return x & none;
}

// Both threads call this before they begin. False if the other one could not be pinned.
bool meet(Memory& memory, bool pinned) {
    // Pairs with itself at the other end.
    memory.ready.fetch_add(pinned ? 1 : kFailed, std::memory_order_acq_rel);
    for (;;) {
        const std::uint64_t seen = memory.ready.load(std::memory_order_acquire);
        if (seen >= kFailed) return false;
        if (seen == 2) return true;
        std::this_thread::yield();
    }
}

Slot& slot_at(Memory& memory, std::uint32_t position) noexcept {
    return memory.slots[rings::slot_index(position, kSlots - 1)];
}

void end(Result& result, std::uint64_t bytes) noexcept {
    result.bytes = bytes;
    // Pairs with the acquire in Asker::has_ended: the bytes are there.
    result.state.store(kEnded, std::memory_order_release);
}

// The core's side: takes `requests` of them.
void answer(Memory& memory, std::uint64_t requests, const CoreWork& work) noexcept {
    Result* behind =
        nullptr;  // of the last send, not told yet: behind the next request, or after a moment without one
    const auto tell_sent = [&behind] {
        if (behind == nullptr) return;
        end(*behind, 0);
        engine::offer_line(reinterpret_cast<std::uint64_t>(std::exchange(behind, nullptr)));
    };
    for (std::uint32_t position = 0; position < requests; ++position) {
        Slot& slot = slot_at(memory, position);
        std::uint32_t looks = 0;
        for (;;) {
            // With each look, as the second line is fetched together with the first one then.
            rings::prefetch_for_read(slot.bytes);
            // Pairs with the release in Asker::publish.
            if (slot.sequence.load(std::memory_order_acquire) == position + 1) break;
            (void)walk(0, kElsewhere);
            if (++looks == kLooksBehind) tell_sent();
        }
        const std::uint32_t place = slot.place;
        Buffer& buffer = memory.buffers[slot.end][place % kReceives];
        if (slot.request == Request::kReceive) {
            claim(&buffer);
            tell_sent();
            continue;
        }
        Result& sent = memory.sent[slot.end][place % kSends];
        Result& received = memory.received[slot.end][place % kReceives];
        claim(&received);
        claim(&buffer);
        const std::uint32_t size = slot.size;
        const std::uint64_t bytes = size + nothing_of(walk(size, work.answering));
        std::memcpy(buffer.bytes, slot.bytes, bytes);
        end(received, size);
        engine::offer_line(reinterpret_cast<std::uint64_t>(buffer.bytes));
        tell_sent();
        behind = &sent;
    }
}

// The thread's side.
class Asker {
public:
    Asker(Memory& memory, const Clock& clock, std::uint32_t size, const CoreWork& work)
        : memory_(memory), clock_(clock), size_(size), work_(work), moment_(ticks_of(kMomentNs)) {}

    // `turns` of two messages, each looked for after `wait_ns`. False if one came damaged.
    bool take_turns(std::uint64_t turns, std::uint64_t wait_ns, LatencyHistogram& histogram) {
        wait_ = ticks_of(wait_ns);
        bool sound = true;
        for (std::uint64_t i = 0; i < turns; ++i, ++place_) {
            const std::uint64_t start = clock_.ticks();
            for (std::uint32_t end = 0; end < kEnds; ++end) {
                send(end);
                sound &= receive(end);
            }
            const std::uint64_t stop = clock_.ticks();
            histogram.record(clock_.elapsed_ns(start, stop));
            for (std::uint32_t end = 0; end < kEnds; ++end)
                recycle(end);
        }
        return sound;
    }

private:
    std::uint64_t ticks_of(std::uint64_t ns) const noexcept {
        return static_cast<std::uint64_t>(static_cast<double>(ns) / clock_.ns_per_tick());
    }
    std::uint64_t stamp(std::uint32_t end) const noexcept {
        return std::uint64_t{place_} * kEnds + end + 1;
    }

    Slot& next_slot() noexcept {
        Slot& slot = slot_at(memory_, position_);
        claim(&slot);
        claim(slot.bytes);
        return slot;
    }

    void publish(Slot& slot, Request request, std::uint32_t end, std::uint64_t size) noexcept {
        slot.request = request;
        slot.end = end;
        slot.place = place_;
        slot.size = static_cast<std::uint32_t>(size);
        // Pairs with the acquire in answer(): the rest of the slot is there.
        slot.sequence.store(++position_, std::memory_order_release);
        Slot& ahead = slot_at(memory_, position_ + kAhead - 1);
        claim(&ahead);
        claim(ahead.bytes);
    }

    void send(std::uint32_t end) noexcept {
        while (place_ - collected_[end] == kSends)
            collect(end);
        // The core sees it behind the slot.
        memory_.sent[end][place_ % kSends].state.store(kInProgress, std::memory_order_relaxed);
        Slot& slot = next_slot();
        const std::uint64_t size = size_ + nothing_of(walk(size_, work_.asking));
        alignas(kApart) std::byte message[kLongestExchanged] = {};
        const std::uint64_t word = stamp(end);
        std::memcpy(message, &word, sizeof word);
        std::memcpy(slot.bytes, message, size);
        // The second line first, as the core looks at the first one all the while.
        std::atomic_signal_fence(std::memory_order_release);
        publish(slot, Request::kSend, end, size);
    }

    void wait_ticks(std::uint64_t ticks) const noexcept {
        if (ticks == 0) return;
        const std::uint64_t start = clock_.ticks();
        while (clock_.ticks() - start < ticks) {
        }
    }

    static bool has_ended(const Result& result) noexcept {
        return result.state.load(std::memory_order_acquire) == kEnded;
    }

    bool receive(std::uint32_t end) noexcept {
        Result& result = memory_.received[end][place_ % kReceives];
        wait_ticks(wait_);
        while (!has_ended(result))
            wait_ticks(moment_);
        claim(&result);
        const std::uint64_t bytes = result.bytes;
        // What comes after it is asked for behind it.
        const std::uint64_t none = nothing_of(walk(bytes, work_.taking));
        std::uint64_t word = 0;
        std::memcpy(&word, memory_.buffers[end][place_ % kReceives].bytes + none, sizeof word);
        const bool whole = size_ < sizeof word || word == stamp(end);
        return whole && bytes == size_;
    }

    void recycle(std::uint32_t end) noexcept {
        memory_.received[end][place_ % kReceives].state.store(kInProgress,
                                                              std::memory_order_relaxed);
        publish(next_slot(), Request::kReceive, end, size_);
        collect(end);
    }

    // One look at the oldest send that has not been seen to be over.
    void collect(std::uint32_t end) noexcept {
        const Result& sent = memory_.sent[end][collected_[end] % kSends];
        if (!has_ended(sent)) return;
        claim(&sent);  // the next but one send begins with writing it
        ++collected_[end];
    }

    Memory& memory_;
    const Clock& clock_;
    const std::uint32_t size_;
    const CoreWork work_;
    const std::uint64_t moment_;  // ticks
    std::uint64_t wait_ = 0;      // ticks
    std::uint32_t position_ = 0;  // of the next slot
    std::uint32_t place_ = 0;     // of the next message at either end
    std::uint32_t collected_[kEnds] = {};
};

}  // namespace

std::uint64_t walk(std::uint64_t from, std::uint32_t steps) noexcept {
    // What is added is known to nobody, or compilers, and some processors, would add up the steps.
    std::uint64_t one = 1;
    asm volatile("" : "+r"(one));
    const auto step = [&] {
        from += one;
        asm volatile("" : "+r"(from));
    };
    // Eight at a time, so that the loop is no part of it.
    for (; steps >= 8; steps -= 8) {
        step(), step(), step(), step(), step(), step(), step(), step();
    }
    for (; steps != 0; --steps)
        step();
    return from;
}

CoreExchange measure_core_exchange(const Clock& clock, int cpu_thread, int cpu_core,
                                   std::uint32_t size, CoreWork work, CoreExchangeEffort effort) {
    CoreExchange best;
    if (cpu_thread == cpu_core) return best;
    if (size > kLongestExchanged) {
        throw std::runtime_error("a message of " + std::to_string(size) +
                                 " bytes does not come along in a slot");
    }
    const auto memory = std::make_unique<Memory>();
    const std::uint64_t turns = effort.trial * kWaitsNs.size() + effort.turns;
    bool measured = false;
    bool sound = true;

    std::thread core([&] {
        // A turn: a message to either end, and a receive posted again at either.
        if (meet(*memory, pin_this_thread(cpu_core))) answer(*memory, turns * 2 * kEnds, work);
    });
    std::thread application([&] {
        if (!meet(*memory, pin_this_thread(cpu_thread))) return;
        Asker asker(*memory, clock, size, work);
        std::uint64_t least = UINT64_MAX;
        for (const std::uint64_t wait_ns : kWaitsNs) {
            LatencyHistogram tried;
            sound &= asker.take_turns(effort.trial, wait_ns, tried);
            if (const std::uint64_t median = tried.quantile(0.5); median < least) {
                least = median;
                best.wait_ns = wait_ns;
            }
        }
        sound &= asker.take_turns(effort.turns, best.wait_ns, best.turns);
        measured = true;
    });
    core.join();
    application.join();
    if (!measured) {
        throw std::runtime_error("CPU " + std::to_string(cpu_thread) + " or " +
                                 std::to_string(cpu_core) +
                                 " may not be used by this process; choose others with --cores");
    }
    if (!sound) throw std::runtime_error("a message through bare cache lines came damaged");
    return best;
}

}  // namespace sanpoll::bench

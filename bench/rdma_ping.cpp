#include "bench/rdma_ping.hpp"

#include <chrono>
#include <cstring>

#include "bench/connection.hpp"

namespace sanpoll::bench {
namespace {

constexpr std::uint64_t kLooksPerClock = 0xFFFF;
constexpr std::chrono::seconds kLongest{30};

// What the peer's RDMA has put there. No store that the language knows of does that, although over shared memory it is
// a thread of this process that copies: ThreadSanitizer must not look. On x86 a load is an acquire by itself; the compiler
// is told.
#if defined(__SANITIZE_THREAD__)
__attribute__((no_sanitize("thread"), noinline))
#endif
char look_at(const char* byte) noexcept {
    const char seen = *static_cast<const volatile char*>(byte);
    asm volatile("" ::: "memory");
    return seen;
}

}  // namespace

// Memory: what the peer writes, what we write from, a receive that nothing comes for.
RdmaPing::RdmaPing(RdmaEnd& end, std::size_t size, const Clock& clock)
    : end_(end),
      size_(size),
      clock_(clock),
      polls_(end.socket().fabric().name != "verbs" && !end.stores()) {
    if (polls_) end_.keep_receive(2 * stride_of(size_), 64);
    round_ = 1;
}

void RdmaPing::write() {
    end_.memory().data()[stride_of(size_) + size_ - 1] = static_cast<char>(round_);
    end_.post_write(written_, stride_of(size_), 0, size_);
    end_.finish(written_);
}

void RdmaPing::await() {
    std::uint64_t start = 0;
    const char* const last = end_.memory().data() + size_ - 1;
    for (std::uint64_t looks = 1; look_at(last) != static_cast<char>(round_); ++looks) {
        if (polls_) end_.look_at_receive();
        if ((looks & kLooksPerClock) != 0) continue;
        const std::uint64_t now = Clock::monotonic_ns();
        if (start == 0) start = now;
        if (now - start > static_cast<std::uint64_t>(std::chrono::nanoseconds(kLongest).count())) {
            throw ConnectionFault("a write did not come; the other end is stopped or gone");
        }
    }
}

void RdmaPing::ping(std::uint64_t count, LatencyHistogram& histogram) {
    for (std::uint64_t i = 0; i < count; ++i) {
        ++round_;
        const std::uint64_t start = clock_.ticks();
        write();
        await();
        histogram.record(clock_.elapsed_ns(start, clock_.ticks()));
    }
}

void RdmaPing::answer(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        ++round_;
        await();
        write();
    }
}

}  // namespace sanpoll::bench

// The least that a round trip can take: bare cache lines between two threads, with no ring around them.
#include <atomic>

#include "bench/ring_peers/ring_pair.hpp"

namespace sanpoll::bench {
namespace {

constexpr std::size_t kApart = 128;  // processors fetch lines in pairs

// Words that count: `there` is written by ask and read by answer, `back` the other way. They are the same word for
// one line, and lie in two lines for two.
template <bool OneLine>
class RawLines final : public RingPair {
public:
    void put(std::uint64_t) override {}
    std::uint64_t take(std::uint64_t) override { return 0; }
    void put_bursts(std::uint64_t) override {}
    std::uint64_t take_bursts(std::uint64_t) override { return 0; }

    std::uint64_t ask(std::uint64_t count) override {
        std::uint64_t next = back().load(std::memory_order_relaxed);
        for (std::uint64_t i = 0; i < count; ++i, next += 2) {
            // Pairs with the acquire in answer().
            there_.store(next + 1, std::memory_order_release);
            // Pairs with the release in answer().
            while (back().load(std::memory_order_acquire) != next + 2) {
            }
        }
        return 0;
    }

    void answer(std::uint64_t count) override {
        for (std::uint64_t i = 0; i < count; ++i, answered_ += 2) {
            // Pairs with the release in ask().
            while (there_.load(std::memory_order_acquire) != answered_ + 1) {
            }
            // Pairs with the acquire in ask().
            back().store(answered_ + 2, std::memory_order_release);
        }
    }

private:
    std::atomic<std::uint64_t>& back() { return OneLine ? there_ : back_; }

    alignas(kApart) std::atomic<std::uint64_t> there_{0};
    alignas(kApart) std::atomic<std::uint64_t> back_{0};
    alignas(kApart) std::uint64_t answered_ = 0;
};

template <bool OneLine>
std::unique_ptr<RingPair> make(std::size_t bytes) {
    if (bytes != 8) return nullptr;
    return std::make_unique<RawLines<OneLine>>();
}

}  // namespace

std::vector<RingKind> raw_lines() {
    return {{"one line", "one word to and fro", RingKind::Role::kRaw, &make<true>},
            {"two lines", "a word there, a word back", RingKind::Role::kRaw, &make<false>}};
}

}  // namespace sanpoll::bench

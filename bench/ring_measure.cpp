#include "bench/ring_measure.hpp"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

constexpr int kBatches = 7;  // of a sample, after one that warms up
constexpr std::uint64_t kRoundTrips = 4'000;
constexpr std::uint64_t kElements = 96'000;
static_assert(kElements % kRingBurst == 0);

// The other thread: does its half of a batch at every go().
class Partner {
public:
    Partner(RingPair& pair, RingPattern pattern, int cpu)
        : pair_(pair), pattern_(pattern), cpu_(cpu), thread_([this] { run(); }) {}
    ~Partner() {
        go_.store(kStop, std::memory_order_release);  // pairs with the acquire in run()
        thread_.join();
    }
    Partner(const Partner&) = delete;
    Partner& operator=(const Partner&) = delete;

    void go() { go_.store(++batches_, std::memory_order_release); }  // pairs with run()'s acquire
    void wait() {
        // Pairs with the release in run().
        while (done_.load(std::memory_order_acquire) != batches_)
            cpu_pause();
    }

private:
    static constexpr std::uint64_t kStop = ~0ULL;

    void run() {
        pin_this_thread(cpu_);
        for (std::uint64_t next = 1;; ++next) {
            std::uint64_t seen = 0;
            // Pairs with the releases in go() and the destructor.
            while ((seen = go_.load(std::memory_order_acquire)) != next && seen != kStop)
                cpu_pause();
            if (seen == kStop) return;
            switch (pattern_) {
                case RingPattern::kRoundTrip:
                    pair_.answer(kRoundTrips);
                    break;
                case RingPattern::kOneByOne:
                    pair_.put(kElements);
                    break;
                case RingPattern::kBursts:
                    pair_.put_bursts(kElements);
                    break;
            }
            done_.store(next, std::memory_order_release);  // pairs with the acquire in wait()
        }
    }

    alignas(128) std::atomic<std::uint64_t> go_{0};
    alignas(128) std::atomic<std::uint64_t> done_{0};
    alignas(128) RingPair& pair_;
    RingPattern pattern_;
    int cpu_;
    std::uint64_t batches_ = 0;
    std::thread thread_;  // last: it uses all the others
};

std::uint64_t own_half(RingPair& pair, RingPattern pattern) {
    switch (pattern) {
        case RingPattern::kRoundTrip:
            return pair.ask(kRoundTrips);
        case RingPattern::kOneByOne:
            return pair.take(kElements);
        case RingPattern::kBursts:
            break;
    }
    return pair.take_bursts(kElements);
}

}  // namespace

std::string to_string(RingPattern pattern) {
    switch (pattern) {
        case RingPattern::kRoundTrip:
            return "round_trip";
        case RingPattern::kOneByOne:
            return "one_by_one";
        case RingPattern::kBursts:
            break;
    }
    return "bursts_of_32";
}

RingStage::RingStage(const Clock& clock, int cpu, int partner_cpu)
    : clock_(clock), cpu_(cpu), partner_cpu_(partner_cpu), first_(sentinel()), last_(first_) {
    if (!pin_this_thread(cpu))
        throw std::runtime_error("CPU " + std::to_string(cpu) + " may not be used by this process");
}

Handoff RingStage::sentinel() const {
    return measure_handoff(clock_, cpu_, partner_cpu_, {7, 1000});
}

RingSample RingStage::measure(const RingKind& kind, std::size_t bytes, RingPattern pattern,
                              int retries) {
    const double count =
        static_cast<double>(pattern == RingPattern::kRoundTrip ? kRoundTrips : kElements);
    for (int attempt = 0;; ++attempt) {
        RingSample sample;
        sample.before = last_;
        std::vector<double> batches;
        {
            const auto pair = kind.make(bytes);
            Partner partner(*pair, pattern, partner_cpu_);
            for (int i = 0; i <= kBatches; ++i) {
                const std::uint64_t start = clock_.ticks();
                partner.go();
                sample.errors += own_half(*pair, pattern);
                const std::uint64_t stop = clock_.ticks();
                partner.wait();
                if (i > 0)
                    batches.push_back(static_cast<double>(clock_.to_ns(stop - start)) / count);
            }
        }
        const auto middle = batches.begin() + kBatches / 2;
        std::nth_element(batches.begin(), middle, batches.end());
        sample.ns = *middle;
        sample.after = last_ = sentinel();
        sample.moved =
            !same_placement(sample.before, sample.after) || !same_placement(first_, sample.after);
        if (!sample.moved || attempt >= retries) return sample;
    }
}

}  // namespace sanpoll::bench

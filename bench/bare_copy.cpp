#include "bench/bare_copy.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "bench/cpu_placement.hpp"
#include "engine/fabric/copy.hpp"
#include "rings/slot.hpp"

namespace sanpoll::bench {
namespace {

// Two lines apart, because the prefetcher of many cores fetches lines in pairs.
constexpr std::size_t kApart = 128;

// How many messages of the stream; each word pairs with the loads of the other thread's in wait_for().
struct Handshake {
    alignas(kApart) std::atomic<std::uint64_t> said{0};    // the sender: are there
    alignas(kApart) std::atomic<std::uint64_t> placed{0};  // the sender: its half is copied
    alignas(kApart) std::atomic<std::uint64_t> taken{0};   // the receiver: have been taken
    alignas(kApart) std::atomic<int> ready{0};
};

class SharedMemory {
public:
    explicit SharedMemory(std::size_t bytes)
        : bytes_(bytes),
          base_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (base_ == MAP_FAILED)
            throw std::system_error(errno, std::generic_category(), "memory for bare copies");
    }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() { ::munmap(base_, bytes_); }
    [[nodiscard]] std::byte* at(std::size_t offset) const noexcept {
        return static_cast<std::byte*>(base_) + offset;
    }

private:
    std::size_t bytes_;
    void* base_;
};

// Yields now and then, for two threads on one busy CPU.
void wait_for(const std::atomic<std::uint64_t>& word, std::uint64_t least) noexcept {
    for (std::uint32_t looks = 1; word.load(std::memory_order_acquire) < least; ++looks) {
        if (looks % 4096 == 0) std::this_thread::yield();
        __builtin_ia32_pause();
    }
}

class Stream {
public:
    Stream(std::uint32_t size, std::uint32_t buffers)
        : size_(size),
          buffers_(buffers),
          source_(std::size_t{size} * buffers),
          target_(std::size_t{size} * buffers) {
        std::memset(source_.at(0), 'b', std::size_t{size} * buffers);
        std::memset(target_.at(0), 0, std::size_t{size} * buffers);
    }

    void send(std::uint64_t from, std::uint64_t count, bool both) noexcept {
        for (std::uint64_t n = from + 1; n <= from + count; ++n) {
            wait_for(hands.taken, n < buffers_ ? 0 : n - buffers_);
            std::memcpy(source_.at(n % buffers_ * size_), &n, sizeof(n));
            hands.said.store(n, std::memory_order_release);
            if (both) {
                copy(n, size_ / 2, size_ - size_ / 2);
                hands.placed.store(n, std::memory_order_release);
            }
        }
        wait_for(hands.taken, from + count);
    }
    void receive(std::uint64_t from, std::uint64_t count, bool both) noexcept {
        for (std::uint64_t n = from + 1; n <= from + count; ++n) {
            wait_for(hands.said, n);
            copy(n, 0, both ? size_ / 2 : size_);
            if (both) wait_for(hands.placed, n);
            read(n);
            hands.taken.store(n, std::memory_order_release);
        }
    }
    [[nodiscard]] bool sound() const noexcept {
        return std::memcmp(source_.at(0), target_.at(0), std::size_t{size_} * buffers_) == 0;
    }
    Handshake hands;

private:
    void copy(std::uint64_t n, std::size_t from, std::size_t length) noexcept {
        const std::size_t at = n % buffers_ * size_ + from;
        engine::copy_fetching(target_.at(at), source_.at(at), length);
    }
    void read(std::uint64_t n) noexcept {
        const std::byte* const message = target_.at(n % buffers_ * size_);
        unsigned sum = 0;
        for (std::uint32_t at = 0; at < size_; at += rings::kCacheLine)
            sum += std::to_integer<unsigned>(message[at]);
        asm volatile("" : : "r"(sum));  // it is needed
    }
    std::uint32_t size_;
    std::uint32_t buffers_;
    SharedMemory source_;
    SharedMemory target_;
};

double measure(int cpu_sender, int cpu_receiver, std::uint32_t size, std::uint32_t buffers,
               std::uint64_t bytes, bool both) {
    Stream stream(size, buffers);
    const std::uint64_t count = std::max<std::uint64_t>(bytes / size, buffers);
    const std::uint64_t before = std::max<std::uint64_t>(count / 4, buffers);  // do not count
    std::chrono::steady_clock::duration took{};
    const auto meet = [&](bool pinned) {
        stream.hands.ready.fetch_add(pinned ? 1 : 1000);
        while (stream.hands.ready.load() < 2)
            std::this_thread::yield();
        return stream.hands.ready.load() == 2;
    };
    bool measured = false;
    std::thread sender([&] {
        if (!meet(pin_this_thread(cpu_sender))) return;
        stream.send(0, before, both);
        const auto start = std::chrono::steady_clock::now();
        stream.send(before, count, both);
        took = std::chrono::steady_clock::now() - start;
        measured = true;
    });
    std::thread receiver([&] {
        if (meet(pin_this_thread(cpu_receiver))) stream.receive(0, before + count, both);
    });
    sender.join();
    receiver.join();
    if (!measured) {
        throw std::runtime_error("CPU " + std::to_string(cpu_sender) + " or " +
                                 std::to_string(cpu_receiver) +
                                 " may not be used by this process; choose others with --cores");
    }
    if (!stream.sound()) throw std::runtime_error("a bare copy came damaged");
    const double seconds = std::chrono::duration<double>(took).count();
    return static_cast<double>(count) * size / std::max(seconds, 1e-9);
}

}  // namespace

BareCopy measure_bare_copy(int cpu_sender, int cpu_receiver, std::uint32_t size,
                           std::uint32_t buffers, std::uint64_t bytes) {
    if (cpu_sender == cpu_receiver) return {};
    return {measure(cpu_sender, cpu_receiver, size, buffers, bytes, false),
            measure(cpu_sender, cpu_receiver, size, buffers, bytes, true)};
}

}  // namespace sanpoll::bench

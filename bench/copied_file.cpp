#include "bench/copied_file.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "bench/clock.hpp"
#include "engine/fabric/copy.hpp"

namespace sanpoll::bench {

// In front of the pieces.
struct CopiedFile::Turns {
    alignas(64) std::atomic<std::uint64_t> written;
    alignas(64) std::atomic<std::uint64_t> copied;
};

namespace {

constexpr std::size_t kHeader = 4096;

void spin_until(const std::atomic<std::uint64_t>& word, std::uint64_t value) {
    while (word.load(std::memory_order_acquire) != value) {  // pairs with the releases below
        cpu_pause();
    }
}

}  // namespace

CopiedFile CopiedFile::create(std::size_t bytes, std::size_t pieces) {
    const int fd = ::memfd_create("message_bench", MFD_CLOEXEC);
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(kHeader + bytes * pieces)) != 0) {
        throw std::system_error(errno, std::generic_category(), "memfd_create");
    }
    return {fd, bytes, pieces};
}

CopiedFile CopiedFile::open(int fd, std::size_t bytes, std::size_t pieces) {
    return {fd, bytes, pieces};
}

CopiedFile::CopiedFile(int fd, std::size_t bytes, std::size_t pieces)
    : fd_(fd),
      bytes_(bytes),
      pieces_(pieces),
      mapped_(::mmap(nullptr, kHeader + bytes * pieces, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_POPULATE, fd, 0)) {
    if (mapped_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
}

CopiedFile::CopiedFile(CopiedFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      bytes_(other.bytes_),
      pieces_(other.pieces_),
      mapped_(std::exchange(other.mapped_, MAP_FAILED)),
      turn_(other.turn_) {}

CopiedFile::~CopiedFile() {
    if (mapped_ != MAP_FAILED) (void)::munmap(mapped_, kHeader + bytes_ * pieces_);
    if (fd_ >= 0) ::close(fd_);
}

char* CopiedFile::piece(std::size_t index) const noexcept {
    return static_cast<char*>(mapped_) + kHeader + index % pieces_ * bytes_;
}

void CopiedFile::write(std::size_t count) {
    auto& turns = *static_cast<Turns*>(mapped_);
    for (; count != 0; --count) {
        std::memset(piece(turn_), static_cast<int>(turn_ & 0x7F), bytes_);
        turns.written.store(++turn_, std::memory_order_release);
        spin_until(turns.copied, turn_);
    }
}

double CopiedFile::copy(std::size_t count, char* to, std::size_t places, Kernel kernel) {
    auto& turns = *static_cast<Turns*>(mapped_);
    std::uint64_t ns = 0;
    for (; count != 0; --count) {
        const char* from = piece(turn_);
        char* const place = to + turn_ % places * bytes_;
        spin_until(turns.written, ++turn_);
        const std::uint64_t start = Clock::monotonic_ns();
        if (kernel == Kernel::kMemcpy) {
            std::memcpy(place, from, bytes_);
        } else {
            engine::copy_long(place, from, bytes_);
        }
        ns += Clock::monotonic_ns() - start;
        turns.copied.store(turn_, std::memory_order_release);
    }
    return static_cast<double>(ns) / 1e9;
}

}  // namespace sanpoll::bench

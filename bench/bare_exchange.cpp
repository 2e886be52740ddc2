#include "bench/bare_exchange.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace sanpoll::bench {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kWord = sizeof(std::uint64_t);

// Whole pairs of lines, as processors fetch them.
std::size_t stride_of(std::uint32_t bytes) noexcept {
    const std::size_t least = std::max<std::size_t>(bytes, kWord);
    return (least + 2 * kLine - 1) / (2 * kLine) * (2 * kLine);
}

[[noreturn]] void refused(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

BareMemory::BareMemory(std::uint32_t bytes, std::uint32_t window)
    : slots_(window), stride_(stride_of(bytes)) {
    const int fd = ::memfd_create("bare_exchange", MFD_CLOEXEC);
    if (fd < 0) refused("memfd_create");
    if (::ftruncate(fd, static_cast<off_t>(2 * slots_ * stride_)) != 0) {
        ::close(fd);
        refused("ftruncate");
    }
    map(fd);
}

BareMemory::BareMemory(const std::string& path, std::uint32_t bytes, std::uint32_t window)
    : slots_(window), stride_(stride_of(bytes)) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) refused("open the shared memory");
    map(fd);
}

void BareMemory::map(int fd) {
    void* const at = ::mmap(nullptr, 2 * slots_ * stride_, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) {
        ::close(fd);
        refused("mmap");
    }
    fd_ = fd;
    memory_ = static_cast<std::byte*>(at);
}

BareMemory::~BareMemory() {
    ::munmap(memory_, 2 * slots_ * stride_);
    ::close(fd_);
}

std::string BareMemory::path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd_);
}

void BareConnection::send(std::uint32_t size, std::uint64_t stamp) noexcept {
    std::byte* const slot = memory_.slot(is_client_, next_out_);
    if (++next_out_ == memory_.slots()) next_out_ = 0;
    if (size > kWord) std::memcpy(slot + kWord, payload_.data(), size - kWord);
    // Release pairs with the acquire in try_receive(): the other bytes are there.
    std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(slot))
        .store(stamp, std::memory_order_release);
}

std::optional<std::uint64_t> BareConnection::try_receive(std::uint32_t size) noexcept {
    std::byte* const slot = memory_.slot(!is_client_, next_in_);
    // Acquire pairs with the release in send().
    const std::uint64_t stamp =
        std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(slot))
            .load(std::memory_order_acquire);
    if (stamp == seen_[next_in_]) return std::nullopt;
    seen_[next_in_] = stamp;
    if (++next_in_ == memory_.slots()) next_in_ = 0;
    reader_.read(reinterpret_cast<const char*>(slot), size);
    return stamp;
}

std::uint64_t BareConnection::receive(std::uint32_t size) {
    Spin spin(rule_, "a message");
    for (;;) {
        if (const auto stamp = try_receive(size)) return *stamp;
        spin.turn();
    }
}

}  // namespace sanpoll::bench

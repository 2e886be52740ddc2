#include "engine/memory/mapping_watch.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <new>
#include <system_error>

#include "engine/fork_guard.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine::memory {
namespace {

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

constexpr std::uint64_t kWanted = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                                  UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_PAGEFAULT_FLAG_WP;

std::uint64_t page_size() noexcept {
    static const auto size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

uffdio_range pages_of(std::uint64_t address, std::uint64_t length) noexcept {
    const std::uint64_t mask = page_size() - 1;
    const std::uint64_t low = address & ~mask;
    return {low, ((address + length + mask) & ~mask) - low};
}

std::uint64_t now_ns() noexcept {
    timespec now{};
    (void)::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

std::string no_userfaultfd(int error) {
    const std::string reason = std::generic_category().message(error);
    if (error == EPERM) {
        return fmt::format(
            "the system does not let this process have a userfaultfd ({}): let the container's "
            "seccomp profile allow it, or set the sysctl vm.unprivileged_userfaultfd to 1 on "
            "kernels "
            "before 5.11",
            reason);
    }
    if (error == ENOSYS) {
        return fmt::format("the kernel has no userfaultfd ({}): it wants CONFIG_USERFAULTFD",
                           reason);
    }
    return fmt::format(
        "no userfaultfd ({}); raise the limit on open files (ulimit -n) if it is that", reason);
}

}  // namespace

std::unique_ptr<MappingWatch> MappingWatch::start(Listener& listener, std::string& error,
                                                  std::uint64_t discard_ns) {
    std::unique_ptr<MappingWatch> made(new (std::nothrow) MappingWatch(listener, discard_ns));
    if (made == nullptr) {
        error = "out of memory";
        return nullptr;
    }
    error = made->open();
    return error.empty() ? std::move(made) : nullptr;
}

std::string MappingWatch::open() {
    (void)page_size();
    fd_ =
        static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    if (fd_ < 0 && errno == EINVAL) {  // before 5.11
        fd_ = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    }
    if (fd_ < 0) {
        return no_userfaultfd(errno);
    }
    // A child that kept it would keep our unmapping threads waiting for it.
    close_in_child(fd_);
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = kWanted;
    if (::ioctl(fd_, UFFDIO_API, &api) != 0) {
        return "the kernel's userfaultfd does not tell of unmapped memory: it wants Linux 5.7 or "
               "later";
    }
    pages_fd_ = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pages_fd_ < 0) {
        return fmt::format("/proc/self/pagemap cannot be read ({}): mount /proc",
                           std::generic_category().message(errno));
    }
    stop_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stop_fd_ < 0) {
        return "no eventfd; raise the limit on open files (ulimit -n)";
    }
    try {
        thread_ = std::thread([this] { thread_main(); });
    } catch (const std::system_error&) {
        return "cannot start the thread that watches memory; raise the limit on processes (ulimit "
               "-u)";
    }
    return {};
}

MappingWatch::~MappingWatch() {
    if (thread_.joinable()) {
        const std::uint64_t one = 1;
        (void)!::write(stop_fd_, &one, sizeof(one));
        thread_.join();
    }
    if (fd_ >= 0) {
        forget_in_child(fd_);
        ::close(fd_);
    }
    for (const int fd : {stop_fd_, pages_fd_}) {
        if (fd >= 0) {
            ::close(fd);
        }
    }
}

bool MappingWatch::watch(std::uint64_t address, std::uint64_t length) noexcept {
    uffdio_register wanted{};
    wanted.range = pages_of(address, length);
    wanted.mode = UFFDIO_REGISTER_MODE_WP;
    return ::ioctl(fd_, UFFDIO_REGISTER, &wanted) == 0;
}

void MappingWatch::unwatch(std::uint64_t address, std::uint64_t length) noexcept {
    uffdio_range range = pages_of(address, length);
    // It may have been unmapped meanwhile.
    (void)::ioctl(fd_, UFFDIO_UNREGISTER, &range);
}

bool MappingWatch::changing() const noexcept {
    // The kernel says EAGAIN before it looks at the argument, which is EFAULT otherwise.
    return ::ioctl(fd_, UFFDIO_WRITEPROTECT, nullptr) != 0 && errno == EAGAIN;
}

bool MappingWatch::shared(std::uint64_t address, std::uint64_t length) const noexcept {
    constexpr std::uint64_t kOfAFile = 1ULL << 61;  // "page is file-page or shared-anon"
    constexpr std::uint64_t kAtOnce = 512;
    std::uint64_t words[kAtOnce];
    const uffdio_range range = pages_of(address, length);
    std::uint64_t page = range.start / page_size();
    const std::uint64_t end = page + range.len / page_size();
    while (page < end) {
        const std::uint64_t step = std::min(end - page, kAtOnce);
        const auto bytes = static_cast<ssize_t>(step * sizeof(std::uint64_t));
        if (::pread(pages_fd_, words, static_cast<std::size_t>(bytes),
                    static_cast<off_t>(page * sizeof(std::uint64_t))) != bytes) {
            return true;
        }
        for (std::uint64_t i = 0; i < step; ++i) {
            if ((words[i] & kOfAFile) != 0) {
                return true;
            }
        }
        page += step;
    }
    return false;
}

bool MappingWatch::discarded_lately(std::uint64_t address, std::uint64_t length) const noexcept {
    const std::uint64_t until = discarded_until_ns_.load(std::memory_order_acquire);
    return until != 0 && address < discarded_high_.load(std::memory_order_acquire) &&
           discarded_low_.load(std::memory_order_acquire) < address + length && now_ns() < until;
}

void MappingWatch::wait_until_told() const noexcept {
    for (std::uint32_t tries = 0; telling_.load(std::memory_order_acquire); ++tries) {
        if (tries % 64 == 63) {
            ::sched_yield();
        } else {
            rings::cpu_pause();
        }
    }
}

// ---- the watch's thread -------------------------------------------------------------------------------

void MappingWatch::thread_main() noexcept {
    ::pthread_setname_np(::pthread_self(), "sanpoll-watch");
    // A handler of the program's could allocate.
    sigset_t all;
    ::sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pollfd fds[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    for (;;) {
        if ((::poll(fds, 2, -1) < 0 && errno != EINTR) || (fds[1].revents & POLLIN) != 0) {
            break;
        }
        if ((fds[0].revents & POLLIN) != 0) {
            // Before the first event is read, since its thread goes on at that moment.
            telling_.store(true, std::memory_order_seq_cst);
            take_events();
            telling_.store(false, std::memory_order_release);
        }
    }
    // Ends the userfaultfd, which lets go whoever waits for an event to be read; before this thread ends, for its end
    // and the wait for it may unmap memory themselves. Its number stays ours until it is forgotten.
    while (::dup2(stop_fd_, fd_) < 0 && (errno == EINTR || errno == EBUSY)) {
    }
}

void MappingWatch::take_events() noexcept {
    uffd_msg event{};
    while (::read(fd_, &event, sizeof(event)) == sizeof(event)) {
        switch (event.event) {
            case UFFD_EVENT_REMOVE:
                note_discard(event.arg.remove.start, event.arg.remove.end);
                listener_.mapping_changed(event.arg.remove.start, event.arg.remove.end);
                break;
            case UFFD_EVENT_UNMAP:
                listener_.mapping_changed(event.arg.remove.start, event.arg.remove.end);
                break;
            case UFFD_EVENT_REMAP:
                listener_.mapping_changed(event.arg.remap.from,
                                          event.arg.remap.from + event.arg.remap.len);
                break;
            default:
                break;
        }
    }
}

void MappingWatch::note_discard(std::uint64_t low, std::uint64_t high) noexcept {
    const std::uint64_t now = now_ns();
    if (now < discarded_until_ns_.load(std::memory_order_relaxed)) {
        low = std::min(low, discarded_low_.load(std::memory_order_relaxed));
        high = std::max(high, discarded_high_.load(std::memory_order_relaxed));
    }
    // They and the last pair with the acquires in discarded_lately().
    discarded_low_.store(low, std::memory_order_release);
    discarded_high_.store(high, std::memory_order_release);
    discarded_until_ns_.store(now + discard_ns_, std::memory_order_release);
}

}  // namespace sanpoll::engine::memory

#include "tests/system/syscall_tracer.hpp"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

namespace sanpoll::system_test {
namespace {

constexpr std::string_view kDevices = "/dev/infiniband/";
constexpr int kSyscallStop = SIGTRAP | 0x80;  // by PTRACE_O_TRACESYSGOOD

int wait_for(pid_t thread) {
    int status = 0;
    while (::waitpid(thread, &status, __WALL) < 0 && errno == EINTR) {
    }
    return status;
}

/// Whether a call that the thread has just begun is one to an RDMA device. Looked up each time, since a descriptor
/// may be another file's the next time.
bool is_for_device(pid_t thread, std::uint64_t number, std::uint64_t descriptor) {
    if (number != SYS_write && number != SYS_ioctl) {
        return false;
    }
    const std::string link =
        "/proc/" + std::to_string(thread) + "/fd/" + std::to_string(static_cast<int>(descriptor));
    char file[64];
    const ssize_t length = ::readlink(link.c_str(), file, sizeof(file));
    return length > 0 &&
           std::string_view(file, static_cast<std::size_t>(length)).substr(0, kDevices.size()) ==
               kDevices;
}

}  // namespace

SyscallTracer::~SyscallTracer() { detach_all(); }

std::string SyscallTracer::attach(pid_t thread) {
    const auto refused = [](const char* request) {
        return std::string("the kernel refuses ") + request + ": " + std::strerror(errno);
    };
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, PTRACE_O_TRACESYSGOOD) != 0) {
        return refused("PTRACE_SEIZE");
    }
    threads_[thread];
    if (::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0) {
        return refused("PTRACE_INTERRUPT");
    }
    if (!WIFSTOPPED(wait_for(thread))) {
        threads_[thread].gone = true;
        return "the thread ended";
    }
    if (::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr) != 0) {
        return refused("PTRACE_SYSCALL");
    }
    return {};
}

void SyscallTracer::take_stop(pid_t id, Thread& thread, int status) {
    if (!WIFSTOPPED(status)) {
        thread.gone = true;
        return;
    }
    long signal = 0;
    if (WSTOPSIG(status) == kSyscallStop) {
        __ptrace_syscall_info info{};
        if (::ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof(info), &info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            if (is_for_device(id, info.entry.nr, info.entry.args[0])) {
                ++thread.device_calls;
            } else {
                ++thread.calls[info.entry.nr];
            }
        }
    } else if (status >> 16 == 0) {
        signal = WSTOPSIG(status);  // on its way to the thread
    }
    ::ptrace(PTRACE_SYSCALL, id, nullptr, signal);
}

void SyscallTracer::serve() {
    for (auto& [id, thread] : threads_) {
        int status = 0;
        while (!thread.gone && ::waitpid(id, &status, __WALL | WNOHANG) == id) {
            take_stop(id, thread, status);
        }
    }
}

void SyscallTracer::detach_all() {
    for (auto& [id, thread] : threads_) {
        if (thread.gone) {
            continue;
        }
        thread.gone = true;
        if (::ptrace(PTRACE_INTERRUPT, id, nullptr, nullptr) == 0) {
            const int status = wait_for(id);
            if (WIFSTOPPED(status)) {
                const bool own = WSTOPSIG(status) == kSyscallStop || status >> 16 != 0;
                ::ptrace(PTRACE_DETACH, id, nullptr,
                         own ? 0L : static_cast<long>(WSTOPSIG(status)));
            }
        }
    }
}

std::uint64_t SyscallTracer::count(pid_t thread) const {
    std::uint64_t sum = 0;
    for (const auto& [number, times] : calls(thread)) {
        sum += times;
    }
    return sum;
}

std::string SyscallTracer::describe(pid_t thread) const {
    std::string text;
    for (const auto& [number, times] : calls(thread)) {
        text += (text.empty() ? "" : ", ") + std::to_string(times) + " of number " +
                std::to_string(number);
    }
    return text.empty() ? "no system calls" : text;
}

}  // namespace sanpoll::system_test

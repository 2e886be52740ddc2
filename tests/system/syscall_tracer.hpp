// Counts the system calls of single threads of other processes, by ptrace: the kernel stops a traced
// thread at every one. Threads that make none run at full speed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>

namespace sanpoll::system_test {

/// Used by one thread, which is the tracer to the kernel.
class SyscallTracer {
public:
    SyscallTracer() = default;
    ~SyscallTracer();
    SyscallTracer(const SyscallTracer&) = delete;
    SyscallTracer& operator=(const SyscallTracer&) = delete;

    /// Empty, or why the kernel does not let us.
    [[nodiscard]] std::string attach(pid_t thread);
    /// Lets threads go on that have stopped since. To be called often; does not wait.
    void serve();
    void detach_all();

    /// System calls that the thread has begun, by their number, without those to RDMA devices.
    [[nodiscard]] const std::map<std::uint64_t, std::uint64_t>& calls(pid_t thread) const {
        return threads_.at(thread).calls;
    }
    [[nodiscard]] std::uint64_t count(pid_t thread) const;
    /// Calls to RDMA devices: libibverbs itself writes to a soft one to ring its doorbell, where hardware has a
    /// register that is mapped.
    [[nodiscard]] std::uint64_t device_calls(pid_t thread) const {
        return threads_.at(thread).device_calls;
    }
    /// For a message: "3 of number 24, 1 of number 202".
    [[nodiscard]] std::string describe(pid_t thread) const;

private:
    struct Thread {
        std::map<std::uint64_t, std::uint64_t> calls;
        std::uint64_t device_calls = 0;
        bool gone = false;
    };
    void take_stop(pid_t id, Thread& thread, int status);

    std::map<pid_t, Thread> threads_;
};

}  // namespace sanpoll::system_test

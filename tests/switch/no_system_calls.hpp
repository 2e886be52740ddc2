// Proof that a piece of code makes no system call: it runs in a child process under seccomp's
// strict mode, where the kernel kills the process at the first one.
#pragma once

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Not with the thread sanitizer, whose own thread would outlive the child's: ask kCanForbidSystemCalls
// first.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kCanForbidSystemCalls = false;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kCanForbidSystemCalls = false;
#else
inline constexpr bool kCanForbidSystemCalls = true;
#endif
#else
inline constexpr bool kCanForbidSystemCalls = true;
#endif

// `prepare` runs in the child before the mode is set, `body` after. True if body returned true and
// did not enter the kernel.
template <class Prepare, class Body>
bool runs_without_system_calls(Prepare&& prepare, Body&& body) {
    const pid_t child = ::fork();
    if (child == 0) {
        prepare();
        if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) ::_exit(2);
        const bool good = body();
        // exit_group, which _exit() uses, is not allowed in this mode; exit ends the only thread.
        ::syscall(SYS_exit, good ? 0 : 1);
    }
    int status = 0;
    return child > 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

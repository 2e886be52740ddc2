// A child process whose kernel refuses a system call: an older one's, or one of a container whose profile forbids it.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

namespace sanpoll::tests {

/// What a child answers that runs under `filter` and then `body`. kHere: no filter can be set here, so nothing is known.
enum class LesserKernel { kTrue, kFalse, kHere };

template <std::size_t kSteps, typename Body>
[[nodiscard]] LesserKernel under_lesser_kernel(sock_filter (&filter)[kSteps], Body body) {
    constexpr int kNoFilter = 77;
    const pid_t child = ::fork();
    if (child == 0) {
        const sock_fprog program{kSteps, filter};
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
            ::_exit(kNoFilter);
        }
        ::_exit(body() ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
        return LesserKernel::kFalse;
    }
    return WEXITSTATUS(status) == kNoFilter ? LesserKernel::kHere
           : WEXITSTATUS(status) == 0       ? LesserKernel::kTrue
                                            : LesserKernel::kFalse;
}

}  // namespace sanpoll::tests

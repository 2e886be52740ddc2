// A child process that is this program again, with other arguments, and that never outlives its parent.
//
// Contract: start() must be called from the thread that lives as long as the process (the kernel ties "die with
// your parent" to the thread that forked). The destructor ends a child that still runs, and reaps it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sanpoll::bench {

class ChildProcess {
public:
    using Environment = std::vector<std::pair<std::string, std::string>>;

    // Runs /proc/self/exe with `arguments`; `environment` is put over the parent's; `inherited` file descriptors
    // stay open in the child under the same numbers, all others of ours close. Throws std::system_error.
    static ChildProcess start(std::string name, const std::vector<std::string>& arguments,
                              const Environment& environment, const std::vector<int>& inherited);

    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&&) = delete;
    ~ChildProcess();

    const std::string& name() const noexcept { return name_; }
    pid_t pid() const noexcept { return pid_; }

    // How the child ended, in words ("was killed by signal 9 (Killed)", "ended with status 1"), waiting for it up to
    // `patience`; nothing while it still runs.
    std::optional<std::string> ended(
        std::chrono::milliseconds patience = std::chrono::milliseconds(0));

    // Whether it ended by a signal or with a status other than 0; false while it runs.
    bool failed() const noexcept;

private:
    ChildProcess(std::string name, pid_t pid) : name_(std::move(name)), pid_(pid) {}

    std::string name_;
    pid_t pid_ = -1;
    std::optional<int> status_;
};

}  // namespace sanpoll::bench

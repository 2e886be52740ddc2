// A second process for a test: the test's own program, run again in a role. It never outlives the test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/system/scale.hpp"

namespace sanpoll::system_test {

using Arguments = std::vector<std::string>;
using Environment = std::vector<std::pair<std::string, std::string>>;

/// One end of the channel between a test and its child: whole texts, in order.
class Channel {
public:
    explicit Channel(int fd) noexcept : fd_(fd) {}
    ~Channel();
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    /// False when the other end is gone.
    bool tell(std::string_view text) const;
    /// Nothing when the other end is gone or nothing comes for so long.
    [[nodiscard]] std::optional<std::string> hear(
        std::chrono::milliseconds patience = kPatience) const;
    /// Throws if something else comes, or nothing.
    void expect(std::string_view text) const;

private:
    int fd_;
};

/// What a program does when it is run in a role; returns the exit status. Define at namespace scope:
///   const Role server("server", [](Channel& test, const Arguments& arguments) { ... return 0; });
struct Role {
    using Body = int (*)(Channel& test, const Arguments& arguments);
    Role(const char* name, Body body);
};

class Child {
public:
    /// Starts it; `shared_fd`, if not negative, is kSharedFd in the child. From a thread that lives as
    /// long as the child may: the kernel ties "die with your parent" to the thread.
    explicit Child(const std::string& role, const Arguments& arguments = {},
                   const Environment& environment = {}, int shared_fd = -1);
    ~Child();  // kills and reaps
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    static constexpr int kSharedFd = 4;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] Channel& channel() noexcept { return *channel_; }
    /// SIGKILL; does not wait.
    void kill() const noexcept;
    /// Waits for its end: the exit status, or minus the signal.
    int reap() noexcept;

private:
    void report_if_it_died() noexcept;

    pid_t pid_ = -1;
    std::optional<Channel> channel_;
    std::optional<int> status_;
};

/// Runs the role that the command line names; nothing when it names none.
[[nodiscard]] std::optional<int> run_role(int argc, char** argv);

}  // namespace sanpoll::system_test

#include "tests/system/child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <stdexcept>

extern char** environ;

namespace sanpoll::system_test {
namespace {

constexpr int kChannelFd = 3;
constexpr std::size_t kLongestText = 4096;

std::map<std::string, Role::Body>& roles() {
    static std::map<std::string, Role::Body> all;
    return all;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts) {
        result.push_back(text.data());
    }
    result.push_back(nullptr);
    return result;
}

std::vector<std::string> merged(const Environment& changes) {
    std::vector<std::string> result;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        const std::string_view name = text.substr(0, text.find('='));
        bool changed = false;
        for (const auto& change : changes) {
            changed |= change.first == name;
        }
        if (!changed) {
            result.emplace_back(text);
        }
    }
    for (const auto& [name, value] : changes) {
        result.push_back(name + "=" + value);
    }
    return result;
}

}  // namespace

// ---- channel ----------------------------------------------------------------------------------------

Channel::~Channel() { ::close(fd_); }

bool Channel::tell(std::string_view text) const {
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

std::optional<std::string> Channel::hear(std::chrono::milliseconds patience) const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd waiting{fd_, POLLIN, 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(std::max(left.count(), 0L)));
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0) {
            return std::nullopt;
        }
        std::string text(kLongestText, '\0');
        const ssize_t got = ::recv(fd_, text.data(), text.size(), 0);
        if (got <= 0) {
            return std::nullopt;
        }
        text.resize(static_cast<std::size_t>(got));
        return text;
    }
}

void Channel::expect(std::string_view text) const {
    const auto heard = hear();
    if (heard != text) {
        throw std::runtime_error("the other process should say '" + std::string(text) +
                                 "', but says " + (heard ? "'" + *heard + "'" : "nothing"));
    }
}

// ---- roles ------------------------------------------------------------------------------------------

Role::Role(const char* name, Body body) { roles()[name] = body; }

std::optional<int> run_role(int argc, char** argv) {
    if (argc < 4 || std::string_view(argv[1]) != "--role") {
        return std::nullopt;
    }
    // The parent may have died before this: then it is not our parent any more.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const auto found = roles().find(argv[2]);
    if (found == roles().end() || std::to_string(::getppid()) != argv[3]) {
        return 127;
    }
    Channel channel(kChannelFd);
    try {
        return found->second(channel, Arguments(argv + 4, argv + argc));
    } catch (const std::exception& failure) {
        std::fprintf(stderr, "%s: %s\n", argv[2], failure.what());
        channel.tell(std::string("failed: ") + failure.what());
        return 1;
    }
}

// ---- child ------------------------------------------------------------------------------------------

Child::Child(const std::string& role, const Arguments& arguments, const Environment& environment,
             int shared_fd) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        throw std::runtime_error(std::string("socketpair: ") + std::strerror(errno));
    }
    channel_.emplace(ends[0]);
    Arguments texts{"/proc/self/exe", "--role", role, std::to_string(::getpid())};
    texts.insert(texts.end(), arguments.begin(), arguments.end());
    std::vector<std::string> variables = merged(environment);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    // Moved out of the way first: the numbers may be taken by each other.
    const int far_end = ::fcntl(ends[1], F_DUPFD_CLOEXEC, 10);
    const int far_shared = shared_fd >= 0 ? ::fcntl(shared_fd, F_DUPFD_CLOEXEC, 10) : -1;
    ::close(ends[1]);
    ::posix_spawn_file_actions_adddup2(&actions, far_end, kChannelFd);
    if (far_shared >= 0) {
        ::posix_spawn_file_actions_adddup2(&actions, far_shared, kSharedFd);
    }
    const int error = ::posix_spawn(&pid_, texts[0].c_str(), &actions, nullptr,
                                    pointers(texts).data(), pointers(variables).data());
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(far_end);
    if (far_shared >= 0) {
        ::close(far_shared);
    }
    if (error != 0) {
        throw std::runtime_error(std::string("posix_spawn: ") + std::strerror(error));
    }
}

Child::~Child() {
    report_if_it_died();
    kill();
    reap();
}

// When the test fails because of it, how it ended is most of what can be found out.
void Child::report_if_it_died() noexcept {
    const bool failing = std::uncaught_exceptions() != 0;
    for (int tries = 0; !status_ && failing && tries < 200; ++tries) {
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
            status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
            std::fprintf(stderr, "the other process (%d) had ended before: %s %d\n", pid_,
                         *status_ >= 0 ? "exit status" : "signal", std::abs(*status_));
            return;
        }
        ::usleep(1000);  // its sockets end before itself
    }
    if (!status_ && failing) {
        std::fprintf(stderr, "the other process (%d) still ran\n", pid_);
    }
}

void Child::kill() const noexcept {
    if (!status_) {
        ::kill(pid_, SIGKILL);
    }
}

int Child::reap() noexcept {
    if (!status_) {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    return *status_;
}

}  // namespace sanpoll::system_test

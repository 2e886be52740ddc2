#include "bench/child_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

namespace sanpoll::bench {
namespace {

constexpr int kExecFailed = 127;

// The parent's environment with `over` on top, as execve wants it.
std::vector<std::string> merged_environment(const ChildProcess::Environment& over) {
    std::vector<std::string> merged;
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string text = *entry;
        const std::string key = text.substr(0, text.find('='));
        bool replaced = false;
        for (const auto& [name, value] : over)
            replaced = replaced || name == key;
        if (!replaced) merged.push_back(text);
    }
    for (const auto& [name, value] : over)
        merged.push_back(std::string(name).append("=").append(value));
    return merged;
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
    std::vector<char*> pointers;
    pointers.reserve(texts.size() + 1);
    for (auto& text : texts)
        pointers.push_back(text.data());
    pointers.push_back(nullptr);
    return pointers;
}

}  // namespace

ChildProcess ChildProcess::start(std::string name, const std::vector<std::string>& arguments,
                                 const Environment& environment,
                                 const std::vector<int>& inherited) {
    // Everything that allocates happens before the fork.
    std::vector<std::string> argument_texts{"sanpoll-ping"};
    argument_texts.insert(argument_texts.end(), arguments.begin(), arguments.end());
    std::vector<std::string> environment_texts = merged_environment(environment);
    const std::vector<char*> argv = pointers_to(argument_texts);
    const std::vector<char*> envp = pointers_to(environment_texts);
    const pid_t parent = getpid();

    const pid_t pid = fork();
    if (pid < 0)
        throw std::system_error(errno, std::generic_category(),
                                "cannot start a child process (fork)");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(kExecFailed);  // the parent was gone before the line above
        for (const int fd : inherited)
            fcntl(fd, F_SETFD, 0);
        execve("/proc/self/exe", argv.data(), envp.data());
        _exit(kExecFailed);
    }
    return {std::move(name), pid};
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : name_(std::move(other.name_)), pid_(std::exchange(other.pid_, -1)), status_(other.status_) {}

ChildProcess::~ChildProcess() {
    if (pid_ <= 0 || status_) return;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

std::optional<std::string> ChildProcess::ended(std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!status_) {
        int status = 0;
        const pid_t reaped = waitpid(pid_, &status, WNOHANG);
        if (reaped == pid_) {
            status_ = status;
        } else if (reaped < 0 && errno != EINTR) {
            return "could not be waited for";
        } else if (std::chrono::steady_clock::now() >= deadline) {
            return std::nullopt;
        } else {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    if (WIFSIGNALED(*status_)) {
        return "was killed by signal " + std::to_string(WTERMSIG(*status_)) + " (" +
               strsignal(WTERMSIG(*status_)) + ")";
    }
    return "ended with status " + std::to_string(WEXITSTATUS(*status_));
}

bool ChildProcess::failed() const noexcept {
    return status_ && !(WIFEXITED(*status_) && WEXITSTATUS(*status_) == 0);
}

}  // namespace sanpoll::bench

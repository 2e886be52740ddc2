#include "tests/bench/run_program.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace sanpoll::bench::test {
namespace {

std::string content_of(int fd) {
    std::string text;
    char piece[4096];
    lseek(fd, 0, SEEK_SET);
    for (ssize_t n = read(fd, piece, sizeof piece); n > 0; n = read(fd, piece, sizeof piece)) {
        text.append(piece, static_cast<std::size_t>(n));
    }
    return text;
}

void keep_to_cpu(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<std::size_t>(cpu), &set);
    sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

RunningProgram::RunningProgram(const std::string& name, const std::vector<std::string>& arguments,
                               const std::vector<std::pair<std::string, std::string>>& environment,
                               int cpu) {
    const char* folder = std::getenv("SANPOLL_BIN_DIR");
    if (folder == nullptr) throw std::runtime_error("SANPOLL_BIN_DIR is not set: run with ctest");
    std::vector<std::string> texts{name.starts_with('/') ? name : std::string(folder) + "/" + name};
    texts.insert(texts.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    argv.reserve(texts.size() + 1);
    for (auto& text : texts)
        argv.push_back(text.data());
    argv.push_back(nullptr);

    out_ = memfd_create("out", MFD_CLOEXEC);
    err_ = memfd_create("err", MFD_CLOEXEC);
    pid_ = fork();
    if (pid_ != 0) return;
    dup2(out_, STDOUT_FILENO);
    dup2(err_, STDERR_FILENO);
    for (const auto& [key, value] : environment)
        setenv(key.c_str(), value.c_str(), 1);
    if (cpu >= 0) keep_to_cpu(cpu);
    execv(argv[0], argv.data());
    _exit(126);
}

RunningProgram::~RunningProgram() {
    if (pid_ > 0) {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    close(out_);
    close(err_);
}

std::vector<pid_t> RunningProgram::children() const { return children_of(pid_); }

ProgramResult RunningProgram::wait(std::chrono::seconds patience) {
    ProgramResult result;
    const auto deadline = std::chrono::steady_clock::now() + patience;
    int status = 0;
    for (;;) {
        if (waitpid(pid_, &status, WNOHANG) == pid_) {
            result.ended = true;
            break;
        }
        if (std::chrono::steady_clock::now() > deadline) {
            kill(pid_, SIGKILL);
            waitpid(pid_, &status, 0);
            break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    pid_ = -1;
    result.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.out = content_of(out_);
    result.err = content_of(err_);
    return result;
}

ProgramResult run_ping(const std::vector<std::string>& arguments, int cpu) {
    return RunningProgram("sanpoll-ping", arguments, {}, cpu).wait();
}

std::vector<pid_t> children_of(pid_t parent) {
    const std::string id = std::to_string(parent);
    std::ifstream list("/proc/" + id + "/task/" + id + "/children");
    std::vector<pid_t> children;
    for (pid_t child = 0; list >> child;)
        children.push_back(child);
    return children;
}

std::size_t lines_of(const std::string& text) {
    const auto ends = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    return ends + (!text.empty() && text.back() != '\n' ? 1 : 0);
}

}  // namespace sanpoll::bench::test

#include "tests/provider/child_process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <map>
#include <stdexcept>

namespace sanpoll::test {
namespace {

std::map<std::string, Role::Body>& roles() {
    static std::map<std::string, Role::Body> all;
    return all;
}

std::string read_line(int fd) {
    std::string line;
    char c = 0;
    while (::read(fd, &c, 1) == 1 && c != '\n') {
        line += c;
    }
    return line;
}

void write_line(int fd, const std::string& line) {
    const std::string text = line + "\n";
    (void)!::write(fd, text.data(), text.size());
}

}  // namespace

Role::Role(const char* name, Body body) { roles()[name] = body; }

int run_role(int argc, char** argv) {
    if (argc < 3 || std::string(argv[1]) != "--role") {
        return -1;
    }
    const auto found = roles().find(argv[2]);
    return found == roles().end() ? 127 : found->second({argv + 3, argv + argc});
}

void say(const std::string& line) { write_line(STDOUT_FILENO, line); }

std::string hear() { return read_line(STDIN_FILENO); }

Child::Child(const std::string& role, const std::vector<std::string>& arguments,
             const Knobs& knobs) {
    std::vector<std::string> texts{"/proc/self/exe", "--role", role};
    texts.insert(texts.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : texts) {
        argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    int to_child[2] = {-1, -1};
    int from_child[2] = {-1, -1};
    err_ = ::memfd_create("errors", MFD_CLOEXEC);
    if (::pipe2(to_child, O_CLOEXEC) != 0 || ::pipe2(from_child, O_CLOEXEC) != 0 || err_ < 0) {
        throw std::runtime_error("no pipes for a child process");
    }
    // The child changes its environment after a fork of a process with threads: prepared here.
    set_knobs(knobs);
    pid_ = ::fork();
    if (pid_ == 0) {
        ::dup2(to_child[0], STDIN_FILENO);
        ::dup2(from_child[1], STDOUT_FILENO);
        ::dup2(err_, STDERR_FILENO);
        ::execv(argv[0], argv.data());
        ::_exit(126);
    }
    unset_knobs(knobs);
    ::close(to_child[0]);
    ::close(from_child[1]);
    in_ = to_child[1];
    out_ = from_child[0];
}

Child::~Child() {
    kill();
    (void)wait();
    ::close(in_);
    ::close(out_);
    ::close(err_);
}

std::string Child::hear() { return read_line(out_); }

void Child::say(const std::string& line) { write_line(in_, line); }

void Child::kill() {
    if (!ended_) {
        ::kill(pid_, SIGKILL);
    }
}

void Child::stop() {
    int status = 0;
    if (::kill(pid_, SIGSTOP) != 0 || ::waitpid(pid_, &status, WUNTRACED) != pid_ ||
        !WIFSTOPPED(status)) {
        throw std::runtime_error("a child process cannot be stopped");
    }
}

int Child::wait() {
    if (!ended_) {
        int status = 0;
        (void)::waitpid(pid_, &status, 0);
        ended_ = true;
        status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    return status_;
}

std::string Child::errors() const {
    std::string content;
    char piece[4096];
    off_t at = 0;
    for (ssize_t n = ::pread(err_, piece, sizeof(piece), at); n > 0;
         n = ::pread(err_, piece, sizeof(piece), at)) {
        content.append(piece, static_cast<std::size_t>(n));
        at += n;
    }
    return content;
}

}  // namespace sanpoll::test

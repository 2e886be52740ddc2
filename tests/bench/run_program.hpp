// Runs a built program and keeps what it says.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace sanpoll::bench::test {

struct ProgramResult {
    bool ended = false;  // false: killed because it took too long
    int status = -1;     // -1 if it ended by a signal
    std::string out;
    std::string err;
};

// A program of SANPOLL_BIN_DIR, or one with an absolute path, started in the constructor.
class RunningProgram {
public:
    // `environment` is put over this process's; `cpu` >= 0 leaves the program that one CPU.
    RunningProgram(const std::string& name, const std::vector<std::string>& arguments,
                   const std::vector<std::pair<std::string, std::string>>& environment = {},
                   int cpu = -1);
    RunningProgram(const RunningProgram&) = delete;
    RunningProgram& operator=(const RunningProgram&) = delete;
    ~RunningProgram();  // kills what still runs

    pid_t pid() const { return pid_; }
    // Its children at the moment, or those that `parent` has.
    std::vector<pid_t> children() const;

    // Waits for the end; kills after `patience`.
    ProgramResult wait(std::chrono::seconds patience = std::chrono::seconds(150));

private:
    pid_t pid_ = -1;
    int out_ = -1;  // memory files that the program writes into
    int err_ = -1;
};

// Starts sanpoll-ping and waits.
ProgramResult run_ping(const std::vector<std::string>& arguments, int cpu = -1);

// Waits until `condition()` holds; false after a minute.
template <typename Condition>
[[nodiscard]] bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

// The processes that are children of `parent` (from /proc).
std::vector<pid_t> children_of(pid_t parent);

// Number of lines; a last one without an end counts.
std::size_t lines_of(const std::string& text);

}  // namespace sanpoll::bench::test

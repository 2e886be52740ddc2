// Progress of a long run on standard error: one line that is rewritten on a terminal, a line every few seconds
// elsewhere, nothing during the first moments or when silenced.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>

namespace sanpoll::bench {

class Progress {
public:
    Progress(std::uint64_t steps, bool silent, std::string program = program_invocation_short_name);
    ~Progress();  // wipes the line
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // What is being done now.
    void show(const std::string& what);
    // One step is over.
    void step() noexcept { ++done_; }

private:
    std::string program_;
    std::uint64_t steps_;
    std::uint64_t done_ = 0;
    bool silent_;
    bool terminal_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point next_;
};

}  // namespace sanpoll::bench

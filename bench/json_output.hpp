// Where a program's --json goes: a file, or standard output for "-", which then gets nothing else.
//
// Contract: the constructor opens the file, so that a wrong path is told before anything is measured; write() ends with
// a flush. Both throw std::runtime_error with a message that names the file. No threads.
#pragma once

#include <fstream>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace sanpoll::bench {

class JsonOutput {
public:
    // Empty: nothing is wanted, and write() does nothing.
    explicit JsonOutput(std::string path);

    // Whether tables for people have standard output for themselves.
    [[nodiscard]] bool leaves_stdout() const noexcept { return path_ != "-"; }
    void write(const nlohmann::json& value);

private:
    const std::string path_;
    std::ofstream file_;
};

}  // namespace sanpoll::bench

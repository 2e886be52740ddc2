// scripts/rdma-lab, called with a folder for temporary files of its own, so that a test can tell whether it
// leaves anything behind.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/bench/run_program.hpp"

namespace sanpoll::scripts::test {

using bench::test::ProgramResult;
using bench::test::RunningProgram;
using Arguments = std::vector<std::string>;
using Environment = std::vector<std::pair<std::string, std::string>>;

std::string script(const std::string& name);  // its path
std::string content_of(const std::filesystem::path& file);
std::vector<std::string> names_in(const std::filesystem::path& folder);

// Repeats `condition` until it holds. False if it does not within five minutes: a machine boots.
bool eventually(const std::function<bool()>& condition);

// A new folder that goes with the object.
class TemporaryFolder {
public:
    TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    ~TemporaryFolder();
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

class Lab {
public:
    // Starts the script; its temporary files come into a folder of this object's.
    RunningProgram start(const Arguments& arguments, Environment environment = {}) const;
    // Starts it and waits for the end.
    ProgramResult run(const Arguments& arguments, const Environment& environment = {}) const;

    const std::filesystem::path& temporary() const { return temporary_.path(); }
    // What calls have left behind: files, and processes that work in the folder. Empty is good.
    std::vector<std::string> remains() const;

private:
    TemporaryFolder temporary_;
};

}  // namespace sanpoll::scripts::test

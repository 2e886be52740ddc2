// A second process for a test: the test's own program, run again in a role.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {

/// What a program does when it is run in a role; returns the exit status. Define at namespace scope:
///   const Role server("server", [](const std::vector<std::string>& arguments) { ... });
struct Role {
    using Body = int (*)(const std::vector<std::string>& arguments);
    Role(const char* name, Body body);
};

/// Runs the role that the command line names; -1 when it names none.
int run_role(int argc, char** argv);

/// In a role: tells the parent a line, or waits for one (empty when the parent is gone).
void say(const std::string& line);
std::string hear();

class Child {
public:
    Child(const std::string& role, const std::vector<std::string>& arguments,
          const Knobs& knobs = {});
    ~Child();  // kills it if it still runs
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    [[nodiscard]] pid_t pid() const { return pid_; }
    /// A line of its standard output; empty when it has ended.
    [[nodiscard]] std::string hear();
    void say(const std::string& line);
    void kill();
    /// Stops it, and returns when all its threads stand still: kill() alone returns while they still run.
    void stop();
    /// Waits for its end: the exit status, or minus the signal.
    int wait();
    /// What it has written to standard error.
    [[nodiscard]] std::string errors() const;

private:
    pid_t pid_ = -1;
    int in_ = -1;
    int out_ = -1;
    int err_ = -1;
    bool ended_ = false;
    int status_ = 0;
};

}  // namespace sanpoll::test

// What the measuring programs have in common around their measurements: options, how a fault ends them, where the
// figures go.
//
//   int main(int argc, char** argv) {
//       CommonOptions common;
//       CommandLine line("name", "...");
//       add_common_options(line, common);
//       return run_program(line, argc, argv, [&] { ...; return 0; });
//   }
//
// Exit status: 0; 1 if the run failed (one line says why); 2 for a wrong option (one line says what is allowed).
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <sanpoll/switch.hpp>
#include <string>

#include "bench/command_line.hpp"

namespace sanpoll::bench {

struct CommonOptions {
    bool quick = false;   // few rounds, short ones
    bool quiet = false;   // no progress
    unsigned rounds = 0;  // 0: the program's choice
    std::string json;     // empty: none; "-": standard output, instead of the table
    std::string library;  // the provider's; empty: what the switch looks for
    int control_fd = -1;  // set in processes that the program starts itself
};

void add_common_options(CommandLine& line, CommonOptions& options);

// Parses, runs, and reports a fault. SIGPIPE is ignored from then on.
int run_program(CommandLine& line, int argc, const char* const* argv,
                const std::function<int()>& body);

// Writes `figures` if --json wants it, and prints `table` unless standard output is taken. Throws
// std::runtime_error with one line.
void report(const CommonOptions& options, const nlohmann::json& figures, const std::string& table);

// Throws std::runtime_error at once if --json names what cannot be written, so that it costs no measurement.
void check_json_file(const CommonOptions& options);

// Throws ConnectionFault.
std::unique_ptr<sanpoll_switch::Provider> load_provider(const std::string& library);

// Raises the soft limit on open files as far as the hard one lets.
void let_open_files(std::size_t wanted);

}  // namespace sanpoll::bench

// call_cost: what each call of the SPI takes, in instructions and in time, and what one message takes from WSPSend to the
// receive that is posted again. See bench/README.md.
//
// Runs the sections (call_sections.hpp) once in this process for the times, then, as often as --counts says, itself
// under callgrind for the instructions, which must come out the same each time.
//
// --json FILE ("-": standard output) writes one object:
//   program                "call_cost"
//   valgrind               its version, null where it is missing: there are no instructions then
//   rounds                 windows of a section
//   calls                  array, one object for each section:
//     name, function, what, size_bytes
//     instructions         of one call (of one message for send_and_receive_*), of the first count; null without valgrind
//     instructions_counts  of each count
//     same_in_each_count   whether they are equal
//     time_ns              of one, median of the windows of a run without callgrind
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/call_sections.hpp"
#include "bench/connection.hpp"
#include "bench/program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using sanpoll_switch::Provider;

struct Options {
    std::uint32_t rounds = 2000;
    std::uint32_t counted_rounds = 200;
    std::uint32_t counts = 2;
    std::string library;
    std::string json_file;
    std::string sections_file;  // set in the process that callgrind runs
};

std::vector<Section> run_here(const Options& options, std::uint32_t rounds) {
    sanpoll_switch::LoadOptions how;
    how.library = options.library;
    auto loaded = Provider::load(how);
    if (!loaded) throw ConnectionFault(loaded.error.message);
    const Clock clock = Clock::calibrate();
    CallMeter meter(clock);
    return run_sections(*loaded.provider, meter, rounds);
}

// What callgrind runs: the windows and calls of each section go to a file, the counts to callgrind's own.
int run_counted(const Options& options) {
    json sections = json::array();
    for (const Section& section : run_here(options, options.counted_rounds)) {
        sections.push_back(
            {{"name", section.name}, {"windows", section.windows}, {"calls", section.calls}});
    }
    std::ofstream(options.sections_file) << sections;
    return 0;
}

// A folder that goes when its owner does.
class Folder {
public:
    Folder() {
        std::string text = (std::filesystem::temp_directory_path() / "call_cost.XXXXXX").string();
        if (::mkdtemp(text.data()) == nullptr)
            throw ConnectionFault("no folder can be made in " + text + "; set TMPDIR");
        path_ = text;
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

// Runs a program found by PATH, its output into `log`. Returns its status, -1 if it could not be run.
int run_program(std::vector<std::string> words, const std::filesystem::path& log) {
    std::vector<char*> arguments;
    arguments.reserve(words.size() + 1);
    for (std::string& word : words)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child = -1;
    const int failed =
        ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    int status = 0;
    if (failed != 0 || ::waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string text_of(const std::filesystem::path& file) {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::optional<std::string> valgrind_version(const Folder& folder) {
    const auto log = folder.path() / "version";
    if (!CallMeter::kCanCount || run_program({"valgrind", "--version"}, log) != 0)
        return std::nullopt;
    std::string text = text_of(log);
    return text.substr(0, text.find('\n'));
}

// The dumps of one run: by section, what was counted.
std::map<std::string, std::uint64_t> read_dumps(const std::filesystem::path& folder) {
    std::map<std::string, std::uint64_t> counts;
    const std::string trigger = "desc: Trigger: Client Request: ";
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().filename().string().rfind("dump", 0) != 0) continue;
        std::ifstream in(entry.path());
        std::string name;
        for (std::string line; std::getline(in, line);) {
            if (line.rfind(trigger, 0) == 0) name = line.substr(trigger.size());
            if (line.rfind("totals: ", 0) == 0 && !name.empty())
                counts[name] = std::stoull(line.substr(8));
        }
    }
    return counts;
}

// Instructions of one call, by section.
std::map<std::string, double> count(const Options& options) {
    const Folder folder;
    const auto sections_file = folder.path() / "sections.json";
    const auto log = folder.path() / "log";
    std::vector<std::string> words = {"valgrind",
                                      "--tool=callgrind",
                                      "--collect-atstart=no",
                                      "--callgrind-out-file=" + (folder.path() / "dump").string(),
                                      std::filesystem::read_symlink("/proc/self/exe").string(),
                                      "--sections",
                                      sections_file.string(),
                                      "--counted-rounds",
                                      std::to_string(options.counted_rounds)};
    if (!options.library.empty()) {
        words.emplace_back("--library");
        words.push_back(options.library);
    }
    if (const int status = run_program(words, log); status != 0)
        throw ConnectionFault(fmt::format("counting under callgrind ended with status {}:\n{}",
                                          status, text_of(log)));
    const auto totals = read_dumps(folder.path());
    const json sections = json::parse(text_of(sections_file));
    double empty = 0;  // what begin() and end() take
    std::map<std::string, double> counts;
    for (const json& section : sections) {
        const std::string name = section.at("name");
        const auto total = static_cast<double>(totals.at(name));
        const double windows = section.at("windows");
        if (name == kEmptySection) empty = total / windows;
        counts[name] = (total - empty * windows) / section.at("calls").get<double>();
    }
    return counts;
}

json results(const Options& options) {
    const std::vector<Section> timed = run_here(options, options.rounds);
    const auto version = valgrind_version(Folder());
    std::vector<std::map<std::string, double>> counts;
    for (std::uint32_t i = 0; version && i < options.counts; ++i)
        counts.push_back(count(options));
    json calls = json::array();
    for (const Section& section : timed) {
        if (section.name == kEmptySection) continue;
        json instructions = json::array();
        bool same = true;
        for (const auto& one : counts) {
            instructions.push_back(one.at(section.name));
            same = same && one.at(section.name) == counts.front().at(section.name);
        }
        calls.push_back({{"name", section.name},
                         {"function", section.function},
                         {"what", section.what},
                         {"size_bytes", section.size},
                         {"instructions", counts.empty() ? json() : instructions.front()},
                         {"instructions_counts", instructions},
                         {"same_in_each_count", counts.empty() ? json() : json(same)},
                         {"time_ns", section.ns}});
    }
    return {{"program", "call_cost"},
            {"valgrind", version ? json(*version) : json()},
            {"rounds", options.rounds},
            {"calls", calls}};
}

void print(const json& all) {
    if (all.at("valgrind").is_null())
        fmt::print("valgrind or its headers are not installed: times only\n");
    fmt::print("{:<24} {:>12} {:>9}  {}\n", "", "instructions", "ns", "");
    for (const json& call : all.at("calls")) {
        const json& instructions = call.at("instructions");
        std::string count = "-";
        if (!instructions.is_null()) {
            const bool same = call.at("same_in_each_count");
            count = fmt::format("{:.1f}{}", instructions.get<double>(), same ? "" : "*");
        }
        fmt::print("{:<24} {:>12} {:>9.1f}  {}: {}\n", call.at("name").get<std::string>(), count,
                   call.at("time_ns").get<double>(), call.at("function").get<std::string>(),
                   call.at("what").get<std::string>());
    }
    fmt::print("*: not the same in each count: other threads or the system have a part in it\n");
}

int run(const Options& options) {
    // Both ends are driven by this thread, over shared memory.
    ::setenv("SANPOLL_MODE", "inline", 1);
    ::setenv("SANPOLL_FABRIC", "shm", 1);
    if (!options.sections_file.empty()) return run_counted(options);
    const json all = results(options);
    if (options.json_file != "-") print(all);
    if (options.json_file == "-") {
        std::cout << all.dump(1) << '\n';
    } else if (!options.json_file.empty()) {
        std::ofstream out(options.json_file);
        out << all.dump(1) << '\n';
        if (!out) throw ConnectionFault("cannot write " + options.json_file);
    }
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    sanpoll::bench::Options options;
    sanpoll::bench::CommandLine line("call_cost",
                                     "Instructions and time of each call of the provider.");
    line.option("--rounds", options.rounds, "Windows of each section that are timed")
        .within(100, 1000000);
    line.option("--counted-rounds", options.counted_rounds,
                "Windows of each section that are counted")
        .within(20, 100000);
    line.option("--counts", options.counts, "How often to count; 0: only times").within(0, 10);
    line.option("--library", options.library, "The provider; empty: the one beside this program");
    line.option("--json", options.json_file, "Writes the results there; -: to standard output");
    line.option("--sections", options.sections_file).hidden();
    return sanpoll::bench::run_program(line, argc, argv,
                                       [&] { return sanpoll::bench::run(options); });
}

// The command line of a measuring program.
//
//   CommandLine line("name", "what it measures");
//   line.option("--rounds", options.rounds, "measurements of each kind").within(1, 1000);
//   line.flag("--quiet", options.quiet, "no progress");
//   if (const auto status = line.parse(argc, argv)) return *status;
//
// A layer over CLI11 so that its headers are read once: each source that includes them compiles their validators
// anew, which takes longer than most of our sources.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace sanpoll::bench {

// A message in one line: without line ends, and nothing blank at its end.
std::string one_line(std::string text);

class CommandLine {
public:
    // What more there is to say of an option. As long-lived as its command line.
    class Option {
    public:
        // Any other value is refused, with the range.
        Option& within(long long least, long long most);
        Option& one_of(const std::vector<std::string>& values);
        Option& one_of(const std::vector<int>& values);
        Option& comma_separated();
        Option& shows_default();
        Option& last_wins();  // where it is given several times, which else is refused
        Option& hidden();     // from --help: for processes that the program starts itself

    private:
        friend class CommandLine;
        explicit Option(void* option) : option_(option) {}

        void* const option_;  // CLI::Option
    };

    CommandLine(const std::string& name, const std::string& description);
    ~CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    // `value` keeps what it has where the option is not given. Value: bool is for flags; else a number or a
    // std::string, or a vector of them. A flag named "!--no-x" sets its value to false.
    template <typename Value>
    Option option(const std::string& name, Value& value, const std::string& help = {});
    void flag(const std::string& name, bool& value, const std::string& help);
    // What --version prints.
    void version(const std::string& text);

    // How a program ends that is not to run: what was asked for, to standard output with status 0, or one line that says
    // which option is wrong, with status 2.
    struct End {
        int status = 0;
        std::string text;
    };
    // Nothing, if the program is to run. Prints nothing: for who has more to say.
    std::optional<End> read(int argc, const char* const* argv);
    // Nothing, if the program is to run, or the status with which it is to end: 0 after --help, 2 after one line on
    // stderr that says which option is wrong and what is allowed.
    std::optional<int> parse(int argc, const char* const* argv);

    bool given(const std::string& name) const;
    const std::string& name() const noexcept;

private:
    struct Parser;  // CLI::App

    const std::unique_ptr<Parser> parser_;
};

}  // namespace sanpoll::bench

#include "bench/command_line.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

namespace sanpoll::bench {
namespace {

constexpr int kWrongOption = 2;

CLI::Option& of(void* option) { return *static_cast<CLI::Option*>(option); }

}  // namespace

std::string one_line(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
        text.pop_back();
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

struct CommandLine::Parser {
    CLI::App app;
    std::string name;
};

CommandLine::Option& CommandLine::Option::within(long long least, long long most) {
    of(option_).check(CLI::Range(least, most));
    return *this;
}

CommandLine::Option& CommandLine::Option::one_of(const std::vector<std::string>& values) {
    of(option_).check(CLI::IsMember(values));
    return *this;
}

CommandLine::Option& CommandLine::Option::one_of(const std::vector<int>& values) {
    of(option_).check(CLI::IsMember(values));
    return *this;
}

CommandLine::Option& CommandLine::Option::comma_separated() {
    of(option_).delimiter(',');
    return *this;
}

CommandLine::Option& CommandLine::Option::shows_default() {
    of(option_).capture_default_str();
    return *this;
}

CommandLine::Option& CommandLine::Option::last_wins() {
    of(option_).take_last();
    return *this;
}

CommandLine::Option& CommandLine::Option::hidden() {
    of(option_).group("");
    return *this;
}

CommandLine::CommandLine(const std::string& name, const std::string& description)
    : parser_(std::make_unique<Parser>()) {
    parser_->app.description(description);
    parser_->app.name(name);
    parser_->name = name;
}

CommandLine::~CommandLine() = default;

template <typename Value>
CommandLine::Option CommandLine::option(const std::string& name, Value& value,
                                        const std::string& help) {
    return Option(parser_->app.add_option(name, value, help));
}

template CommandLine::Option CommandLine::option(const std::string&, int&, const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, unsigned&, const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, unsigned long&,
                                                 const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, std::string&,
                                                 const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, std::vector<int>&,
                                                 const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, std::vector<unsigned>&,
                                                 const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, std::vector<unsigned long>&,
                                                 const std::string&);
template CommandLine::Option CommandLine::option(const std::string&, std::vector<std::string>&,
                                                 const std::string&);

void CommandLine::flag(const std::string& name, bool& value, const std::string& help) {
    parser_->app.add_flag(name, value, help);
}

void CommandLine::version(const std::string& text) {
    parser_->app.set_version_flag("--version", text);
}

std::optional<CommandLine::End> CommandLine::read(int argc, const char* const* argv) {
    try {
        parser_->app.parse(argc, argv);
        return std::nullopt;
    } catch (const CLI::CallForVersion& request) {
        return End{0, request.what()};
    } catch (const CLI::Success&) {
        return End{0, parser_->app.help()};
    } catch (const CLI::ParseError& fault) {
        return End{kWrongOption, one_line(fault.what())};
    }
}

std::optional<int> CommandLine::parse(int argc, const char* const* argv) {
    const std::optional<End> end = read(argc, argv);
    if (!end) return std::nullopt;
    if (end->status == 0) {
        fmt::print("{}", end->text);
    } else {
        fmt::print(stderr, "{}: {}\n", parser_->name, end->text);
    }
    return end->status;
}

bool CommandLine::given(const std::string& name) const { return parser_->app.count(name) != 0; }

const std::string& CommandLine::name() const noexcept { return parser_->name; }

}  // namespace sanpoll::bench

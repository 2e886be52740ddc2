// Messages for the person who runs the program. Never on a data path.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace sanpoll::engine {

enum class LogLevel : int { kTrace, kDebug, kInfo, kWarn, kError, kOff };

/// One of Config::log_level's words.
void set_log_level(std::string_view level);
[[nodiscard]] bool log_enabled(LogLevel level) noexcept;
/// Text from a format and its arguments. Not a template, and so made once: the formatting code in every file
/// that has something to say was most of what the engine took to compile.
[[nodiscard]] std::string format_text(fmt::string_view format, fmt::format_args arguments);
void log_text(LogLevel level, fmt::string_view format, fmt::format_args arguments) noexcept;

/// Formats only when the level is on. Any control thread; may block on the terminal.
template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    if (log_enabled(level)) {
        log_text(level, format, fmt::make_format_args(args...));
    }
}

/// fmt::format, by way of format_text().
template <typename... Args>
[[nodiscard]] std::string formatted(fmt::format_string<Args...> format, Args&&... args) {
    return format_text(format, fmt::make_format_args(args...));
}

}  // namespace sanpoll::engine

// Messages for the person who runs the program. Never on a data path.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace sanpoll::engine {

enum class LogLevel : int { kTrace, kDebug, kInfo, kWarn, kError, kOff };

/// One of Config::log_level's words.
void set_log_level(std::string_view level);
[[nodiscard]] bool log_enabled(LogLevel level) noexcept;
void log_line(LogLevel level, std::string_view text) noexcept;

/// Formats only when the level is on. Any control thread; may block on the terminal.
template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    if (log_enabled(level)) {
        log_line(level, fmt::format(format, std::forward<Args>(args)...));
    }
}

}  // namespace sanpoll::engine

#include "engine/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace sanpoll::engine {

namespace {

// A logger of our own that is in no registry: a host program that uses spdlog keeps its settings.
spdlog::logger& logger() {
    // Never destroyed: our threads may still speak while the process runs its exit handlers.
    static spdlog::logger* const instance = [] {
        auto* made =
            new spdlog::logger("sanpoll", std::make_shared<spdlog::sinks::stderr_sink_mt>());
        made->set_pattern("sanpoll[%P] %l: %v");
        made->set_level(spdlog::level::warn);
        return made;
    }();
    return *instance;
}

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::kTrace:
            return spdlog::level::trace;
        case LogLevel::kDebug:
            return spdlog::level::debug;
        case LogLevel::kInfo:
            return spdlog::level::info;
        case LogLevel::kWarn:
            return spdlog::level::warn;
        case LogLevel::kError:
            return spdlog::level::err;
        case LogLevel::kOff:
            break;
    }
    return spdlog::level::off;
}

}  // namespace

void set_log_level(std::string_view level) {
    static constexpr std::string_view words[] = {"trace", "debug", "info", "warn", "error", "off"};
    for (int i = 0; i < 6; ++i) {
        if (words[i] == level) {
            logger().set_level(level_of(static_cast<LogLevel>(i)));
        }
    }
}

bool log_enabled(LogLevel level) noexcept { return logger().should_log(level_of(level)); }

std::string format_text(fmt::string_view format, fmt::format_args arguments) {
    return fmt::vformat(format, arguments);
}

void log_text(LogLevel level, fmt::string_view format, fmt::format_args arguments) noexcept {
    try {
        logger().log(level_of(level), std::string_view(format_text(format, arguments)));
    } catch (...) {  // a message that cannot be written must not bring the caller down
    }
}

}  // namespace sanpoll::engine

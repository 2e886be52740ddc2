#include "bench/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

namespace sanpoll::bench {
namespace {

constexpr std::chrono::milliseconds kOnTerminal{200};
constexpr std::chrono::seconds kElsewhere{3};

}  // namespace

Progress::Progress(std::uint64_t steps, bool silent, std::string program)
    : program_(std::move(program)),
      steps_(steps),
      silent_(silent),
      terminal_(isatty(STDERR_FILENO) == 1) {
    next_ = std::chrono::steady_clock::now() +
            (terminal_ ? std::chrono::milliseconds(kOnTerminal) : kElsewhere);
}

Progress::~Progress() {
    if (shown_ && terminal_) fmt::print(stderr, "\r\033[K");
}

void Progress::show(const std::string& what) {
    const auto now = std::chrono::steady_clock::now();
    if (silent_ || now < next_) return;
    next_ = now + (terminal_ ? std::chrono::milliseconds(kOnTerminal) : kElsewhere);
    const std::string text = fmt::format(
        "{}: {:3.0f} % {}", program_,
        100.0 * static_cast<double>(done_) / static_cast<double>(steps_ == 0 ? 1 : steps_), what);
    if (terminal_) {
        fmt::print(stderr, "\r\033[K{}", text);
    } else {
        fmt::print(stderr, "{}\n", text);
    }
    std::fflush(stderr);
    shown_ = true;
}

}  // namespace sanpoll::bench

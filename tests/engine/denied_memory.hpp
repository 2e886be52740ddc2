// Memory that a thread asks for and does not get, from the operator new that denied_memory.cpp gives the program.
#pragma once

namespace sanpoll::tests {

namespace denied_memory {
inline thread_local bool armed = false;
inline thread_local bool for_good = false;
inline thread_local int left = 0;  // allocations that are still granted
inline thread_local int refused = 0;

inline bool refuse() noexcept {
    if (!armed) {
        return false;
    }
    if (left != 0) {
        --left;
        return false;
    }
    if (refused != 0 && !for_good) {
        return false;
    }
    ++refused;
    return true;
}
}  // namespace denied_memory

/// While it lives, this thread gets `granted` pieces of memory from operator new, but not the next one; nor any later one if
/// `for_good`.
class DeniedMemory {
public:
    explicit DeniedMemory(int granted, bool for_good) {
        denied_memory::left = granted;
        denied_memory::for_good = for_good;
        denied_memory::refused = 0;
        denied_memory::armed = true;
    }
    ~DeniedMemory() { denied_memory::armed = false; }
    DeniedMemory(const DeniedMemory&) = delete;
    DeniedMemory& operator=(const DeniedMemory&) = delete;

    [[nodiscard]] static bool was_denied() noexcept { return denied_memory::refused != 0; }

    /// Inside it what the thread asks for is not counted and never denied: the code of a test, called back.
    class Pause {
    public:
        Pause() : armed_(denied_memory::armed) { denied_memory::armed = false; }
        ~Pause() { denied_memory::armed = armed_; }
        Pause(const Pause&) = delete;
        Pause& operator=(const Pause&) = delete;

    private:
        const bool armed_;
    };
};

}  // namespace sanpoll::tests

// Why there is no memory: the reason in a number, and in words that tell how to mend it.
#pragma once

#include <cstdint>
#include <string>

namespace sanpoll::engine::memory {

/// The numbers are those of SANPOLL_MEMORY_REASON in provider/include/sanpoll.h.
enum class Reason : std::uint32_t {
    kNone = 0,
    kNotStarted = 1,    // the provider is not started
    kForked = 2,        // a forked child, whose memory is its parent's
    kBadArgument = 3,   // a size, an alignment or a flag that is not allowed
    kLimit = 4,         // arena_limit_mb, or the greatest number of arenas, is reached
    kNoHugepages = 5,   // hugepages = required, and too few of them are free
    kNoMemory = 6,      // the kernel gives no memory
    kNoDescriptor = 7,  // the kernel gives no memory file
    kNoLibrary = 8,     // libmimalloc cannot be opened
    kNotOurs = 9,       // the address is not of a block that these functions gave out
    kThreadEnds = 10,   // the calling thread is ending and has given its heaps back
};

struct Refusal {
    Reason reason = Reason::kNone;
    std::string text;  // what is wrong and how to mend it; empty if nothing is
};

}  // namespace sanpoll::engine::memory

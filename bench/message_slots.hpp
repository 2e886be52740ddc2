// Buffers for messages: a row of equal pieces of memory whose pages are there.
#pragma once

#include <sys/mman.h>

#include <cstddef>

#include "bench/connection.hpp"

namespace sanpoll::bench {

class MessageSlots {
public:
    // Throws ConnectionFault if there is no memory.
    MessageSlots(std::size_t count, std::size_t bytes)
        : stride_((bytes + kLine - 1) / kLine * kLine + kLine), bytes_(count * stride_) {
        void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (mapped == MAP_FAILED)
            throw ConnectionFault("no memory for buffers; choose smaller --sizes");
        memory_ = static_cast<char*>(mapped);
    }
    MessageSlots(const MessageSlots&) = delete;
    MessageSlots& operator=(const MessageSlots&) = delete;
    ~MessageSlots() { munmap(memory_, bytes_); }

    char* operator[](std::size_t index) const noexcept { return memory_ + index * stride_; }

private:
    // One line more than a slot needs: at a stride of a power of two all first lines of large messages would fall into
    // the same set of the cache.
    static constexpr std::size_t kLine = 64;

    std::size_t stride_;
    std::size_t bytes_;
    char* memory_ = nullptr;
};

}  // namespace sanpoll::bench

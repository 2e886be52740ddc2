#include "tests/engine/denied_memory.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

// The array forms, and those that do not throw, come down to these.

void* operator new(std::size_t size) {
    void* const memory = sanpoll::tests::denied_memory::refuse() ? nullptr : std::malloc(size);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void* operator new(std::size_t size, std::align_val_t alignment) {
    const auto unit = static_cast<std::size_t>(alignment);
    void* const memory = sanpoll::tests::denied_memory::refuse()
                             ? nullptr
                             : std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

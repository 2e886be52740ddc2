#include "tests/engine/denied_memory.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

// All forms: those of the C++ library come down to these few, but those of the sanitizers do not, and what one has given
// the other must not take back.

namespace {

void* memory_or_null(std::size_t size) noexcept {
    return sanpoll::tests::denied_memory::refuse() ? nullptr : std::malloc(size != 0 ? size : 1);
}

void* memory_or_null(std::size_t size, std::align_val_t alignment) noexcept {
    const auto unit = static_cast<std::size_t>(alignment);
    return sanpoll::tests::denied_memory::refuse()
               ? nullptr
               : std::aligned_alloc(unit, (size + unit - 1) / unit * unit);
}

void* or_throw(void* memory) {
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}

}  // namespace

using Size = std::size_t;
using Alignment = std::align_val_t;
using NoThrow = std::nothrow_t;

void* operator new(Size size) { return or_throw(memory_or_null(size)); }
void* operator new[](Size size) { return or_throw(memory_or_null(size)); }
void* operator new(Size size, Alignment unit) { return or_throw(memory_or_null(size, unit)); }
void* operator new[](Size size, Alignment unit) { return or_throw(memory_or_null(size, unit)); }
void* operator new(Size size, const NoThrow&) noexcept { return memory_or_null(size); }
void* operator new[](Size size, const NoThrow&) noexcept { return memory_or_null(size); }
void* operator new(Size size, Alignment unit, const NoThrow&) noexcept {
    return memory_or_null(size, unit);
}
void* operator new[](Size size, Alignment unit, const NoThrow&) noexcept {
    return memory_or_null(size, unit);
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, Size) noexcept { std::free(memory); }
void operator delete[](void* memory, Size) noexcept { std::free(memory); }
void operator delete(void* memory, Alignment) noexcept { std::free(memory); }
void operator delete[](void* memory, Alignment) noexcept { std::free(memory); }
void operator delete(void* memory, Size, Alignment) noexcept { std::free(memory); }
void operator delete[](void* memory, Size, Alignment) noexcept { std::free(memory); }
void operator delete(void* memory, const NoThrow&) noexcept { std::free(memory); }
void operator delete[](void* memory, const NoThrow&) noexcept { std::free(memory); }
void operator delete(void* memory, Alignment, const NoThrow&) noexcept { std::free(memory); }
void operator delete[](void* memory, Alignment, const NoThrow&) noexcept { std::free(memory); }

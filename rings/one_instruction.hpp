// What takes one instruction where compilers make two or three of a std::atomic: they never fold an atomic's load into the
// instruction that uses it, nor its load and store into one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace sanpoll::rings {

/// word.load(acquire) == value, of a word of four or eight bytes. An aligned word is read in one piece by the comparison.
template <typename T>
[[nodiscard, gnu::always_inline]] inline bool is_now(const std::atomic<T>& word,
                                                     std::type_identity_t<T> value) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    constexpr std::size_t bytes = sizeof(std::atomic<T>);
    static_assert(std::atomic<T>::is_always_lock_free && (bytes == 4 || bytes == 8));
    bool equal = false;
    // "memory": what follows is not read before it. Of a processor that keeps loads in order.
    if constexpr (bytes == 8) {
        asm volatile("cmpq %2, %1" : "=@ccz"(equal) : "m"(word), "er"(value) : "memory");
    } else {
        asm volatile("cmpl %2, %1" : "=@ccz"(equal) : "m"(word), "er"(value) : "memory");
    }
    return equal;
#else
    return word.load(std::memory_order_acquire) == value;
#endif
}

/// load_once(word) == value, of plain memory that another process may write.
[[nodiscard, gnu::always_inline]] inline bool is_once(const void* word,
                                                      std::uint64_t value) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    typedef std::uint64_t Word __attribute__((may_alias));
    bool equal = false;
    asm volatile("cmpq %2, %1"
                 : "=@ccz"(equal)
                 : "m"(*static_cast<const Word*>(word)), "er"(value));
    return equal;
#else
    return __atomic_load_n(static_cast<const std::uint64_t*>(word), __ATOMIC_RELAXED) == value;
#endif
}

/// The same of a word that is no std::atomic, as if by std::atomic_ref.
[[nodiscard, gnu::always_inline]] inline bool is_now(std::uint64_t& word,
                                                     std::uint64_t value) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    bool equal = false;
    asm volatile("cmpq %2, %1" : "=@ccz"(equal) : "m"(word), "er"(value) : "memory");
    return equal;
#else
    return std::atomic_ref<std::uint64_t>(word).load(std::memory_order_acquire) == value;
#endif
}

/// word == value, of a word that nobody writes meanwhile, and that need not be known afterwards.
[[nodiscard, gnu::always_inline]] inline bool is(const std::uint32_t& word,
                                                 std::uint32_t value) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    bool equal = false;
    asm("cmpl %2, %1" : "=@ccz"(equal) : "m"(word), "er"(value));
    return equal;
#else
    return word == value;
#endif
}

/// Whether four bytes are zero, that nobody writes meanwhile: compilers load them first, to save a byte of code.
[[nodiscard, gnu::always_inline]] inline bool is_zero(const void* four_bytes) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    typedef std::uint32_t Word __attribute__((may_alias));
    bool zero = false;
    asm("cmpl $0, %1" : "=@ccz"(zero) : "m"(*static_cast<const Word*>(four_bytes)));
    return zero;
#else
    std::uint32_t word = 0;
    std::memcpy(&word, four_bytes, sizeof(word));
    return word == 0;
#endif
}

/// word.store(word.load(relaxed) + by, release), of a word that nobody else writes meanwhile.
[[gnu::always_inline]] inline void add_alone(std::atomic<std::uint64_t>& word,
                                             std::int32_t by) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
    // "memory": what comes before is not written after it. Of a processor that keeps stores in order.
    asm volatile("addq %1, %0" : "+m"(word) : "er"(static_cast<std::int64_t>(by)) : "cc", "memory");
#else
    word.store(word.load(std::memory_order_relaxed) +
                   static_cast<std::uint64_t>(static_cast<std::int64_t>(by)),
               std::memory_order_release);
#endif
}

}  // namespace sanpoll::rings

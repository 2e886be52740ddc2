// Copy kernels: short ones without a call, long ones without `rep movs`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sanpoll::engine {

namespace detail {

// What one load or store moves. Vectors for the long ones: a struct of that size goes through the stack.
template <std::size_t N>
struct Unit;
template <>
struct Unit<4> {
    typedef std::uint32_t type __attribute__((aligned(1), may_alias));
};
template <>
struct Unit<8> {
    typedef std::uint64_t type __attribute__((aligned(1), may_alias));
};
template <>
struct Unit<16> {
    typedef std::uint64_t type __attribute__((vector_size(16), aligned(1), may_alias));
};
template <>
struct Unit<32> {
    typedef std::uint64_t type __attribute__((vector_size(32), aligned(1), may_alias));
};

// Two copies of N that overlap in the middle cover every length from N to 2 N.
template <std::size_t N>
inline void copy_ends(void* to, const void* from, std::size_t length) noexcept {
    using Piece = typename Unit<N>::type;
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    const Piece first = *reinterpret_cast<const Piece*>(in);
    const Piece last = *reinterpret_cast<const Piece*>(in + length - N);
    *reinterpret_cast<Piece*>(out) = first;
    *reinterpret_cast<Piece*>(out + length - N) = last;
}

inline void copy_below_32(void* to, const void* from, std::size_t length) noexcept {
    if (length >= 16) {
        copy_ends<16>(to, from, length);
    } else if (length >= 8) {
        copy_ends<8>(to, from, length);
    } else if (length >= 4) {
        copy_ends<4>(to, from, length);
    } else if (length != 0) {
        auto* out = static_cast<unsigned char*>(to);
        const auto* in = static_cast<const unsigned char*>(from);
        out[0] = in[0];
        out[length / 2] = in[length / 2];
        out[length - 1] = in[length - 1];
    }
}

}  // namespace detail

/// Exactly N bytes.
template <std::size_t N>
inline void copy_exactly(void* to, const void* from) noexcept {
    std::memcpy(to, from, N);
}

/// Up to 64 bytes; touches no byte outside [from, from + length) and [to, to + length).
inline void copy_short(void* to, const void* from, std::size_t length) noexcept {
    if (length >= 32) {
        detail::copy_ends<32>(to, from, length);
    } else {
        detail::copy_below_32(to, from, length);
    }
}

/// Up to 128 bytes, likewise.
inline void copy_slot(void* to, const void* from, std::size_t length) noexcept {
    if (length <= 64) {
        copy_short(to, from, length);
    } else {
        detail::copy_ends<32>(to, from, 64);
        detail::copy_ends<32>(static_cast<char*>(to) + length - 64,
                              static_cast<const char*>(from) + length - 64, 64);
    }
}

/// As copy_slot(), in pieces of 16 bytes at most. Two more instructions for 64 bytes, but wider registers make compilers
/// align the stack, give a register away for that and clear the upper halves on the way out.
inline void copy_narrow(void* to, const void* from, std::size_t length) noexcept {
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    if (length >= 32) {
        if (length > 64) {
            detail::copy_ends<16>(out, in, 32);
            detail::copy_ends<16>(out + 32, in + 32, 32);
            out += length - 64;
            in += length - 64;
            length = 64;
        }
        detail::copy_ends<16>(out, in, 32);
        detail::copy_ends<16>(out + length - 32, in + length - 32, 32);
    } else {
        detail::copy_below_32(out, in, length);
    }
}

/// Whether this processor copies long pieces best by `rep movsb`: Intel's that have it enhanced. It takes lines to be
/// overwritten whole without reading them first: on a Xeon 1 MiB at 27 GB/s where vectors make 20, and 64 KiB into
/// lines that another core has just read at 13 where they make 9. On an EPYC the latter is three times slower
/// than with vectors, although it says of itself the same.
[[nodiscard]] inline bool finds_strings_best() noexcept {
#if defined(__x86_64__)
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0 || ebx != signature_INTEL_ebx ||
        ecx != signature_INTEL_ecx || edx != signature_INTEL_edx) {
        return false;
    }
    constexpr unsigned kEnhanced = 1U << 9;  // leaf 7, ERMS
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & kEnhanced) != 0;
#else
    return false;
#endif
}
inline const bool kStringsAreBest = finds_strings_best();
inline constexpr std::size_t kStringFrom = 8192;  // below, beginning takes longer than it gains

/// Any length. glibc's memcpy turns to `rep movsb` for a few KiB and more, wherever it is enhanced. The bytes become
/// visible in no particular order, all of them before anything that is stored afterwards.
inline void copy_long(void* to, const void* from, std::size_t length) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (length >= kStringFrom && kStringsAreBest) {
        asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
        return;
    }
#endif
#if defined(__AVX2__)
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    while (length >= 128) {
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in));
        const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 32));
        const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 64));
        const __m256i d = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + 96));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), a);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32), b);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64), c);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 96), d);
        in += 128;
        out += 128;
        length -= 128;
    }
    if (length >= 64) {
        copy_short(out, in, 64);
        in += 64;
        out += 64;
        length -= 64;
    }
    copy_short(out, in, length);
#else
    std::memcpy(to, from, length);
#endif
}

/// The same into memory that is not in the nearest cache, as the receives of a stream of long messages are not: a
/// line is asked for, to be written, some time before it is (bench/README.md). No line beyond the end is.
inline void copy_fetching(void* to, const void* from, std::size_t length) noexcept {
    constexpr std::size_t kAhead = 1024;
    constexpr std::size_t kBlock = 128;
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    while (length >= kAhead + kBlock) {
        __builtin_prefetch(out + kAhead, 1, 3);
        __builtin_prefetch(out + kAhead + kBlock / 2, 1, 3);
        copy_long(out, in, kBlock);
        out += kBlock;
        in += kBlock;
        length -= kBlock;
    }
    copy_long(out, in, length);
}

/// The same from the end to the beginning, in blocks that are copied forwards. For a copy that went the other way last
/// time: what the caches still hold of either range, which is its last part, is met before it is driven out.
inline void copy_backwards(void* to, const void* from, std::size_t length) noexcept {
    constexpr std::size_t kBlock = 32768;
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    while (length > kBlock) {
        length -= kBlock;
        copy_long(out + length, in + length, kBlock);
    }
    copy_long(out, in, length);
}

}  // namespace sanpoll::engine

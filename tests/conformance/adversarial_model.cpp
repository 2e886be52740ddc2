#include "tests/conformance/adversarial_model.hpp"

#include <algorithm>

namespace sanpoll::conformance {
namespace {

constexpr char kCanaryByte = '\x5C';

char pattern_byte(std::uint64_t message, std::size_t index) {
    return static_cast<char>((message * 0x9E3779B97F4A7C15ULL + index * 0xBF58476D1CE4E5B9ULL) >>
                             56);
}

bool only_canary(const char* at, std::size_t length) {
    return std::all_of(at, at + length, [](char c) { return c == kCanaryByte; });
}

}  // namespace

void fill_pattern(char* at, std::size_t length, std::uint64_t message) {
    for (std::size_t i = 0; i < length; ++i) {
        at[i] = pattern_byte(message, i);
    }
}

bool has_pattern(const char* at, std::size_t length, std::uint64_t message) {
    for (std::size_t i = 0; i < length; ++i) {
        if (at[i] != pattern_byte(message, i)) {
            return false;
        }
    }
    return true;
}

Arena::Arena() : memory_(kCanary + kBlocks * (kBlock + kCanary), kCanaryByte) {}

std::size_t Arena::take() {
    for (std::size_t i = 0; i < kBlocks; ++i) {
        if (!used_[i]) {
            used_[i] = true;
            std::fill(block(i), block(i) + kBlock, kCanaryByte);
            return i;
        }
    }
    return kBlocks;
}

bool Arena::intact(std::size_t index, std::size_t length) {
    return only_canary(block(index) - kCanary, kCanary) &&
           only_canary(block(index) + length, kBlock - length + kCanary);
}

}  // namespace sanpoll::conformance

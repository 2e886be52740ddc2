#include "tests/conformance/adversarial_model.hpp"

#include <algorithm>

#include "tests/conformance/fabric.hpp"

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

bool Connection::may_have_failed() const { return may_have_failed(0) || may_have_failed(1); }

bool Connection::may_have_failed(int initiator) const {
    return refused[initiator] || std::any_of(rdma[initiator].begin(), rdma[initiator].end(),
                                             [](const Operation* operation) {
                                                 return operation->rdma->doomed ||
                                                        operation->rdma->at_risk;
                                             });
}

std::vector<ExposedMemory::Range> Connection::being_written(int owner) const {
    std::vector<ExposedMemory::Range> ranges;
    for (const Operation* operation : rdma[1 - owner]) {
        if (operation->rdma->write && !operation->rdma->doomed) {
            ranges.emplace_back(operation->rdma->remote_offset(), operation->length);
        }
    }
    return ranges;
}

std::vector<int> ModelSocket::ends() const {
    if (broken != 0) {
        return {broken};
    }
    std::vector<int> errors;
    if (peer_closed()) {
        errors.push_back(WSAECONNRESET);
    }
    if (connection->may_have_failed()) {
        errors.push_back(WSAECONNABORTED);
        if (may_look_reset()) {
            errors.push_back(WSAECONNRESET);
        }
    }
    return errors;
}

bool ModelSocket::may_look_reset() const {
    return fabric_under_test().iwarp && connection->may_have_failed(1 - side);
}

std::vector<int> ModelSocket::or_the_end(int code) const {
    std::vector<int> answers = ends();
    if (broken == 0) {
        answers.push_back(code);
    }
    return answers;
}

std::vector<int> ModelSocket::or_not_connected(int code) const {
    if (broken != 0) {
        return {WSAENOTCONN};
    }
    return stands() ? std::vector<int>{code} : std::vector<int>{code, WSAENOTCONN};
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

// A connection whose ends expose memory to each other.
#pragma once

#include <array>
#include <cstring>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {

/// A descriptor as the switches send it to each other.
struct Exposed {
    std::array<char, 64> block{};
    DWORD length = 64;
};

/// A byte of a pattern that differs from its neighbours and from other numbers'.
[[nodiscard]] inline char pattern(std::size_t number, std::size_t at) {
    return static_cast<char>((at * 31 + number * 101 + (at >> 8)) & 0xFF);
}
inline void fill(char* memory, std::size_t bytes, std::size_t number) {
    for (std::size_t i = 0; i < bytes; ++i) {
        memory[i] = pattern(number, i);
    }
}
[[nodiscard]] inline bool holds(const char* memory, std::size_t bytes, std::size_t number,
                                std::size_t from = 0) {
    for (std::size_t i = 0; i < bytes; ++i) {
        if (memory[i] != pattern(number, from + i)) {
            return false;
        }
    }
    return true;
}

class RdmaFixture : public ProviderTest {
protected:
    [[nodiscard]] Exposed expose(End& end, void* memory, std::size_t bytes,
                                 DWORD access = MEM_READWRITE) {
        Exposed exposed;
        EXPECT_EQ(
            san.register_rdma(end.s, memory, bytes, access, exposed.block.data(), &exposed.length),
            0);
        return exposed;
    }
    [[nodiscard]] int conceal(End& end, Exposed& exposed) {
        return san.deregister_rdma(end.s, exposed.block.data(), exposed.length);
    }
    [[nodiscard]] int write(End& from, char* memory, std::size_t bytes, Exposed& to, DWORD offset,
                            LPWSAOVERLAPPED overlapped) {
        WSABUFEX buffer{static_cast<ULONG>(bytes), memory, from.region};
        return san.rdma_write(from.s, &buffer, 1, to.block.data(), to.length, offset, overlapped);
    }
    [[nodiscard]] int read(End& to, char* memory, std::size_t bytes, Exposed& from, DWORD offset,
                           LPWSAOVERLAPPED overlapped) {
        WSABUFEX buffer{static_cast<ULONG>(bytes), memory, to.region};
        return san.rdma_read(to.s, &buffer, 1, from.block.data(), from.length, offset, overlapped);
    }
    /// The whole operation: its error at submission or at its end.
    int write_now(End& from, char* memory, std::size_t bytes, Exposed& to, DWORD offset = 0) {
        Polled operation;
        const int error = write(from, memory, bytes, to, offset, &operation);
        return error == WSA_IO_PENDING ? ended(from, operation, bytes) : error;
    }
    int read_now(End& to, char* memory, std::size_t bytes, Exposed& from, DWORD offset = 0) {
        Polled operation;
        const int error = read(to, memory, bytes, from, offset, &operation);
        return error == WSA_IO_PENDING ? ended(to, operation, bytes) : error;
    }

private:
    int ended(End& end, Polled& operation, std::size_t bytes) {
        const Result result = san.finish(end.s, &operation);
        if (result.error == 0) {
            EXPECT_EQ(result.bytes, bytes);
            EXPECT_EQ(result.flags, 0U);
        } else {
            EXPECT_EQ(operation.InternalHigh, 0U);
        }
        return result.error;
    }
};

}  // namespace sanpoll::test

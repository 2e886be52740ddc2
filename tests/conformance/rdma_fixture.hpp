// A connection whose ends expose memory to each other.
#pragma once

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {

using Descriptor = std::vector<char>;

class RdmaTest : public PairTest {
protected:
    /// The size that a too small block is told.
    [[nodiscard]] DWORD descriptor_size(End& end) {
        DWORD length = 0;
        EXPECT_EQ(san.register_rdma(end.s, end.at(0), 1, MEM_READ, nullptr, &length), WSAEFAULT);
        return length;
    }
    /// Exposes a part of an end's memory to its peer.
    [[nodiscard]] Descriptor expose(End& end, std::size_t offset, std::size_t length,
                                    DWORD rights = MEM_READWRITE) {
        Descriptor descriptor(descriptor_size(end));
        auto size = static_cast<DWORD>(descriptor.size());
        EXPECT_EQ(
            san.register_rdma(end.s, end.at(offset), length, rights, descriptor.data(), &size), 0);
        EXPECT_EQ(size, descriptor.size());
        return descriptor;
    }
    [[nodiscard]] int conceal(End& end, Descriptor& descriptor) {
        return san.deregister_rdma(end.s, descriptor.data(), descriptor.size());
    }
    [[nodiscard]] int write(End& end, std::size_t from, std::size_t length, Descriptor& to,
                            DWORD offset, LPWSAOVERLAPPED operation) {
        WSABUFEX buffer{static_cast<ULONG>(length), end.at(from), end.region};
        return san.rdma_write(end.s, &buffer, 1, to.data(), to.size(), offset, operation);
    }
    [[nodiscard]] int read(End& end, std::size_t into, std::size_t length, Descriptor& from,
                           DWORD offset, LPWSAOVERLAPPED operation) {
        WSABUFEX buffer{static_cast<ULONG>(length), end.at(into), end.region};
        return san.rdma_read(end.s, &buffer, 1, from.data(), from.size(), offset, operation);
    }
    void write_now(End& end, std::size_t from, std::size_t length, Descriptor& to,
                   DWORD offset = 0) {
        Polled operation;
        ASSERT_EQ(write(end, from, length, to, offset, &operation), WSA_IO_PENDING);
        const Result result = san.finish(end.s, &operation);
        EXPECT_EQ(result.error, 0);
        EXPECT_EQ(result.bytes, length);
    }
    void read_now(End& end, std::size_t into, std::size_t length, Descriptor& from,
                  DWORD offset = 0) {
        Polled operation;
        ASSERT_EQ(read(end, into, length, from, offset, &operation), WSA_IO_PENDING);
        const Result result = san.finish(end.s, &operation);
        EXPECT_EQ(result.error, 0);
        EXPECT_EQ(result.bytes, length);
    }
};

}  // namespace sanpoll::conformance

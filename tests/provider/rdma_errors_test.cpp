// The error codes of the RDMA functions. What fails at submission starts nothing, and the connection lives.
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

class RdmaErrorsTest : public RdmaFixture {
protected:
    static constexpr std::size_t kBytes = 1 << 16;

    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected(kBytes);
        memory.assign(kBytes, '\0');
        target = expose(pair.server, memory.data(), kBytes);
    }
    void TearDown() override {
        if (check_alive) {
            fill(pair.client.at(0), 100, 9);
            EXPECT_EQ(write_now(pair.client, pair.client.at(0), 100, target), 0);
            EXPECT_TRUE(holds(memory.data(), 100, 9));
            expect_delivery(pair.client, pair.server, "alive");
        }
        ProviderTest::TearDown();
    }
    Knobs knobs() const override { return {{"max_rdma", "65536"}}; }

    int post(bool writes, LPWSABUFEX buffers, DWORD count, void* descriptor, std::size_t length,
             DWORD offset = 0, DWORD flags = 0) {
        return writes ? san.rdma_write(pair.client.s, buffers, count, descriptor, length, offset,
                                       &operation, flags)
                      : san.rdma_read(pair.client.s, buffers, count, descriptor, length, offset,
                                      &operation, flags);
    }
    int post(bool writes, WSABUFEX buffer, DWORD offset = 0) {
        return post(writes, &buffer, 1, target.block.data(), target.length, offset);
    }
    WSABUFEX piece(std::size_t offset, std::size_t length) {
        return {static_cast<ULONG>(length), pair.client.at(offset), pair.client.region};
    }
    int registration(void* address, std::size_t bytes, DWORD flags) {
        Exposed exposed;
        const int error = san.register_rdma(pair.server.s, address, bytes, flags,
                                            exposed.block.data(), &exposed.length);
        if (error == WSAEFAULT) {
            EXPECT_EQ(exposed.length, 64U) << "a stored size says that the block was too small";
        }
        return error;
    }

    Pair pair;
    std::vector<char> memory;
    Exposed target;
    Polled operation;
    bool check_alive = true;
};

TEST_F(RdmaErrorsTest, ABlockThatIsTooSmallIsAFaultAndItsSizeIsTold) {
    for (const DWORD small : {0U, 1U, target.length - 1}) {
        char block[64];
        DWORD length = small;
        EXPECT_EQ(san.register_rdma(pair.server.s, memory.data(), 100, MEM_READ, block, &length),
                  WSAEFAULT);
        EXPECT_EQ(length, target.length);
    }
    // Whatever else is wrong.
    DWORD length = 0;
    EXPECT_EQ(san.register_rdma(pair.server.s, nullptr, 0, 77, nullptr, &length), WSAEFAULT);
    EXPECT_EQ(length, target.length);
    length = 0;
    EXPECT_EQ(san.register_rdma(bound(), nullptr, 0, 77, nullptr, &length), WSAEFAULT);
    EXPECT_EQ(length, target.length);
}

TEST_F(RdmaErrorsTest, NoBlockIsAFaultAndItsSizeIsTold) {
    DWORD length = 64;
    EXPECT_EQ(san.register_rdma(pair.server.s, memory.data(), 100, MEM_READ, nullptr, &length),
              WSAEFAULT);
    EXPECT_EQ(length, target.length);
    char block[64];
    EXPECT_EQ(san.register_rdma(pair.server.s, memory.data(), 100, MEM_READ, block, nullptr),
              WSAEFAULT);
}

TEST_F(RdmaErrorsTest, DescriptorsAreSmallAndOfOneSize) {
    EXPECT_LE(target.length, 64U);
    EXPECT_EQ(expose(pair.server, memory.data(), 1, MEM_READ).length, target.length);
    EXPECT_EQ(expose(pair.client, memory.data(), kBytes, MEM_WRITE).length, target.length);
}

TEST_F(RdmaErrorsTest, OtherFlagsOfARegistrationAreInvalid) {
    for (const DWORD flags : {0U, 4U, 5U, 0x80000001U, 0xFFFFFFFFU}) {
        EXPECT_EQ(registration(memory.data(), 100, flags), WSAEINVAL) << flags;
    }
}

TEST_F(RdmaErrorsTest, BadMemoryIsAFaultAndNoSizeIsTold) {
    EXPECT_EQ(registration(nullptr, 100, MEM_READ), WSAEFAULT);
    EXPECT_EQ(registration(memory.data(), 0, MEM_READ), WSAEFAULT);
    EXPECT_EQ(registration(reinterpret_cast<void*>(UINTPTR_MAX - 10), 100, MEM_READ), WSAEFAULT);
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* hole = ::mmap(nullptr, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(hole, MAP_FAILED);
    ASSERT_EQ(::munmap(hole, page), 0);
    EXPECT_EQ(registration(hole, page, MEM_READ), WSAEFAULT);
}

TEST_F(RdmaErrorsTest, AnUnconnectedSocketExposesNothing) {
    const SOCKET s = bound();
    Exposed exposed;
    EXPECT_EQ(
        san.register_rdma(s, memory.data(), 100, MEM_READ, exposed.block.data(), &exposed.length),
        WSAENOTCONN);
    EXPECT_EQ(san.deregister_rdma(s, target.block.data(), target.length), WSAEINVAL);
}

TEST_F(RdmaErrorsTest, AnUnconnectedSocketTransfersNothing) {
    WSABUFEX buffer = piece(0, 10);
    for (const SOCKET s : {socket(), bound(), listening(fresh_address())}) {
        EXPECT_EQ(san.rdma_write(s, &buffer, 1, target.block.data(), target.length, 0, &operation),
                  WSAENOTCONN);
        EXPECT_EQ(san.rdma_read(s, &buffer, 1, target.block.data(), target.length, 0, &operation),
                  WSAENOTCONN);
    }
}

TEST_F(RdmaErrorsTest, ABrokenSocketTellsWhy) {
    End end = broken();
    WSABUFEX buffer{10, end.at(0), end.region};
    EXPECT_EQ(san.rdma_write(end.s, &buffer, 1, target.block.data(), target.length, 0, &operation),
              WSAECONNRESET);
    EXPECT_EQ(san.rdma_read(end.s, &buffer, 1, target.block.data(), target.length, 0, &operation),
              WSAECONNRESET);
    Exposed exposed;
    EXPECT_EQ(san.register_rdma(end.s, memory.data(), 100, MEM_READ, exposed.block.data(),
                                &exposed.length),
              WSAENOTCONN);
}

TEST_F(RdmaErrorsTest, WhatIsNoSocketIsNoSocket) {
    const SOCKET closed = socket();
    EXPECT_EQ(san.close(closed), 0);
    WSABUFEX buffer = piece(0, 10);
    for (const SOCKET s : {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{0}, closed}) {
        Exposed exposed;
        EXPECT_EQ(san.register_rdma(s, memory.data(), 100, MEM_READ, exposed.block.data(),
                                    &exposed.length),
                  WSAENOTSOCK);
        EXPECT_EQ(san.deregister_rdma(s, target.block.data(), target.length), WSAENOTSOCK);
        EXPECT_EQ(san.rdma_write(s, &buffer, 1, target.block.data(), target.length, 0, &operation),
                  WSAENOTSOCK);
        EXPECT_EQ(san.rdma_read(s, &buffer, 1, target.block.data(), target.length, 0, &operation),
                  WSAENOTSOCK);
    }
}

TEST_F(RdmaErrorsTest, ADescriptorOfAnotherLengthIsInvalid) {
    WSABUFEX buffer = piece(0, 10);
    for (const bool writes : {true, false}) {
        for (const std::size_t length : {0U, 1U, target.length - 1, target.length + 1, 64U}) {
            EXPECT_EQ(post(writes, &buffer, 1, target.block.data(), length), WSAEINVAL) << length;
        }
        EXPECT_EQ(post(writes, &buffer, 1, nullptr, target.length), WSAEINVAL);
    }
    EXPECT_EQ(san.deregister_rdma(pair.server.s, target.block.data(), target.length - 1),
              WSAEINVAL);
    EXPECT_EQ(san.deregister_rdma(pair.server.s, nullptr, target.length), WSAEINVAL);
}

TEST_F(RdmaErrorsTest, BytesThatAreNoDescriptorAreInvalid) {
    WSABUFEX buffer = piece(0, 10);
    Exposed none;
    none.length = target.length;
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, &buffer, 1, none.block.data(), none.length), WSAEINVAL);
    }
    EXPECT_EQ(conceal(pair.server, none), WSAEINVAL);
}

TEST_F(RdmaErrorsTest, FlagsAreInvalid) {
    WSABUFEX buffer = piece(0, 10);
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, &buffer, 1, target.block.data(), target.length, 0, 1), WSAEINVAL);
    }
}

TEST_F(RdmaErrorsTest, NoOverlappedIsInvalid) {  // project decision
    WSABUFEX buffer = piece(0, 10);
    EXPECT_EQ(
        san.rdma_write(pair.client.s, &buffer, 1, target.block.data(), target.length, 0, nullptr),
        WSAEINVAL);
    EXPECT_EQ(
        san.rdma_read(pair.client.s, &buffer, 1, target.block.data(), target.length, 0, nullptr),
        WSAEINVAL);
}

TEST_F(RdmaErrorsTest, NineBuffersAreInvalid) {
    std::vector<WSABUFEX> buffers(9, piece(0, 1));
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, buffers.data(), 9, target.block.data(), target.length), WSAEINVAL);
        EXPECT_EQ(post(writes, buffers.data(), 0xFFFFFFFFU, target.block.data(), target.length),
                  WSAEINVAL);
    }
}

TEST_F(RdmaErrorsTest, NoListIsAFault) {
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, nullptr, 1, target.block.data(), target.length), WSAEFAULT);
    }
}

TEST_F(RdmaErrorsTest, AnUnknownHandleIsInvalid) {
    HANDLE gone = san.register_memory(pair.client.s, pair.client.at(0), 100, MEM_READWRITE);
    EXPECT_EQ(san.deregister_memory(pair.client.s, gone), 0);
    for (const bool writes : {true, false}) {
        for (HANDLE handle :
             {HANDLE{nullptr}, pair.server.region, gone, reinterpret_cast<HANDLE>(UINTPTR_MAX)}) {
            EXPECT_EQ(post(writes, {10, pair.client.at(0), handle}), WSAEINVAL);
        }
    }
}

TEST_F(RdmaErrorsTest, ALocalBufferOutsideItsRegistrationIsAFault) {
    HANDLE part = san.register_memory(pair.client.s, pair.client.at(1000), 1000, MEM_READWRITE);
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, {10, pair.client.at(999), part}), WSAEFAULT);
        EXPECT_EQ(post(writes, {11, pair.client.at(1990), part}), WSAEFAULT);
        EXPECT_EQ(post(writes, {1001, pair.client.at(1000), part}), WSAEFAULT);
        EXPECT_EQ(post(writes, {10, memory.data(), part}), WSAEFAULT);
        EXPECT_EQ(post(writes, {1000, pair.client.at(1000), part}), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
}

TEST_F(RdmaErrorsTest, ALocalBufferWithoutTheRightIsAFault) {
    HANDLE readable = san.register_memory(pair.client.s, pair.client.at(0), 100, MEM_READ);
    HANDLE writable = san.register_memory(pair.client.s, pair.client.at(0), 100, MEM_WRITE);
    EXPECT_EQ(post(true, {10, pair.client.at(0), writable}), WSAEFAULT);
    EXPECT_EQ(post(false, {10, pair.client.at(0), readable}), WSAEFAULT);
    EXPECT_EQ(post(true, {10, pair.client.at(0), readable}), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    EXPECT_EQ(post(false, {10, pair.client.at(0), writable}), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
}

TEST_F(RdmaErrorsTest, MoreThanTheLongestTransferIsAMessageSizeError) {
    for (const bool writes : {true, false}) {
        WSABUFEX two[] = {piece(0, 65536), piece(0, 1)};
        EXPECT_EQ(post(writes, two, 2, target.block.data(), target.length), WSAEMSGSIZE);
        EXPECT_EQ(post(writes, piece(0, 65536)), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).bytes, 65536U);
    }
}

TEST_F(RdmaErrorsTest, ARangeBeyondTheDescriptorIsAFault) {
    for (const bool writes : {true, false}) {
        EXPECT_EQ(post(writes, piece(0, 10), kBytes - 9), WSAEFAULT);
        EXPECT_EQ(post(writes, piece(0, 1), kBytes), WSAEFAULT);
        EXPECT_EQ(post(writes, piece(0, 1), 0xFFFFFFFFU), WSAEFAULT);
        EXPECT_EQ(post(writes, piece(0, 0), kBytes + 1), WSAEFAULT);
        EXPECT_EQ(post(writes, piece(0, 10), kBytes - 10), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
}

TEST_F(RdmaErrorsTest, ADescriptorWithoutTheRightIsAFault) {
    Exposed readable = expose(pair.server, memory.data(), 100, MEM_READ);
    Exposed writable = expose(pair.server, memory.data(), 100, MEM_WRITE);
    EXPECT_EQ(write_now(pair.client, pair.client.at(0), 10, readable), WSAEFAULT);
    EXPECT_EQ(read_now(pair.client, pair.client.at(0), 10, writable), WSAEFAULT);
    EXPECT_EQ(read_now(pair.client, pair.client.at(0), 10, readable), 0);
    EXPECT_EQ(write_now(pair.client, pair.client.at(0), 10, writable), 0);
}

TEST_F(RdmaErrorsTest, WhatFailedAtSubmissionLeavesTheOverlappedAlone) {
    operation.Internal = 12345;
    EXPECT_EQ(post(true, piece(0, 10), kBytes), WSAEFAULT);
    EXPECT_EQ(operation.Internal, 12345U);
}

TEST_F(RdmaErrorsTest, DeregisteringTwiceIsInvalid) {
    Exposed other = expose(pair.server, memory.data(), 100);
    EXPECT_EQ(conceal(pair.server, other), 0);
    EXPECT_EQ(conceal(pair.server, other), WSAEINVAL);
}

TEST_F(RdmaErrorsTest, AnotherSocketsDescriptorIsInvalid) {  // project decision
    EXPECT_EQ(conceal(pair.client, target), WSAEINVAL);
}

TEST_F(RdmaErrorsTest, ADescriptorThatWasNeverIssuedIsInvalid) {
    for (std::size_t bit = 0; bit < target.length * 8; ++bit) {
        Exposed forged = target;
        forged.block[bit / 8] = static_cast<char>(forged.block[bit / 8] ^ (1 << bit % 8));
        const int error = conceal(pair.server, forged);
        // Length and rights are only told to the initiator.
        const bool told = bit >= 128 && bit < 192;
        if (told && error == 0) {
            target = expose(pair.server, memory.data(), kBytes);
            continue;
        }
        EXPECT_EQ(error, WSAEINVAL) << bit;
    }
    std::mt19937 random(20240611);
    for (int i = 0; i < 1000; ++i) {
        Exposed forged = target;
        for (DWORD at = 4; at < 16; ++at) {
            forged.block[at] = static_cast<char>(random());
        }
        EXPECT_EQ(conceal(pair.server, forged), WSAEINVAL);
    }
}

TEST_F(RdmaErrorsTest, AfterTheLastCleanupNothingIsInitialised) {
    check_alive = false;
    stop();
    WSABUFEX buffer = piece(0, 10);
    EXPECT_EQ(post(true, &buffer, 1, target.block.data(), target.length), WSANOTINITIALISED);
    EXPECT_EQ(post(false, &buffer, 1, target.block.data(), target.length), WSANOTINITIALISED);
    EXPECT_EQ(conceal(pair.server, target), WSANOTINITIALISED);
    EXPECT_EQ(registration(memory.data(), 10, MEM_READ), WSANOTINITIALISED);
}

}  // namespace
}  // namespace sanpoll::test

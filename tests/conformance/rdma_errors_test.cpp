// What the RDMA functions refuse at once, and the registration of RDMA memory.
#include <algorithm>
#include <cstring>

#include "tests/conformance/rdma_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class RdmaMemoryTest : public RdmaTest {
protected:
    int error_of(SOCKET s, void* address, std::size_t length, DWORD rights) {
        char descriptor[64];
        DWORD size = sizeof(descriptor);
        return san.register_rdma(s, address, length, rights, descriptor, &size);
    }
};

// [F.WSPRegisterRdmaMemory.1 C3]
TEST_F(RdmaMemoryTest, DescriptorsHaveOneSmallSize) {  // at most 64 bytes: project decision
    const DWORD size = descriptor_size(pair.client);
    EXPECT_GT(size, 0U);
    EXPECT_LE(size, 64U);
    EXPECT_EQ(descriptor_size(pair.server), size);
    EXPECT_EQ(expose(pair.client, 0, 1).size(), size);
    EXPECT_EQ(expose(pair.client, 0, 60000).size(), size);
}

// [C3]
TEST_F(RdmaMemoryTest, DescriptorsOfOneBufferTellNothingOfEachOther) {  // project decision
    // They cannot be guessed: most of their bytes that differ at all differ at random.
    std::vector<Descriptor> all;
    for (int i = 0; i < 8; ++i) {
        all.push_back(expose(pair.client, 0, 64));
        EXPECT_EQ(std::count(all.begin(), all.end(), all.back()), 1);
    }
    std::size_t differing = 0;
    for (std::size_t byte = 0; byte < all[0].size(); ++byte) {
        differing += std::any_of(all.begin(), all.end(),
                                 [&](const Descriptor& one) { return one[byte] != all[0][byte]; })
                         ? 1
                         : 0;
    }
    EXPECT_GE(differing, 8U);
}

// [F.WSPRegisterRdmaMemory.3 F.WSPRegisterRdmaMemory.WSAEFAULT B18 R19.5 R20.10]
TEST_F(RdmaMemoryTest, TooLittleRoomIsAFaultWithTheSize) {
    const DWORD size = descriptor_size(pair.client);
    Descriptor descriptor(size, '#');
    for (const DWORD room : {DWORD{0}, DWORD{1}, size - 1}) {
        DWORD length = room;
        EXPECT_EQ(san.register_rdma(pair.client.s, pair.client.at(0), 8, MEM_READ,
                                    descriptor.data(), &length),
                  WSAEFAULT);
        EXPECT_EQ(length, size);
        length = room;
        // First of all, whatever else is wrong.
        EXPECT_EQ(san.register_rdma(pair.client.s, nullptr, 0, 77, nullptr, &length), WSAEFAULT);
        EXPECT_EQ(length, size);
    }
    EXPECT_EQ(descriptor, Descriptor(size, '#'));
}

// [B18]
TEST_F(RdmaMemoryTest, SuccessStoresTheSizeToo) {  // project decision
    Descriptor descriptor(200, '#');
    auto length = static_cast<DWORD>(descriptor.size());
    EXPECT_EQ(san.register_rdma(pair.client.s, pair.client.at(0), 8, MEM_READ, descriptor.data(),
                                &length),
              0);
    EXPECT_EQ(length, descriptor_size(pair.client));
    EXPECT_EQ(descriptor[length], '#');
}

// [F.WSPRegisterRdmaMemory.WSAEFAULT]
TEST_F(RdmaMemoryTest, BadMemoryIsAFaultWithoutASize) {
    for (const auto& [address, length] : {std::pair<void*, std::size_t>{nullptr, 8},
                                          {pair.client.at(0), 0},
                                          {reinterpret_cast<void*>(UINTPTR_MAX - 4095), 8192},
                                          {reinterpret_cast<void*>(8), 8}}) {
        char descriptor[64];
        DWORD size = sizeof(descriptor);
        EXPECT_EQ(san.register_rdma(pair.client.s, address, length, MEM_READ, descriptor, &size),
                  WSAEFAULT);
        EXPECT_EQ(size, sizeof(descriptor));
    }
}

// [F.WSPRegisterRdmaMemory.WSAEINVAL]
TEST_F(RdmaMemoryTest, OtherRightsAreInvalid) {
    for (const DWORD rights : {MEM_READ, MEM_WRITE, MEM_READWRITE}) {
        EXPECT_EQ(error_of(pair.client.s, pair.client.at(0), 8, rights), 0);
    }
    for (const DWORD rights : {0U, 4U, 7U, 0xFFFFFFFFU}) {
        EXPECT_EQ(error_of(pair.client.s, pair.client.at(0), 8, rights), WSAEINVAL) << rights;
    }
}

// [F.WSPRegisterRdmaMemory.WSAENOTCONN]
TEST_F(RdmaMemoryTest, OnlyConnectedSocketsExpose) {
    for (const SOCKET s : {socket(), bound(), listening(fresh_address())}) {
        EXPECT_EQ(error_of(s, pair.client.at(0), 8, MEM_READ), WSAENOTCONN);
    }
}

// [F.WSPRegisterRdmaMemory.2 F.WSPDeregisterRdmaMemory.2]
TEST_F(RdmaMemoryTest, ACopyIsAsGoodAndEachRegistrationCounts) {
    Descriptor first = expose(pair.server, 0, 100);
    Descriptor second = expose(pair.server, 0, 100);
    Descriptor copy = first;
    EXPECT_EQ(conceal(pair.server, copy), 0);
    write_now(pair.client, 0, 8, second);  // exposed still
    EXPECT_EQ(conceal(pair.server, second), 0);
    Descriptor again = second;
    EXPECT_EQ(conceal(pair.server, again), WSAEINVAL);
}

// [F.WSPDeregisterRdmaMemory.WSAEINVAL C6]
TEST_F(RdmaMemoryTest, WhatIsNotExposedHereIsInvalid) {
    Descriptor descriptor = expose(pair.client, 0, 100);
    EXPECT_EQ(conceal(pair.server, descriptor), WSAEINVAL) << "another socket";
    EXPECT_EQ(san.deregister_rdma(pair.client.s, descriptor.data(), descriptor.size() - 1),
              WSAEINVAL);
    EXPECT_EQ(san.deregister_rdma(pair.client.s, nullptr, descriptor.size()), WSAEINVAL);
    for (std::size_t byte = 0; byte < descriptor.size(); ++byte) {
        Descriptor forged = descriptor;
        forged[byte] = static_cast<char>(forged[byte] ^ 0x55);
        const int error = conceal(pair.client, forged);
        // Length and rights are the peer's information; what names the memory must be right.
        EXPECT_TRUE(error == WSAEINVAL || error == 0) << error;
        if (error == 0) {
            descriptor = expose(pair.client, 0, 100);
        }
    }
    EXPECT_EQ(conceal(pair.client, descriptor), 0);
    EXPECT_EQ(conceal(pair.client, descriptor), WSAEINVAL);
}

// [F.WSPDeregisterRdmaMemory.1]
TEST_F(RdmaMemoryTest, AfterDeregistrationNoByteMoreIsReached) {
    for (int round = 0; round < 20; ++round) {
        Pair both = connected();
        Descriptor target = expose(both.server, 0, 60000, MEM_WRITE);
        std::memset(both.client.at(0), 'w', 60000);
        std::deque<Polled> operations(4);
        for (Polled& operation : operations) {
            ASSERT_EQ(write(both.client, 0, 60000, target, 0, &operation), WSA_IO_PENDING);
        }
        ASSERT_TRUE(eventually([&] {
            const int error = conceal(both.server, target);  // in use: it stays
            EXPECT_TRUE(error == 0 || error == WSAEINVAL) << error;
            return error == 0;
        }));
        std::memset(both.server.at(0), '#', 60000);
        for (Polled& operation : operations) {
            const int error = san.finish(both.client.s, &operation).error;
            EXPECT_TRUE(error == 0 || error == WSAECONNABORTED || error == WSAECONNRESET) << error;
        }
        EXPECT_EQ(std::count(both.server.memory.begin(), both.server.memory.end(), 'w'), 0);
        EXPECT_EQ(san.close(both.client.s), 0);
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// ---- operations -----------------------------------------------------------------------------------------------

class RdmaErrorsTest : public RdmaTest {
protected:
    void SetUp() override {
        RdmaTest::SetUp();
        memory = expose(pair.server, 0, 4096);
        operation.Internal = 4711;
    }
    void TearDown() override {
        if (!HasFatalFailure()) {
            EXPECT_EQ(operation.Internal, 4711U) << "nothing was started";
            expect_delivery(pair.client, pair.server, "alive");
        }
        RdmaTest::TearDown();
    }
    void expect_error(int error, WSABUFEX* buffers, DWORD count, std::size_t descriptor_length,
                      DWORD flags = 0) {
        const SOCKET s = pair.client.s;
        EXPECT_EQ(san.rdma_write(s, buffers, count, memory.data(), descriptor_length, 0, &operation,
                                 flags),
                  error);
        EXPECT_EQ(san.rdma_read(s, buffers, count, memory.data(), descriptor_length, 0, &operation,
                                flags),
                  error);
    }

    Descriptor memory;
    Notified operation;
};

// [F.WSPRdma.WSAEINVAL C1]
TEST_F(RdmaErrorsTest, ADescriptorOfAnotherLengthIsInvalid) {
    WSABUFEX buffer{8, pair.client.at(0), pair.client.region};
    for (const std::size_t length : {std::size_t{0}, memory.size() - 1, memory.size() + 1}) {
        memory.resize(std::max(memory.size(), length));
        expect_error(WSAEINVAL, &buffer, 1, length);
    }
    EXPECT_EQ(san.rdma_write(pair.client.s, &buffer, 1, nullptr, memory.size(), 0, &operation),
              WSAEINVAL);
}

// [F.WSPRdma.WSAEINVAL C1 C6]
TEST_F(RdmaErrorsTest, AnUnknownHandleIsInvalid) {
    WSABUFEX theirs{8, pair.client.at(0), pair.server.region};
    expect_error(WSAEINVAL, &theirs, 1, memory.size());
    WSABUFEX null{8, pair.client.at(0), nullptr};
    expect_error(WSAEINVAL, &null, 1, memory.size());
}

// [F.WSPRdma.WSAEINVAL C1]
TEST_F(RdmaErrorsTest, FlagsTooManyBuffersAndNoOverlappedAreInvalid) {
    std::vector<WSABUFEX> buffers(1000, WSABUFEX{1, pair.client.at(0), pair.client.region});
    expect_error(WSAEINVAL, buffers.data(), 1000, memory.size());
    expect_error(WSAEINVAL, buffers.data(), 1, memory.size(), 1);
    EXPECT_EQ(
        san.rdma_write(pair.client.s, buffers.data(), 1, memory.data(), memory.size(), 0, nullptr),
        WSAEINVAL);
}

// [F.WSPRdma.WSAEFAULT C1 R20.10]
TEST_F(RdmaErrorsTest, ALocalBufferOutsideItsRegistrationIsAFault) {
    char outside[8];
    WSABUFEX stray{8, outside, pair.client.region};
    expect_error(WSAEFAULT, &stray, 1, memory.size());
    WSABUFEX beyond{8, pair.client.at(pair.client.memory.size() - 4), pair.client.region};
    expect_error(WSAEFAULT, &beyond, 1, memory.size());
    expect_error(WSAEFAULT, nullptr, 1, memory.size());
}

// [F.WSPRdma.WSAEFAULT R7.2 R20.10]
TEST_F(RdmaErrorsTest, ALocalBufferWithoutTheRightIsAFault) {
    std::vector<char> local(64);
    const SOCKET s = pair.client.s;
    HANDLE read_only = san.register_memory(s, local.data(), local.size(), MEM_READ);
    HANDLE write_only = san.register_memory(s, local.data(), local.size(), MEM_WRITE);
    WSABUFEX source{8, local.data(), write_only};
    EXPECT_EQ(san.rdma_write(s, &source, 1, memory.data(), memory.size(), 0, &operation),
              WSAEFAULT);
    WSABUFEX target{8, local.data(), read_only};
    EXPECT_EQ(san.rdma_read(s, &target, 1, memory.data(), memory.size(), 0, &operation), WSAEFAULT);
}

// [F.WSPRdma.WSAEMSGSIZE C27]
TEST_F(RdmaErrorsTest, MoreThanTheMaximumIsMessageSize) {
    DWORD longest = 0;
    INT length = sizeof(longest);
    ASSERT_EQ(san.get_option(pair.client.s, WSP_SOL_SOCKET, SO_MAX_RDMA_SIZE,
                             reinterpret_cast<char*>(&longest), &length),
              0);
    WSABUFEX buffers[4];
    std::fill(std::begin(buffers), std::end(buffers),
              WSABUFEX{0xFFFFFFFFU, pair.client.at(0), pair.client.region});
    expect_error(WSAEMSGSIZE, buffers, 4, memory.size());
    std::fill(std::begin(buffers), std::end(buffers),
              WSABUFEX{longest / 2 + 1, pair.client.at(0), pair.client.region});
    expect_error(WSAEMSGSIZE, buffers, 2, memory.size());
}

// [F.WSPRdma.WSAENOTCONN F.WSPRdma.WSAENOTSOCK]
TEST_F(RdmaErrorsTest, UnconnectedAndBadDescriptors) {
    WSABUFEX buffer{8, pair.client.at(0), pair.client.region};
    const auto both = [&](SOCKET s, int error) {
        EXPECT_EQ(san.rdma_write(s, &buffer, 1, memory.data(), memory.size(), 0, &operation),
                  error);
        EXPECT_EQ(san.rdma_read(s, &buffer, 1, memory.data(), memory.size(), 0, &operation), error);
    };
    both(bound(), WSAENOTCONN);
    both(listening(fresh_address()), WSAENOTCONN);
    const SOCKET closed = socket();
    EXPECT_EQ(san.close(closed), 0);
    both(closed, WSAENOTSOCK);
    both(INVALID_SOCKET, WSAENOTSOCK);
}

// [F.WSPRegisterRdmaMemory.WSAENOTSOCK F.WSPDeregisterRdmaMemory.WSAENOTSOCK P3 R19.2]
TEST_F(RdmaErrorsTest, RegistrationWithBadDescriptors) {
    const SOCKET closed = socket();
    EXPECT_EQ(san.close(closed), 0);
    for (const SOCKET s : {closed, static_cast<SOCKET>(INVALID_SOCKET)}) {
        auto length = static_cast<DWORD>(memory.size());
        Descriptor descriptor = memory;
        EXPECT_EQ(san.register_rdma(s, pair.client.at(0), 8, MEM_READ, descriptor.data(), &length),
                  WSAENOTSOCK);
        EXPECT_EQ(san.deregister_rdma(s, memory.data(), memory.size()), WSAENOTSOCK);
    }
}

class RdmaDepthTest : public RdmaTest {};

// [F.WSPRdma.WSAEWOULDBLOCK B19]
TEST_F(RdmaDepthTest, FarTooManyOutstandingWouldBlock) {
    Descriptor memory = expose(pair.server, 0, 8);
    // A long message without a receive holds up what is posted after it.
    Polled first;
    ASSERT_EQ(send(pair.client, &first, 60000), WSA_IO_PENDING);
    std::deque<Polled> operations;
    int error = WSA_IO_PENDING;
    while (error == WSA_IO_PENDING && operations.size() < 1'000'000) {
        error = write(pair.client, 0, 8, memory, 0, &operations.emplace_back());
    }
    EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAENOBUFS) << error;
    EXPECT_GT(operations.size(), 64U);
    EXPECT_EQ(san.close(pair.client.s), 0);
}

}  // namespace
}  // namespace sanpoll::conformance

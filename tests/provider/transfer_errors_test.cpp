// WSPSend and WSPRecv: what they refuse.
#include <algorithm>
#include <cstring>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class TransferErrorsTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected();
    }
    /// A refused call starts nothing: the operation is as it was, and later messages are not disturbed.
    void TearDown() override {
        if (!HasFatalFailure()) {
            EXPECT_EQ(operation.Internal, 4711U);
            expect_delivery(pair.client, pair.server, "still in order");
            expect_delivery(pair.server, pair.client, "this way too");
        }
        ProviderTest::TearDown();
    }
    int send(const void* data, std::size_t length) {
        operation.Internal = 4711;
        return san.send(pair.client.s, data, length, &operation);
    }
    int recv(void* data, std::size_t length) {
        operation.Internal = 4711;
        return san.recv(pair.client.s, data, length, &operation);
    }
    /// Memory registered on the client's socket with those rights.
    std::vector<char> registered(DWORD rights) {
        std::vector<char> memory(4096);
        EXPECT_NE(san.register_memory(pair.client.s, memory.data(), memory.size(), rights),
                  nullptr);
        return memory;
    }

    Pair pair;
    Polled operation;
    char outside[64] = {};
};

TEST_F(TransferErrorsTest, UnregisteredMemoryIsAFault) {
    EXPECT_EQ(send(outside, sizeof(outside)), WSAEFAULT);
    EXPECT_EQ(recv(outside, sizeof(outside)), WSAEFAULT);
}

TEST_F(TransferErrorsTest, NullBufferIsAFault) {
    EXPECT_EQ(send(nullptr, 8), WSAEFAULT);
    EXPECT_EQ(recv(nullptr, 8), WSAEFAULT);
}

TEST_F(TransferErrorsTest, NullBufferListIsAFault) {
    operation.Internal = 4711;
    EXPECT_EQ(san.send_list(pair.client.s, nullptr, 1, &operation), WSAEFAULT);
    EXPECT_EQ(san.recv_list(pair.client.s, nullptr, 1, &operation), WSAEFAULT);
}

TEST_F(TransferErrorsTest, MemoryOfAnotherSocketIsAFault) {
    EXPECT_EQ(send(pair.server.at(0), 8), WSAEFAULT);
    EXPECT_EQ(recv(pair.server.at(0), 8), WSAEFAULT);
}

TEST_F(TransferErrorsTest, ReadOnlyMemoryIsNotReceivedInto) {
    std::vector<char> memory = registered(MEM_READ);
    EXPECT_EQ(recv(memory.data(), 8), WSAEFAULT);
    Polled allowed;
    EXPECT_EQ(send(memory.data(), 0), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    Polled receive;
    EXPECT_EQ(san.recv(pair.server.s, pair.server.at(0), 8, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    operation.Internal = 4711;
}

TEST_F(TransferErrorsTest, WriteOnlyMemoryIsNotSent) {
    std::vector<char> memory = registered(MEM_WRITE);
    EXPECT_EQ(send(memory.data(), 8), WSAEFAULT);
}

TEST_F(TransferErrorsTest, RightsAreEnough) {
    std::vector<char> source = registered(MEM_READ);
    std::vector<char> target = registered(MEM_WRITE);
    Polled receive_there;
    Polled receive_here;
    Polled send_here;
    Polled send_there;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 8, &receive_there), WSA_IO_PENDING);
    ASSERT_EQ(san.send(pair.client.s, source.data(), 8, &send_here), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive_there).error, 0);
    ASSERT_EQ(san.recv(pair.client.s, target.data(), 8, &receive_here), WSA_IO_PENDING);
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 8, &send_there), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &receive_here).error, 0);
    operation.Internal = 4711;
}

TEST_F(TransferErrorsTest, BeyondTheRegistrationIsAFault) {
    char* const begin = pair.client.at(0);
    const std::size_t size = pair.client.memory.size();
    EXPECT_EQ(send(begin + 1, size), WSAEFAULT);
    EXPECT_EQ(recv(begin + 1, size), WSAEFAULT);
    EXPECT_EQ(send(begin - 1, 2), WSAEFAULT);
    EXPECT_EQ(recv(begin - 1, 2), WSAEFAULT);
    EXPECT_EQ(send(begin + size - 1, 2), WSAEFAULT);
    EXPECT_EQ(send(begin + size, 1), WSAEFAULT);
    EXPECT_EQ(recv(reinterpret_cast<void*>(UINTPTR_MAX - 3), 8), WSAEFAULT);
}

TEST_F(TransferErrorsTest, ABufferMayNotSpanTwoRegistrations) {  // project decision
    std::vector<char> memory(8192);
    EXPECT_NE(san.register_memory(pair.client.s, memory.data(), 4096, MEM_READWRITE), nullptr);
    EXPECT_NE(san.register_memory(pair.client.s, memory.data() + 4096, 4096, MEM_READWRITE),
              nullptr);
    EXPECT_EQ(send(memory.data() + 4000, 200), WSAEFAULT);
    EXPECT_EQ(recv(memory.data() + 4000, 200), WSAEFAULT);
}

TEST_F(TransferErrorsTest, OneBadBufferRefusesTheWholeList) {
    operation.Internal = 4711;
    WSABUF buffers[3] = {{8, pair.client.at(0)}, {8, outside}, {8, pair.client.at(16)}};
    EXPECT_EQ(san.send_list(pair.client.s, buffers, 3, &operation), WSAEFAULT);
    EXPECT_EQ(san.recv_list(pair.client.s, buffers, 3, &operation), WSAEFAULT);
}

TEST_F(TransferErrorsTest, MoreThan8BuffersAreInvalid) {
    operation.Internal = 4711;
    WSABUF buffers[9];
    std::fill(std::begin(buffers), std::end(buffers), WSABUF{1, pair.client.at(0)});
    EXPECT_EQ(san.send_list(pair.client.s, buffers, 9, &operation), WSAEINVAL);
    EXPECT_EQ(san.recv_list(pair.client.s, buffers, 9, &operation), WSAEINVAL);
    EXPECT_EQ(san.send_list(pair.client.s, buffers, 0xFFFFFFFFU, &operation), WSAEINVAL);
    EXPECT_EQ(san.recv_list(pair.client.s, buffers, 0xFFFFFFFFU, &operation), WSAEINVAL);
}

TEST_F(TransferErrorsTest, ASendOverTheMaximumIsMessageSize) {
    std::vector<char> memory((16U << 20) + 1);
    EXPECT_NE(san.register_memory(pair.client.s, memory.data(), memory.size(), MEM_READWRITE),
              nullptr);
    EXPECT_EQ(send(memory.data(), memory.size()), WSAEMSGSIZE);
}

TEST_F(TransferErrorsTest, LengthsThatOverflowTogetherAreMessageSize) {
    operation.Internal = 4711;
    WSABUF buffers[8];
    std::fill(std::begin(buffers), std::end(buffers), WSABUF{0xFFFFFFFFU, pair.client.at(0)});
    EXPECT_EQ(san.send_list(pair.client.s, buffers, 8, &operation), WSAEMSGSIZE);
    buffers[0].len = 0x80000001U;
    buffers[1].len = 0x80000001U;  // 2 in 32 bits
    EXPECT_EQ(san.send_list(pair.client.s, buffers, 2, &operation), WSAEMSGSIZE);
    const int error = san.recv_list(pair.client.s, buffers, 2, &operation);
    EXPECT_TRUE(error == WSAEMSGSIZE || error == WSAEFAULT) << error;
}

TEST_F(TransferErrorsTest, OutOfBandAndPartialAreNotSupported) {
    operation.Internal = 4711;
    WSABUF buffer{8, pair.client.at(0)};
    for (const DWORD flags : {WSP_MSG_OOB, WSP_MSG_PARTIAL, WSP_MSG_OOB | WSP_MSG_PARTIAL}) {
        EXPECT_EQ(san.send_list(pair.client.s, &buffer, 1, &operation, flags), WSAEOPNOTSUPP);
        EXPECT_EQ(san.recv_list(pair.client.s, &buffer, 1, &operation, flags), WSAEOPNOTSUPP);
    }
}

TEST_F(TransferErrorsTest, OtherFlagsAreInvalid) {  // project decision
    operation.Internal = 4711;
    WSABUF buffer{8, pair.client.at(0)};
    for (const DWORD flags : {0x4U, 0x8U, 0x10U, 0x80000000U, 0xFFFFFFFFU}) {
        EXPECT_EQ(san.send_list(pair.client.s, &buffer, 1, &operation, flags), WSAEINVAL) << flags;
        EXPECT_EQ(san.recv_list(pair.client.s, &buffer, 1, &operation, flags), WSAEINVAL) << flags;
    }
}

TEST_F(TransferErrorsTest, NoFlagsPointerMeansNoFlags) {  // project decision
    WSABUF buffer{8, pair.client.at(0)};
    Polled receive;
    INT error = 0;
    DWORD received = 0;
    EXPECT_EQ(san.table.lpWSPRecv(pair.client.s, &buffer, 1, &received, nullptr, &receive, nullptr,
                                  nullptr, &error),
              SOCKET_ERROR);
    EXPECT_EQ(error, WSA_IO_PENDING);
    Polled sent;
    EXPECT_EQ(san.send(pair.server.s, pair.server.at(0), 8, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &receive).error, 0);
    operation.Internal = 4711;
}

TEST_F(TransferErrorsTest, NoOverlappedIsInvalid) {  // project decision
    operation.Internal = 4711;
    EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 8, nullptr), WSAEINVAL);
    EXPECT_EQ(san.recv(pair.client.s, pair.client.at(0), 8, nullptr), WSAEINVAL);
}

TEST_F(TransferErrorsTest, NoErrorPointerIsNoCrash) {  // project decision
    operation.Internal = 4711;
    WSABUF buffer{8, outside};
    DWORD zero = 0;
    EXPECT_EQ(san.table.lpWSPSend(pair.client.s, &buffer, 1, &zero, 0, &operation, nullptr, nullptr,
                                  nullptr),
              SOCKET_ERROR);
    EXPECT_EQ(san.table.lpWSPRecv(INVALID_SOCKET, &buffer, 1, &zero, &zero, &operation, nullptr,
                                  nullptr, nullptr),
              SOCKET_ERROR);
    EXPECT_EQ(san.table.lpWSPCloseSocket(INVALID_SOCKET, nullptr), SOCKET_ERROR);
}

}  // namespace
}  // namespace sanpoll::test

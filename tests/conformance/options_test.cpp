// WSPGetSockOpt and WSPSetSockOpt: section 14.
#include <cstring>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

constexpr int kAll[] = {WSP_SO_DEBUG,           SO_MAX_MSG_SIZE, SO_MAX_RDMA_SIZE,
                        SO_RDMA_THRESHOLD_SIZE, SO_GROUP_ID,     SO_GROUP_PRIORITY};

class OptionsTest : public ConformanceTest {
protected:
    DWORD get(SOCKET s, int option) {
        DWORD value = 0x5A5A5A5A;
        INT length = sizeof(value);
        EXPECT_EQ(
            san.get_option(s, WSP_SOL_SOCKET, option, reinterpret_cast<char*>(&value), &length), 0)
            << std::hex << option;
        EXPECT_EQ(length, 4);
        return value;
    }
    int get_error(SOCKET s, int level, int option, INT room = 4) {
        char value[16] = {};
        return san.get_option(s, level, option, value, &room);
    }
    int set(SOCKET s, int option, INT value, int level = WSP_SOL_SOCKET) {
        return san.set_option(s, level, option, reinterpret_cast<const char*>(&value),
                              sizeof(value));
    }
};

// [R14.1 F.WSPGetSockOpt.1 C26 R20.13]
TEST_F(OptionsTest, DefaultsOfOptionsThatWereNeverSet) {  // all six without QoS: project decision
    const SOCKET s = socket();
    EXPECT_EQ(get(s, WSP_SO_DEBUG), 0U);
    EXPECT_EQ(get(s, SO_GROUP_ID), 0U);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 0U);
    EXPECT_GT(get(s, SO_MAX_MSG_SIZE), 0U);
    EXPECT_GT(get(s, SO_MAX_RDMA_SIZE), 0U);
    EXPECT_LE(get(s, SO_RDMA_THRESHOLD_SIZE), get(s, SO_MAX_MSG_SIZE));
}

// [F.WSPGetSockOpt.2 R20.13]
TEST_F(OptionsTest, TheLengthBecomesThatOfTheValue) {
    const SOCKET s = socket();
    for (const int option : kAll) {
        char value[16];
        std::memset(value, '#', sizeof(value));
        INT length = sizeof(value);
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, option, value, &length), 0);
        EXPECT_EQ(length, 4);
        EXPECT_EQ(value[4], '#');
    }
}

// [F.WSPGetSockOpt.WSAEFAULT R20.13]
TEST_F(OptionsTest, TooLittleRoomIsAFaultWithTheSize) {
    const SOCKET s = socket();
    for (const int option : kAll) {
        for (const INT room : {3, 1, 0, -1}) {
            char value[4];
            INT length = room;
            EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, option, value, &length), WSAEFAULT);
            EXPECT_EQ(length, 4);
        }
        INT length = 4;
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, option, nullptr, &length), WSAEFAULT);
        char value[4];
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, option, value, nullptr), WSAEFAULT);
    }
}

// [F.WSPGetSockOpt.WSAEINVAL F.WSPSetSockOpt.WSAEINVAL B1 R20.13]
TEST_F(OptionsTest, AnUnknownLevelIsInvalid) {  // project decision
    const SOCKET s = socket();
    for (const int level : {1, 0, -1, 77, 0xFFFE}) {
        EXPECT_EQ(get_error(s, level, SO_MAX_MSG_SIZE), WSAEINVAL) << level;
        EXPECT_EQ(set(s, WSP_SO_DEBUG, 1, level), WSAEINVAL) << level;
    }
}

// [F.WSPGetSockOpt.WSAENOPROTOOPT F.WSPSetSockOpt.WSAENOPROTOOPT B1 R20.13]
TEST_F(OptionsTest, AnUnknownOptionIsNoOption) {  // project decision
    const SOCKET s = socket();
    for (const int option : {WSP_SO_KEEPALIVE, WSP_SO_LINGER, WSP_SO_RCVBUF, 0x7FFF, 0, -5}) {
        EXPECT_EQ(get_error(s, WSP_SOL_SOCKET, option), WSAENOPROTOOPT) << option;
        EXPECT_EQ(set(s, option, 1), WSAENOPROTOOPT) << option;
    }
    EXPECT_EQ(get_error(s, IPPROTO_TCP, 1), WSAENOPROTOOPT);
}

// [R14.2 R3.3 F.WSPSetSockOpt.1 C26]
TEST_F(OptionsTest, DebugAndPriorityKeepWhatWasSet) {
    const SOCKET s = bound();
    EXPECT_EQ(set(s, WSP_SO_DEBUG, 1), 0);
    EXPECT_EQ(set(s, SO_GROUP_PRIORITY, -7), 0);
    EXPECT_NE(get(s, WSP_SO_DEBUG), 0U);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), static_cast<DWORD>(-7));
    EXPECT_EQ(set(s, WSP_SO_DEBUG, 0), 0);
    EXPECT_EQ(get(s, WSP_SO_DEBUG), 0U);
    EXPECT_EQ(get(socket(), SO_GROUP_PRIORITY), 0U) << "another socket's options";
}

// [F.WSPSetSockOpt.WSAENOPROTOOPT R14.2 R20.13]
TEST_F(OptionsTest, TheOthersAreOnlyRead) {
    const SOCKET s = socket();
    for (const int option :
         {SO_MAX_MSG_SIZE, SO_MAX_RDMA_SIZE, SO_RDMA_THRESHOLD_SIZE, SO_GROUP_ID}) {
        const DWORD before = get(s, option);
        EXPECT_EQ(set(s, option, 5), WSAENOPROTOOPT);
        EXPECT_EQ(get(s, option), before);
    }
}

// [F.WSPSetSockOpt.WSAEFAULT R20.13]
TEST_F(OptionsTest, LessThanFourBytesAreAFault) {
    const SOCKET s = socket();
    const char value[4] = {1, 0, 0, 0};
    for (const int length : {3, 1, 0, -1}) {
        EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, length), WSAEFAULT);
    }
    EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, nullptr, 4), WSAEFAULT);
    EXPECT_EQ(get(s, WSP_SO_DEBUG), 0U);
}

// [F.WSPAccept.8]
TEST_F(OptionsTest, AnAcceptedSocketHasItsListenersOptions) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    EXPECT_EQ(set(listener, SO_GROUP_PRIORITY, 3), 0);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    const SOCKET s = san.accept(listener);
    ASSERT_NE(s, INVALID_SOCKET);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 3U);
    EXPECT_EQ(set(listener, SO_GROUP_PRIORITY, 4), 0);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 3U) << "copied, not shared";
}

// [C27 R14.1]
TEST_F(OptionsTest, TheLongestMessageIsTheTrueLimit) {  // project decision
    const auto longest = static_cast<std::size_t>(get(socket(), SO_MAX_MSG_SIZE));
    Pair pair = connected(longest + 1);
    Polled receive;
    Polled operation;
    EXPECT_EQ(send(pair.client, &operation, longest + 1), WSAEMSGSIZE);
    ASSERT_EQ(recv(pair.server, &receive, longest), WSA_IO_PENDING);
    ASSERT_EQ(send(pair.client, &operation, longest), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, longest);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
}

// [R14.4]
TEST_F(OptionsTest, AMessageOfTheThresholdsLengthCanBeSent) {
    const auto threshold = static_cast<std::size_t>(get(socket(), SO_RDMA_THRESHOLD_SIZE));
    Pair pair = connected(threshold + 1);
    Polled receive;
    Polled operation;
    ASSERT_EQ(recv(pair.server, &receive, threshold), WSA_IO_PENDING);
    ASSERT_EQ(send(pair.client, &operation, threshold), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, threshold);
    EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
}

}  // namespace
}  // namespace sanpoll::conformance

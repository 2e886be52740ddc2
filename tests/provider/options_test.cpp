// WSPGetSockOpt and WSPSetSockOpt.
#include <cstring>
#include <functional>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr int kReadable[] = {WSP_SO_DEBUG,           SO_MAX_MSG_SIZE, SO_MAX_RDMA_SIZE,
                             SO_RDMA_THRESHOLD_SIZE, SO_GROUP_ID,     SO_GROUP_PRIORITY};
constexpr int kWritable[] = {WSP_SO_DEBUG, SO_GROUP_PRIORITY};
constexpr int kReadOnly[] = {SO_MAX_MSG_SIZE, SO_MAX_RDMA_SIZE, SO_RDMA_THRESHOLD_SIZE,
                             SO_GROUP_ID};
constexpr int kUnknown[] = {WSP_SO_KEEPALIVE,
                            WSP_SO_LINGER,
                            WSP_SO_SNDBUF,
                            WSP_SO_RCVBUF,
                            WSP_SO_TYPE,
                            WSP_SO_ERROR,
                            SO_EXCLUSIVEADDRUSE,
                            SO_PROTOCOL_INFOW,
                            SO_CONDITIONAL_ACCEPT,
                            SO_CONNECT_TIME,
                            0,
                            -1,
                            0x7FFFFFFF};

class OptionsTest : public ProviderTest {
protected:
    /// A value that was never there tells that nothing was written.
    std::uint32_t get(SOCKET s, int name) {
        std::uint32_t value = 0x5A5A5A5A;
        INT length = sizeof(value);
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, name, reinterpret_cast<char*>(&value), &length),
                  0)
            << name;
        EXPECT_EQ(length, 4);
        return value;
    }
    int set(SOCKET s, int name, std::uint32_t value, INT length = 4) {
        return san.set_option(s, WSP_SOL_SOCKET, name, reinterpret_cast<const char*>(&value),
                              length);
    }
};

class SizedOptionsTest : public OptionsTest {
protected:
    Knobs knobs() const override {
        return {{"max_message", "65536"}, {"max_rdma", "123456789"}, {"rdma_threshold", "4321"}};
    }
};

// ---- values -------------------------------------------------------------------------------------------

TEST_F(OptionsTest, DefaultsOfASocketThatNothingWasSetOn) {
    const SOCKET s = socket();
    EXPECT_EQ(get(s, WSP_SO_DEBUG), 0U);
    EXPECT_EQ(get(s, SO_GROUP_ID), 0U);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 0U);
    EXPECT_EQ(get(s, SO_MAX_MSG_SIZE), 16777216U);
    EXPECT_EQ(get(s, SO_MAX_RDMA_SIZE), 1073741824U);
    EXPECT_EQ(get(s, SO_RDMA_THRESHOLD_SIZE), 65536U);
}

TEST_F(SizedOptionsTest, SizesAreTheConfiguredLimits) {  // project decision: the true limits
    const SOCKET s = socket();
    EXPECT_EQ(get(s, SO_MAX_MSG_SIZE), 65536U);
    EXPECT_EQ(get(s, SO_MAX_RDMA_SIZE), 123456789U);
    EXPECT_EQ(get(s, SO_RDMA_THRESHOLD_SIZE), 4321U);
}

TEST_F(SizedOptionsTest, AMessageOfTheMaximumGoesAndALongerOneDoesNot) {
    Pair pair = connected(65537);
    const std::uint32_t longest = get(pair.client.s, SO_MAX_MSG_SIZE);
    Polled receive;
    Polled send;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 65537, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), longest + 1, &send), WSAEMSGSIZE);
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), longest, &send), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, longest);
    EXPECT_EQ(san.finish(pair.client.s, &send).error, 0);
}

TEST_F(OptionsTest, DebugIsReadBackAsABoolean) {
    const SOCKET s = socket();
    for (const std::uint32_t value : {1U, 0U, 0xFFFFFFFFU, 2U}) {
        EXPECT_EQ(set(s, WSP_SO_DEBUG, value), 0);
        EXPECT_EQ(get(s, WSP_SO_DEBUG), value != 0 ? 1U : 0U);
    }
}

TEST_F(OptionsTest, GroupPriorityIsReadBack) {  // project decision: kept, although there is no QoS
    const SOCKET s = socket();
    for (const std::uint32_t value : {7U, 0U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
        EXPECT_EQ(set(s, SO_GROUP_PRIORITY, value), 0);
        EXPECT_EQ(get(s, SO_GROUP_PRIORITY), value);
    }
}

// ---- whose values -------------------------------------------------------------------------------------

TEST_F(OptionsTest, EachSocketHasItsOwn) {
    const SOCKET a = socket();
    const SOCKET b = socket();
    EXPECT_EQ(set(a, SO_GROUP_PRIORITY, 3), 0);
    EXPECT_EQ(set(b, WSP_SO_DEBUG, 1), 0);
    EXPECT_EQ(get(a, WSP_SO_DEBUG), 0U);
    EXPECT_EQ(get(b, SO_GROUP_PRIORITY), 0U);
}

TEST_F(OptionsTest, ANewSocketHasNothingOfAnOldOne) {
    // More than the provider has unused records for, so that they come round again.
    for (int i = 0; i < 600; ++i) {
        const SOCKET s = socket();
        ASSERT_EQ(get(s, SO_GROUP_PRIORITY), 0U) << i;
        ASSERT_EQ(get(s, WSP_SO_DEBUG), 0U) << i;
        ASSERT_EQ(set(s, SO_GROUP_PRIORITY, 9), 0);
        ASSERT_EQ(set(s, WSP_SO_DEBUG, 1), 0);
        ASSERT_EQ(san.close(s), 0);
    }
}

TEST_F(OptionsTest, AnAcceptedSocketHasItsListenersAndThenItsOwn) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    EXPECT_EQ(set(listener, WSP_SO_DEBUG, 1), 0);
    EXPECT_EQ(set(listener, SO_GROUP_PRIORITY, 5), 0);
    WSAEVENT event = nullptr;
    const SOCKET client = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    const SOCKET accepted = san.accept(listener);
    ASSERT_NE(accepted, INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, event), 0);
    EXPECT_EQ(get(accepted, WSP_SO_DEBUG), 1U);
    EXPECT_EQ(get(accepted, SO_GROUP_PRIORITY), 5U);
    EXPECT_EQ(get(client, SO_GROUP_PRIORITY), 0U);
    EXPECT_EQ(set(accepted, SO_GROUP_PRIORITY, 6), 0);
    EXPECT_EQ(get(listener, SO_GROUP_PRIORITY), 5U);
}

TEST_F(OptionsTest, OptionsSurviveConnectingAndTheEndOfTheConnection) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const SOCKET s = bound();
    EXPECT_EQ(set(s, SO_GROUP_PRIORITY, 11), 0);
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    const SOCKET accepted = san.accept(listener);
    ASSERT_EQ(connect_result(s, event), 0);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 11U);
    EXPECT_EQ(san.close(accepted), 0);
    EXPECT_TRUE(eventually([&] {
        Polled receive;
        const int error = san.recv(s, nullptr, 0, &receive);
        return error == WSAECONNRESET || san.finish(s, &receive).error == WSAECONNRESET;
    }));
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 11U);
    EXPECT_EQ(set(s, SO_GROUP_PRIORITY, 12), 0);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 12U);
}

// ---- lengths ------------------------------------------------------------------------------------------

TEST_F(OptionsTest, GetTellsTheSizeWhenThereIsTooLittleRoom) {
    const SOCKET s = socket();
    for (const int name : kReadable) {
        for (const INT room : {3, 1, 0, -1}) {
            char value[4] = {'a', 'b', 'c', 'd'};
            INT length = room;
            EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, name, value, &length), WSAEFAULT) << name;
            EXPECT_EQ(length, 4);
            EXPECT_EQ(std::string(value, 4), "abcd");
        }
    }
}

TEST_F(OptionsTest, GetTellsTheSizeWithoutAnyRoom) {
    INT length = 0;
    EXPECT_EQ(san.get_option(socket(), WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, nullptr, &length),
              WSAEFAULT);
    EXPECT_EQ(length, 4);
}

TEST_F(OptionsTest, GetWritesFourBytesIntoALargerBuffer) {
    const SOCKET s = socket();
    for (const int name : kReadable) {
        char value[12];
        std::memset(value, 'x', sizeof(value));
        INT length = sizeof(value);
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, name, value, &length), 0);
        EXPECT_EQ(length, 4);
        EXPECT_EQ(std::string(value + 4, 8), "xxxxxxxx");
    }
}

TEST_F(OptionsTest, GetAndSetTakeUnalignedMemory) {
    const SOCKET s = socket();
    alignas(4) char bytes[8] = {};
    const std::uint32_t priority = 0x01020304;
    std::memcpy(bytes + 1, &priority, 4);
    EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY, bytes + 1, 4), 0);
    std::memset(bytes, 0, sizeof(bytes));
    INT length = 4;
    EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY, bytes + 3, &length), 0);
    EXPECT_EQ(std::memcmp(bytes + 3, &priority, 4), 0);
}

TEST_F(OptionsTest, SetWithTooShortAValueIsAFaultAndChangesNothing) {
    const SOCKET s = socket();
    for (const int name : kWritable) {
        for (const INT length : {3, 1, 0, -4}) {
            EXPECT_EQ(set(s, name, 1, length), WSAEFAULT) << name << ": " << length;
        }
        EXPECT_EQ(get(s, name), 0U);
    }
}

TEST_F(OptionsTest, SetTakesALongerValue) {
    const SOCKET s = socket();
    const std::uint32_t value[2] = {8, 0};
    EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY,
                             reinterpret_cast<const char*>(value), 8),
              0);
    EXPECT_EQ(get(s, SO_GROUP_PRIORITY), 8U);
}

TEST_F(OptionsTest, NullPointersAreAFault) {
    const SOCKET s = socket();
    char value[4] = {};
    INT length = 4;
    EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, nullptr, &length), WSAEFAULT);
    EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, nullptr), WSAEFAULT);
    EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, nullptr, 4), WSAEFAULT);
}

// ---- levels and names ---------------------------------------------------------------------------------

TEST_F(OptionsTest, AnUnknownLevelIsInvalid) {
    const SOCKET s = socket();
    char value[4] = {};
    for (const int level : {0, 1, 17, 41, 0xFFFE, 0x10000, -1}) {
        INT length = 4;
        EXPECT_EQ(san.get_option(s, level, WSP_SO_DEBUG, value, &length), WSAEINVAL) << level;
        EXPECT_EQ(san.set_option(s, level, WSP_SO_DEBUG, value, 4), WSAEINVAL) << level;
    }
}

TEST_F(OptionsTest, TcpOptionsAreUnknownHere) {  // project decision: the level exists
    const SOCKET s = socket();
    char value[4] = {};
    INT length = 4;
    constexpr int kTcpNoDelay = 1;
    EXPECT_EQ(san.get_option(s, IPPROTO_TCP, kTcpNoDelay, value, &length), WSAENOPROTOOPT);
    EXPECT_EQ(san.set_option(s, IPPROTO_TCP, kTcpNoDelay, value, 4), WSAENOPROTOOPT);
}

TEST_F(OptionsTest, AnUnknownOptionIsNoProtocolOption) {
    const SOCKET s = socket();
    for (const int name : kUnknown) {
        char value[8] = {};
        INT length = 8;
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, name, value, &length), WSAENOPROTOOPT) << name;
        EXPECT_EQ(length, 8);
        EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, name, value, 8), WSAENOPROTOOPT) << name;
    }
}

TEST_F(OptionsTest, WhatIsOnlyToBeReadCannotBeSet) {
    const SOCKET s = socket();
    for (const int name : kReadOnly) {
        const std::uint32_t before = get(s, name);
        EXPECT_EQ(set(s, name, before + 1), WSAENOPROTOOPT) << name;
        EXPECT_EQ(get(s, name), before);
    }
}

// ---- sockets ------------------------------------------------------------------------------------------

TEST_F(OptionsTest, WhatIsNoSocketHasNoOptions) {
    const SOCKET closed = socket();
    ASSERT_EQ(san.close(closed), 0);
    for (const SOCKET s : {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{0}, closed}) {
        char value[4] = {};
        INT length = 4;
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length), WSAENOTSOCK);
        EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, 4), WSAENOTSOCK);
    }
}

TEST_F(OptionsTest, TheConditionFunctionMayReadAndSetTheListenersOptions) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    std::function<int()> answer = [&] {
        EXPECT_EQ(set(listener, SO_GROUP_PRIORITY, 2), 0);
        EXPECT_EQ(get(listener, SO_GROUP_PRIORITY), 2U);
        return CF_ACCEPT;
    };
    EXPECT_NE(san.accept(
                  listener, nullptr,
                  [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*, DWORD_PTR data) {
                      return (*reinterpret_cast<std::function<int()>*>(data))();
                  },
                  reinterpret_cast<DWORD_PTR>(&answer)),
              INVALID_SOCKET);
    EXPECT_EQ(get(listener, SO_GROUP_PRIORITY), 2U);
}

}  // namespace
}  // namespace sanpoll::test

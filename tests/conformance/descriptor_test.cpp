// What every function does with a descriptor that is none, and other rules that hold for all of them.
#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class DescriptorTest : public PairTest {
protected:
    void SetUp() override {
        PairTest::SetUp();
        closed = socket();
        EXPECT_EQ(san.close(closed), 0);
    }
    /// Runs `call` for each kind of bad descriptor.
    template <typename Call>
    void expect_no_socket(Call call) {
        const SOCKET bad[] = {INVALID_SOCKET,
                              closed,
                              0,
                              1,
                              pair.client.handle,
                              static_cast<SOCKET>(0xDEADBEEF),
                              pair.client.s ^ (SOCKET{1} << 33)};
        for (const SOCKET s : bad) {
            EXPECT_EQ(call(s), WSAENOTSOCK) << std::hex << s;
        }
    }

    SOCKET closed = INVALID_SOCKET;
    Polled operation;
};

// [P3 F.WSPBind.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPBind) {
    expect_no_socket([&](SOCKET s) { return san.bind(s, fresh_address()); });
}

// [P3 F.WSPListen.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPListen) {
    expect_no_socket([&](SOCKET s) { return san.listen(s, 5); });
}

// [P3 F.WSPAccept.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPAccept) {
    expect_no_socket([&](SOCKET s) {
        int error = 0;
        EXPECT_EQ(san.accept(s, &error), INVALID_SOCKET);
        return error;
    });
}

// [P3 F.WSPConnect.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPConnect) {
    expect_no_socket([&](SOCKET s) { return san.connect(s, fresh_address()); });
}

// [P3 F.WSPEventSelect.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPEventSelect) {
    expect_no_socket(
        [&](SOCKET s) { return san.event_select(s, upcalls.create_event(), FD_ACCEPT); });
}

// [P3 F.WSPEnumNetworkEvents.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPEnumNetworkEvents) {
    const WSAEVENT event = upcalls.create_event();
    const std::size_t before = upcalls.count(UpcallKind::kResetEvent);
    expect_no_socket([&](SOCKET s) {
        WSANETWORKEVENTS events{};
        return san.enum_events(s, event, &events);
    });
    EXPECT_EQ(upcalls.count(UpcallKind::kResetEvent), before);
}

// [P3 R19.2 F.WSPSend.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPSend) {
    expect_no_socket([&](SOCKET s) { return san.send(s, pair.client.at(0), 8, &operation); });
}

// [P3 R19.2 F.WSPRecv.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPRecv) {
    expect_no_socket([&](SOCKET s) { return san.recv(s, pair.client.at(0), 8, &operation); });
}

// [P3 R19.2 F.WSPGetOverlappedResult.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPGetOverlappedResult) {
    expect_no_socket([&](SOCKET s) { return san.overlapped_result(s, &operation, 0).error; });
}

// [P3 F.WSPCloseSocket.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPCloseSocket) {
    expect_no_socket([&](SOCKET s) { return san.close(s); });
}

// [P3 F.WSPGetSockOpt.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPGetSockOpt) {
    expect_no_socket([&](SOCKET s) {
        char value[4] = {};
        INT length = sizeof(value);
        return san.get_option(s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length);
    });
}

// [P3 F.WSPSetSockOpt.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPSetSockOpt) {
    expect_no_socket([&](SOCKET s) {
        const char value[4] = {};
        return san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, sizeof(value));
    });
}

// [P3 F.WSPIoctl.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPIoctl) {
    expect_no_socket([&](SOCKET s) {
        char buffer[4096];
        DWORD returned = 0;
        return san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer), &returned);
    });
}

// [P3 F.WSPGetQOSByName.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPGetQOSByName) {
    expect_no_socket([&](SOCKET s) {
        WSABUF name{};
        QOS qos{};
        return san.qos_by_name(s, &name, &qos);
    });
}

// [P3 F.WSPDuplicateSocket.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPDuplicateSocket) {
    expect_no_socket([&](SOCKET s) {
        WSAPROTOCOL_INFOW info{};
        return san.duplicate(s, 1, &info);
    });
}

// [P3 F.WSPRegisterMemory.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPRegisterMemory) {
    expect_no_socket([&](SOCKET s) {
        int error = 0;
        EXPECT_EQ(san.register_memory(s, pair.client.at(0), 8, MEM_READ, &error), nullptr);
        return error;
    });
}

// [P3 R19.2 F.WSPDeregisterMemory.WSAENOTSOCK]
TEST_F(DescriptorTest, WSPDeregisterMemory) {
    expect_no_socket([&](SOCKET s) { return san.deregister_memory(s, pair.client.region); });
}

// [P1]
TEST_F(DescriptorTest, SuccessWritesErrorZero) {  // project decision
    INT error = 4711;
    const SOCKET s = san.table.lpWSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0,
                                           WSA_FLAG_OVERLAPPED, &error);
    EXPECT_NE(s, INVALID_SOCKET);
    EXPECT_EQ(error, 0);
    error = 4711;
    EXPECT_EQ(san.table.lpWSPCloseSocket(s, &error), 0);
    EXPECT_EQ(error, 0);
}

// [C28]
TEST_F(DescriptorTest, NoPlaceForTheErrorIsNoCrash) {  // project decision
    EXPECT_EQ(san.table.lpWSPCloseSocket(INVALID_SOCKET, nullptr), SOCKET_ERROR);
    EXPECT_EQ(san.table.lpWSPListen(pair.client.s, 1, nullptr), SOCKET_ERROR);
    WSABUF buffer{8, pair.client.at(0)};
    DWORD zero = 0;
    EXPECT_EQ(san.table.lpWSPSend(INVALID_SOCKET, &buffer, 1, &zero, 0, &operation, nullptr,
                                  nullptr, nullptr),
              SOCKET_ERROR);
}

// [T5]
TEST_F(DescriptorTest, OnlyTheNeededUpcallsAreMade) {
    // The recording switch counts every other upcall as a violation; the whole suite runs with it.
    expect_delivery(pair.client, pair.server, "hello");
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(upcalls.violations(), std::vector<std::string>{});
}

}  // namespace
}  // namespace sanpoll::conformance

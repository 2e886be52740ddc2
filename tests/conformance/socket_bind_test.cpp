// WSPSocket and WSPBind: section 3.
#include <algorithm>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class SocketTest : public ConformanceTest {
protected:
    int error_of(int af, int type, int protocol, LPWSAPROTOCOL_INFOW info = nullptr, GROUP g = 0,
                 DWORD flags = WSA_FLAG_OVERLAPPED) {
        const std::size_t before = upcalls.upcalls().size();
        int error = 0;
        const SOCKET s = san.socket(&error, af, type, protocol, info, g, flags);
        if (error != 0) {
            EXPECT_EQ(s, INVALID_SOCKET);
            EXPECT_EQ(upcalls.upcalls().size(), before) << "an upcall for a socket that is not";
        }
        return error;
    }
};

// [R2.2 R3.1 F.WSPSocket.3 R1.2 P2]
TEST_F(SocketTest, EachSocketGetsAHandleAndADescriptorOfItsOwn) {
    std::vector<SOCKET> all;
    for (int i = 0; i < 20; ++i) {
        const SOCKET s = socket();
        EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), static_cast<std::size_t>(i + 1));
        EXPECT_EQ(std::count(all.begin(), all.end(), s), 0);
        all.push_back(s);
    }
    // The switch's handle is no descriptor.
    EXPECT_EQ(san.close(upcalls.latest_handle()), WSAENOTSOCK);
}

// [F.WSPSocket.1]
TEST_F(SocketTest, TheProtocolInformationAnswersForZeroAndFromProtocolInfo) {
    WSAPROTOCOL_INFOW info{};
    info.iAddressFamily = AF_INET;
    info.iSocketType = SOCK_STREAM;
    info.iProtocol = IPPROTO_TCP;
    for (const int value : {0, FROM_PROTOCOL_INFO}) {
        EXPECT_EQ(error_of(value, value, FROM_PROTOCOL_INFO, &info), 0) << value;
    }
    info.iAddressFamily = 23;
    EXPECT_EQ(error_of(FROM_PROTOCOL_INFO, SOCK_STREAM, IPPROTO_TCP, &info), WSAEAFNOSUPPORT);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, &info), 0) << "said itself, not asked";
}

// [F.WSPSocket.2]
TEST_F(SocketTest, ProtocolZeroIsTcpAndNoInformationIsNeeded) {  // project decision
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, 0), 0);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr), 0);
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, &info), 0) << "no token, no duplicate";
}

// [F.WSPSocket.WSAEAFNOSUPPORT P9 B24]
TEST_F(SocketTest, OtherFamiliesAreNotSupported) {
    for (const int family : {1, 10, 17, 23, 32, -2}) {
        EXPECT_EQ(error_of(family, SOCK_STREAM, IPPROTO_TCP), WSAEAFNOSUPPORT) << family;
    }
}

// [F.WSPSocket.WSAESOCKTNOSUPPORT B27]
TEST_F(SocketTest, OtherTypesAreNotSupported) {
    for (const int type : {2, 3, 4, 5, 77}) {
        const int error = error_of(AF_INET, type, IPPROTO_TCP);
        // The documents leave both; the first is the project's decision.
        EXPECT_TRUE(error == WSAESOCKTNOSUPPORT || error == WSAEPROTOTYPE) << type << ": " << error;
    }
}

// [F.WSPSocket.WSAEPROTOTYPE B27]
TEST_F(SocketTest, UdpDoesNotFitAStream) {
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_UDP), WSAEPROTOTYPE);
}

// [F.WSPSocket.WSAEPROTONOSUPPORT B27]
TEST_F(SocketTest, OtherProtocolsAreNotSupported) {  // project decision
    for (const int protocol : {1, 2, 58, 132, 255, 9999}) {
        EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, protocol), WSAEPROTONOSUPPORT) << protocol;
    }
}

// [F.WSPSocket.WSAEINVAL]
TEST_F(SocketTest, AGroupIsInvalid) {
    for (const GROUP g : {SG_UNCONSTRAINED_GROUP, SG_CONSTRAINED_GROUP, 0x7FFF}) {
        EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, g), WSAEINVAL) << g;
    }
}

// [F.WSPSocket.WSAEINVAL]
TEST_F(SocketTest, OtherFlagsThanOverlappedAreInvalid) {
    for (const DWORD flags : {0x0U, 0x2U, 0x3U, 0x4U, 0x81U, 0x100U, 0xFFFFFFFFU}) {
        EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, flags), WSAEINVAL)
            << flags;
    }
}

// [F.WSPSocket.WSAEINVAL C18]
TEST_F(SocketTest, AnUnknownTokenIsInvalid) {  // project decision
    for (const DWORD token : {1U, 2U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
        WSAPROTOCOL_INFOW info{};
        info.dwProviderReserved = token;
        EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, &info), WSAEINVAL) << token;
    }
}

// [F.WSPSocket.WSAENOBUFS F.WSPSocket.4 B26]
TEST_F(SocketTest, ARefusedHandleIsNoBuffers) {
    upcalls.on_create_handle([](SOCKET) { return INVALID_SOCKET; });
    int error = 0;
    EXPECT_EQ(san.socket(&error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAENOBUFS);
    EXPECT_EQ(error, 10055);
    upcalls.on_create_handle(nullptr);
    EXPECT_EQ(upcalls.count(UpcallKind::kCloseSocketHandle), 0U);
    EXPECT_NE(socket(), INVALID_SOCKET);
}

// [F.WSPSocket.WSAEMFILE F.WSPAccept.WSAEMFILE F.WSPListen.5]
TEST_F(SocketTest, WhenDescriptorsRunOutRequestsStayQueued) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT connect_event = nullptr;
    const SOCKET client = connecting(address, &connect_event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    std::vector<SOCKET> all;
    int error = 0;
    for (;;) {
        const SOCKET s = san.socket(&error);
        if (s == INVALID_SOCKET) {
            break;
        }
        all.push_back(s);
        ASSERT_LT(all.size(), 10'000'000U);
    }
    EXPECT_EQ(error, WSAEMFILE);
    EXPECT_EQ(san.accept(listener, &error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEMFILE);
    EXPECT_FALSE(upcalls.signaled(connect_event)) << "the request must wait";
    EXPECT_EQ(san.close(all.back()), 0);
    all.pop_back();
    EXPECT_NE(san.accept(listener, &error), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
    for (const SOCKET s : all) {
        ASSERT_EQ(san.close(s), 0);
    }
}

// ---- bind -----------------------------------------------------------------------------------------------

class BindTest : public ConformanceTest {};

// [R3.2 F.WSPBind.1 B25 R20.3]
TEST_F(BindTest, OwnAddressesAndTheWildcardAreAccepted) {
    EXPECT_EQ(san.bind(socket(), fresh_address()), 0);
    EXPECT_EQ(san.bind(socket(), address_of(INADDR_ANY, 5001)), 0);
    EXPECT_EQ(san.bind(socket(), address_of(INADDR_ANY, 65535)), 0);
}

// [F.WSPBind.WSAEADDRNOTAVAIL R20.3]
TEST_F(BindTest, AForeignAddressIsNotAvailable) {
    const SOCKET s = socket();
    EXPECT_EQ(san.bind(s, address_of(fabric_under_test().foreign, 5000)), WSAEADDRNOTAVAIL);
    EXPECT_EQ(san.bind(s, address_of(0xFFFFFFFFU, 5000)), WSAEADDRNOTAVAIL);
    EXPECT_EQ(san.bind(s, address_of(0xE0000001U, 5000)), WSAEADDRNOTAVAIL);  // multicast
    EXPECT_EQ(san.bind(s, fresh_address()), 0) << "a refused bind binds nothing";
}

// [F.WSPBind.WSAEINVAL F.WSPBind.3 R20.3]
TEST_F(BindTest, ASecondBindIsInvalid) {
    const sockaddr_in address = fresh_address();
    const SOCKET s = bound(address);
    EXPECT_EQ(san.bind(s, fresh_address()), WSAEINVAL);
    EXPECT_EQ(san.bind(s, address), WSAEINVAL);
}

// [F.WSPBind.WSAEFAULT R20.3]
TEST_F(BindTest, AMissingOrShortNameIsAFault) {
    const SOCKET s = socket();
    for (const int length : {15, 8, 2, 1, 0, -1, -2147483647 - 1}) {
        EXPECT_EQ(san.bind(s, fresh_address(), length), WSAEFAULT) << length;
    }
    INT error = 0;
    EXPECT_EQ(san.table.lpWSPBind(s, nullptr, 16, &error), SOCKET_ERROR);
    EXPECT_EQ(error, WSAEFAULT);
    EXPECT_EQ(san.bind(s, fresh_address(), 100), 0) << "a longer name is long enough";
}

// [F.WSPBind.WSAEFAULT R20.3 P9 B24]
TEST_F(BindTest, AnotherFamilyIsAFault) {
    for (const unsigned family : {0U, 1U, 10U, 23U, 0xFFFFU}) {
        sockaddr_in address = fresh_address();
        address.sin_family = static_cast<sa_family_t>(family);
        EXPECT_EQ(san.bind(socket(), address), WSAEFAULT) << family;
    }
}

// [F.WSPBind.2 F.WSPBind.WSAEADDRINUSE F.WSPListen.WSAEADDRINUSE R20.3]
TEST_F(BindTest, TwoSocketsMayHaveOneAddress) {
    const sockaddr_in address = fresh_address();
    const SOCKET first = bound(address);
    const SOCKET second = bound(address);
    EXPECT_EQ(san.listen(first, 5), 0);
    EXPECT_EQ(san.listen(second, 5), 0);
    EXPECT_EQ(san.bind(socket(), address), 0);
}

// [R3.4]
TEST_F(BindTest, AfterAnyFailureTheSocketCloses) {
    const SOCKET s = socket();
    const SOCKET handle = upcalls.latest_handle();
    EXPECT_EQ(san.bind(s, address_of(fabric_under_test().foreign, 1)), WSAEADDRNOTAVAIL);
    EXPECT_EQ(san.listen(s, 5), WSAEINVAL);
    EXPECT_EQ(san.close(s), 0);
    EXPECT_EQ(closes_of(handle), 1U);
}

}  // namespace
}  // namespace sanpoll::conformance

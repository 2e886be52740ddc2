// WSPSocket and WSPBind.
#include <arpa/inet.h>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class SocketTest : public ProviderTest {
protected:
    int error_of(int af, int type, int protocol, LPWSAPROTOCOL_INFOW info = nullptr, GROUP g = 0,
                 DWORD flags = WSA_FLAG_OVERLAPPED) {
        int error = 0;
        (void)san.socket(&error, af, type, protocol, info, g, flags);
        return error;
    }
};

TEST_F(SocketTest, OneHandleIsMadeForEachSocket) {
    const SOCKET first = socket();
    const SOCKET second = socket();
    EXPECT_NE(first, second);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), 2U);
    EXPECT_EQ(upcalls.open_handles(), 2U);
}

TEST_F(SocketTest, TheHandleIsMadeInTheCallingThread) {
    (void)socket();
    EXPECT_EQ(upcalls.upcalls(UpcallKind::kCreateSocketHandle).at(0).thread,
              std::this_thread::get_id());
}

TEST_F(SocketTest, FamilyOtherThanInetIsNotSupported) {
    EXPECT_EQ(error_of(23, SOCK_STREAM, IPPROTO_TCP), WSAEAFNOSUPPORT);
    EXPECT_EQ(error_of(1, SOCK_STREAM, IPPROTO_TCP), WSAEAFNOSUPPORT);
    EXPECT_EQ(error_of(-2, SOCK_STREAM, IPPROTO_TCP), WSAEAFNOSUPPORT);
}

TEST_F(SocketTest, TypeOtherThanStreamIsNotSupported) {  // project decision: either code will do
    for (const int type : {2, 3, 4, 5, 99, -2}) {
        const int error = error_of(AF_INET, type, IPPROTO_TCP);
        EXPECT_TRUE(error == WSAESOCKTNOSUPPORT || error == WSAEPROTOTYPE) << type << ": " << error;
    }
}

TEST_F(SocketTest, ProtocolOtherThanTcpIsNotSupported) {  // project decision
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_UDP), WSAEPROTOTYPE);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, 132), WSAEPROTONOSUPPORT);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, 99999), WSAEPROTONOSUPPORT);
}

TEST_F(SocketTest, ZeroTakesFamilyTypeAndProtocolFromTheInformation) {
    WSAPROTOCOL_INFOW info{};
    info.iAddressFamily = AF_INET;
    info.iSocketType = SOCK_STREAM;
    info.iProtocol = IPPROTO_TCP;
    EXPECT_EQ(error_of(0, 0, 0, &info), 0);
    EXPECT_EQ(error_of(FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, FROM_PROTOCOL_INFO, &info), 0);
    info.iAddressFamily = 23;
    EXPECT_EQ(error_of(FROM_PROTOCOL_INFO, SOCK_STREAM, IPPROTO_TCP, &info), WSAEAFNOSUPPORT);
}

TEST_F(SocketTest, ProtocolZeroMeansTcp) {  // project decision
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, 0), 0);
}

TEST_F(SocketTest, NoInformationMeansNoDuplicate) {  // project decision
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr), 0);
}

TEST_F(SocketTest, UnknownTokenOfADuplicateIsInvalid) {  // project decision
    WSAPROTOCOL_INFOW info{};
    info.dwProviderReserved = 12345;
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, &info), WSAEINVAL);
}

// What WPUCreateSocketHandle was told last, by a table that otherwise is the recording switch's.
DWORD told_entry = 0;
SOCKET WSPAPI create_and_note(DWORD entry, DWORD_PTR context, LPINT error) {
    told_entry = entry;
    return RecordingSwitch::instance().table().lpWPUCreateSocketHandle(entry, context, error);
}

TEST_F(SocketTest, HandlesAreMadeForTheCatalogEntryOfTheInformation) {  // project decision
    WSPUPCALLTABLEEX noting = upcalls.table();
    noting.lpWPUCreateSocketHandle = create_and_note;
    WSPDATA data{};
    WSPPROC_TABLE table{};
    WSAPROTOCOL_INFOW tcp{};
    ASSERT_EQ(Calls::startup()(MAKEWORD(2, 2), &data, &tcp, &noting, &table), 0);
    told_entry = 99;
    (void)socket();
    EXPECT_EQ(told_entry, 0U);
    WSAPROTOCOL_INFOW info{};
    info.dwCatalogEntryId = 1017;
    const SOCKET listener = san.socket(nullptr, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
    EXPECT_EQ(told_entry, 1017U);
    const sockaddr_in address = fresh_address();
    ASSERT_EQ(san.bind(listener, address), 0);
    ASSERT_EQ(san.listen(listener, 1), 0);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    told_entry = 99;
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(told_entry, 1017U);
    INT error = 0;
    EXPECT_EQ(table.lpWSPCleanup(&error), 0);
}

TEST_F(SocketTest, GroupsAreInvalid) {
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, SG_UNCONSTRAINED_GROUP),
              WSAEINVAL);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 77), WSAEINVAL);
}

TEST_F(SocketTest, FlagsOtherThanOverlappedAreInvalid) {
    for (const DWORD flags :
         {0x00U, 0x02U, 0x03U, 0x41U, 0x81U, 0x101U, 0x80000001U, 0xFFFFFFFFU}) {
        EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, flags), WSAEINVAL)
            << flags;
    }
}

TEST_F(SocketTest, NoHandleIsMadeForASocketThatFails) {
    EXPECT_NE(error_of(AF_INET, 2, IPPROTO_UDP), 0);
    EXPECT_NE(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP, nullptr, 0, 0), 0);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), 0U);
}

TEST_F(SocketTest, ARefusedHandleIsNoBuffersAndNoFurtherUpcall) {
    upcalls.on_create_handle([](SOCKET) { return INVALID_SOCKET; });
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP), WSAENOBUFS);
    EXPECT_EQ(upcalls.upcalls().size(), 1U);
    upcalls.on_create_handle(nullptr);
    EXPECT_EQ(error_of(AF_INET, SOCK_STREAM, IPPROTO_TCP), 0);
}

TEST_F(SocketTest, ThousandsOfSocketsHaveDifferentDescriptors) {
    std::set<SOCKET> all;
    for (int i = 0; i < 3000; ++i) {
        all.insert(socket());
    }
    EXPECT_EQ(all.size(), 3000U);
    EXPECT_FALSE(all.contains(INVALID_SOCKET));
    for (const SOCKET s : all) {
        EXPECT_EQ(san.close(s), 0);
    }
}

// ---- bind ---------------------------------------------------------------------------------------------

TEST_F(SocketTest, BindTakesALocalAddress) {
    EXPECT_EQ(san.bind(socket(), address_of(INADDR_LOOPBACK, 4000)), 0);
}

TEST_F(SocketTest, BindTakesTheWildcard) {
    EXPECT_EQ(san.bind(socket(), address_of(INADDR_ANY, 4000)), 0);
}

TEST_F(SocketTest, BindRefusesAForeignAddress) {
    for (const std::uint32_t ip : {0xC6336401U /* 198.51.100.1 */, 0x08080808U, 0xFFFFFFFFU}) {
        EXPECT_EQ(san.bind(socket(), address_of(ip, 4000)), WSAEADDRNOTAVAIL);
    }
}

TEST_F(SocketTest, AFailedBindCanBeRepeated) {
    const SOCKET s = socket();
    EXPECT_EQ(san.bind(s, address_of(0xC6336401U, 4000)), WSAEADDRNOTAVAIL);
    EXPECT_EQ(san.bind(s, fresh_address()), 0);
}

TEST_F(SocketTest, ASecondBindIsInvalid) {
    const SOCKET s = bound();
    EXPECT_EQ(san.bind(s, fresh_address()), WSAEINVAL);
}

TEST_F(SocketTest, BindNeeds16BytesOfAddress) {
    const SOCKET s = socket();
    EXPECT_EQ(san.bind(s, fresh_address(), 15), WSAEFAULT);
    EXPECT_EQ(san.bind(s, fresh_address(), 0), WSAEFAULT);
    EXPECT_EQ(san.bind(s, fresh_address(), -1), WSAEFAULT);
    EXPECT_EQ(san.bind(s, fresh_address(), 16), 0);
}

TEST_F(SocketTest, BindToNullIsAFault) {
    INT error = 0;
    EXPECT_EQ(san.table.lpWSPBind(socket(), nullptr, 16, &error), SOCKET_ERROR);
    EXPECT_EQ(error, WSAEFAULT);
}

TEST_F(SocketTest, BindOfAnotherFamilyIsAFault) {
    for (const int family : {0, 1, 10, 23}) {
        sockaddr_in address = fresh_address();
        address.sin_family = static_cast<sa_family_t>(family);
        EXPECT_EQ(san.bind(socket(), address), WSAEFAULT) << family;
    }
}

TEST_F(SocketTest, TwoSocketsMayBindTheSameAddress) {
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(san.bind(socket(), address), 0);
    EXPECT_EQ(san.bind(socket(), address), 0);
}

}  // namespace
}  // namespace sanpoll::test

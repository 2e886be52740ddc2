// WSPIoctl: sections 2 and 14.
#include <arpa/inet.h>
#include <sanpoll.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class IoctlTest : public ConformanceTest {
protected:
    int extension(const GUID& guid, void** out, DWORD* returned, SOCKET s = INVALID_SOCKET) {
        GUID copy = guid;
        return san.ioctl(s, SIO_GET_EXTENSION_FUNCTION_POINTER, &copy, sizeof(copy), out,
                         sizeof(*out), returned);
    }
    /// The addresses, with a buffer of exactly the size that is asked for.
    std::vector<std::uint32_t> addresses(SOCKET s) {
        DWORD needed = 0;
        EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &needed), WSAEFAULT);
        std::vector<std::uint64_t> storage((needed + 7) / 8 + 1, 0x2323232323232323U);
        DWORD returned = 0;
        EXPECT_EQ(
            san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, storage.data(), needed, &returned), 0);
        EXPECT_EQ(returned, needed);
        EXPECT_EQ(storage.back(), 0x2323232323232323U) << "written beyond the buffer";
        const auto* list = reinterpret_cast<const SOCKET_ADDRESS_LIST*>(storage.data());
        EXPECT_EQ(needed, 8U + 32U * static_cast<DWORD>(list->iAddressCount));
        std::vector<std::uint32_t> result;
        for (INT i = 0; i < list->iAddressCount; ++i) {
            const auto* at = reinterpret_cast<const char*>(list->Address[i].lpSockaddr);
            const auto* begin = reinterpret_cast<const char*>(storage.data());
            EXPECT_TRUE(at >= begin + 8 + 16 * list->iAddressCount && at + 16 <= begin + needed)
                << "the addresses lie in the same buffer";
            EXPECT_EQ(list->Address[i].iSockaddrLength, 16);
            sockaddr_in address;
            std::memcpy(&address, at, sizeof(address));
            EXPECT_EQ(address.sin_family, AF_INET);
            EXPECT_EQ(address.sin_port, 0);
            result.push_back(ntohl(address.sin_addr.s_addr));
        }
        return result;
    }
};

// [R14.3 R2.4 R19.6 F.WSPIoctl.1 C25]
TEST_F(IoctlTest, ExtensionPointersAreGivenForAnySocket) {  // size returned: project decision
    for (const SOCKET s : {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{4711}, socket()}) {
        for (const GUID& guid : {GUID WSAID_REGISTERMEMORY, GUID WSAID_DEREGISTERMEMORY}) {
            void* function = nullptr;
            DWORD returned = 0;
            EXPECT_EQ(extension(guid, &function, &returned, s), 0);
            EXPECT_NE(function, nullptr);
            EXPECT_EQ(returned, sizeof(void*));
        }
    }
}

// [F.WSPIoctl.WSAEINVAL B8 R20.13]
TEST_F(IoctlTest, AnUnknownGuidIsInvalid) {  // project decision
    GUID guid = WSAID_REGISTERMEMORY;
    guid.Data1 += 77;
    void* function = nullptr;
    DWORD returned = 0;
    EXPECT_EQ(extension(guid, &function, &returned), WSAEINVAL);
    EXPECT_EQ(extension(GUID{}, &function, &returned), WSAEINVAL);
    EXPECT_EQ(function, nullptr);
}

// [R7.8 B8 F.WSPMemoryRegistrationCacheCallback.1]
TEST_F(IoctlTest, TheCacheCallbackIsThereOrNotSupported) {
    void* function = nullptr;
    DWORD returned = 0;
    const int error = extension(GUID WSAID_MEMORYREGISTRATIONCACHECALLBACK, &function, &returned);
    if (error != 0) {
        EXPECT_EQ(error, WSAEOPNOTSUPP);
        return;
    }
    char memory[64];
    INT code = 4711;
    EXPECT_EQ(reinterpret_cast<LPFN_WSPMEMORYREGISTRATIONCACHECALLBACK>(function)(
                  memory, sizeof(memory), &code),
              0)
        << code;
}

// [F.WSPIoctl.WSAEFAULT R20.13]
TEST_F(IoctlTest, TooLittleRoomForAPointerIsAFault) {
    GUID guid = WSAID_REGISTERMEMORY;
    void* function = nullptr;
    DWORD returned = 0;
    const auto call = [&](void* in, std::size_t in_length, void* out, std::size_t out_length) {
        return san.ioctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, in, in_length, out,
                         out_length, &returned);
    };
    EXPECT_EQ(call(&guid, 15, &function, 8), WSAEFAULT);
    EXPECT_EQ(call(&guid, 16, &function, 7), WSAEFAULT);
    EXPECT_EQ(call(nullptr, 16, &function, 8), WSAEFAULT);
    EXPECT_EQ(call(&guid, 16, nullptr, 8), WSAEFAULT);
    EXPECT_EQ(function, nullptr);
}

// [R14.3 R2.3 F.WSPIoctl.2 R20.13]
TEST_F(IoctlTest, TheAddressListNamesAddressesThatCanBeBound) {
    const SOCKET s = socket();  // never bound
    const std::vector<std::uint32_t> all = addresses(s);
    ASSERT_FALSE(all.empty());
    for (const std::uint32_t ip : all) {
        EXPECT_NE(ip, static_cast<std::uint32_t>(INADDR_ANY));
        EXPECT_EQ(san.bind(socket(), address_of(ip, 5000)), 0) << ip;
    }
}

// [R2.5]
TEST_F(IoctlTest, TheAddressListMayBeAskedForAgain) {
    const SOCKET s = socket();
    const std::vector<std::uint32_t> first = addresses(s);
    EXPECT_EQ(addresses(s), first);
    EXPECT_EQ(addresses(bound()), first);
    EXPECT_EQ(addresses(connected().client.s), first);
}

// [F.WSPIoctl.WSAEFAULT R20.13]
TEST_F(IoctlTest, TooLittleRoomForTheListIsAFaultWithTheSize) {
    const SOCKET s = socket();
    DWORD needed = 0;
    EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &needed), WSAEFAULT);
    std::vector<char> buffer(needed, '#');
    for (const DWORD room : {DWORD{4}, DWORD{8}, needed - 1}) {
        DWORD returned = 0;
        EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer.data(), room, &returned),
                  WSAEFAULT);
        EXPECT_EQ(returned, needed);
    }
}

// [R16.2 B6 F.WSPIoctl.WSAENOPROTOOPT R14.3]
TEST_F(IoctlTest, QosCodesAreNoOption) {  // project decision
    const SOCKET s = socket();
    QOS qos{};
    DWORD returned = 0;
    for (const DWORD code : {SIO_GET_QOS, SIO_SET_QOS, SIO_GET_GROUP_QOS, SIO_SET_GROUP_QOS}) {
        EXPECT_EQ(san.ioctl(s, code, &qos, sizeof(qos), &qos, sizeof(qos), &returned),
                  WSAENOPROTOOPT)
            << code;
    }
}

// [B7 F.WSPIoctl.WSAEOPNOTSUPP R20.13]
TEST_F(IoctlTest, OtherCodesOfWinsockAreNotSupported) {  // project decision
    const SOCKET s = socket();
    char buffer[256] = {};
    DWORD returned = 0;
    for (const DWORD code :
         {DWORD{WSP_FIONBIO}, DWORD{WSP_FIONREAD}, DWORD{WSP_FIOASYNC}, DWORD{WSP_SIOCATMARK},
          DWORD{SIO_FLUSH}, DWORD{SIO_ADDRESS_LIST_CHANGE}, DWORD{SIO_ROUTING_INTERFACE_QUERY},
          DWORD{SIO_ASSOCIATE_HANDLE}, DWORD{SIO_TRANSLATE_HANDLE}}) {
        EXPECT_EQ(san.ioctl(s, code, buffer, sizeof(buffer), buffer, sizeof(buffer), &returned),
                  WSAEOPNOTSUPP)
            << code;
    }
}

// [B7 F.WSPIoctl.WSAEINVAL R20.13]
TEST_F(IoctlTest, UnknownCodesAreInvalid) {  // project decision
    const SOCKET s = socket();
    DWORD returned = 0;
    for (const DWORD code : {0U, 1U, 0x48001234U, 0xFFFFFFFFU}) {
        EXPECT_EQ(san.ioctl(s, code, nullptr, 0, nullptr, 0, &returned), WSAEINVAL) << code;
    }
}

// ---- which fabric -----------------------------------------------------------------------------------

class FabricIoctlTest : public CalledTest {
protected:
    int ask(SOCKET s) {
        std::memset(&answer, 0x23, sizeof(answer));
        DWORD returned = 0;
        const int error =
            san.ioctl(s, SIO_SANPOLL_FABRIC, nullptr, 0, &answer, sizeof(answer), &returned);
        if (error == 0) {
            EXPECT_EQ(returned, sizeof(answer));
        }
        return error;
    }
    SANPOLL_FABRIC answer{};
};

// [X1]
TEST_F(FabricIoctlTest, EitherEndSaysWhatCarriesItAndWhy) {
    const Pair pair = connected();
    for (const SOCKET s : {pair.client.s, pair.server.s}) {
        ASSERT_EQ(ask(s), 0);
        EXPECT_STREQ(answer.fabric, fabric_under_test().name);
        EXPECT_NE(std::memchr(answer.device, 0, sizeof(answer.device)), nullptr);
        EXPECT_EQ(answer.device[0] != 0, fabric_under_test().has_devices) << answer.device;
        EXPECT_NE(std::memchr(answer.reason, 0, sizeof(answer.reason)), nullptr);
        EXPECT_NE(answer.reason[0], 0);
    }
    EXPECT_STREQ(answer.reason, "the peer connected by it");
}

// [X2]
TEST_F(FabricIoctlTest, ItSaysSoUntilTheSocketIsClosed) {
    Pair pair = connected();
    ASSERT_EQ(san.close(pair.server.s), 0);
    // One each: until the end is known here they are pending.
    std::deque<WSAOVERLAPPED> operations;
    ASSERT_TRUE(
        eventually([&] { return recv(pair.client, &operations.emplace_back()) == WSAECONNRESET; }));
    ASSERT_EQ(ask(pair.client.s), 0);
    EXPECT_STREQ(answer.fabric, fabric_under_test().name);
    ASSERT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(ask(pair.client.s), WSAENOTSOCK);
}

// [X3]
TEST_F(FabricIoctlTest, WithoutAConnectionThereIsNone) {
    be_called();
    EXPECT_EQ(ask(socket()), WSAENOTCONN);
    EXPECT_EQ(ask(bound()), WSAENOTCONN);
    EXPECT_EQ(ask(listener), WSAENOTCONN);
    EXPECT_EQ(ask(client), WSAENOTCONN) << "still connecting";
}

// [X4]
TEST_F(FabricIoctlTest, TooLittleRoomIsAFaultWithTheSize) {
    const Pair pair = connected();
    DWORD returned = 0;
    EXPECT_EQ(san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, nullptr, 0, &returned),
              WSAEFAULT);
    EXPECT_EQ(returned, sizeof(answer));
    std::memset(&answer, 0x23, sizeof(answer));
    returned = 0;
    EXPECT_EQ(san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, &answer, sizeof(answer) - 1,
                        &returned),
              WSAEFAULT);
    EXPECT_EQ(returned, sizeof(answer));
    EXPECT_EQ(answer.fabric[0], 0x23);
    EXPECT_EQ(
        san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, &answer, sizeof(answer), nullptr),
        WSAEFAULT);
}

// [R16.1 F.WSPGetQOSByName.WSAEOPNOTSUPP]
TEST_F(IoctlTest, QosByNameIsFalseAndNotSupported) {
    const SOCKET s = socket();
    char16_t name[] = u"G711";
    WSABUF buffer{sizeof(name), reinterpret_cast<CHAR*>(name)};
    QOS qos{};
    EXPECT_EQ(san.qos_by_name(s, &buffer, &qos), WSAEOPNOTSUPP);  // FALSE is checked by the call
    EXPECT_EQ(san.qos_by_name(connected().client.s, &buffer, &qos), WSAEOPNOTSUPP);
}

}  // namespace
}  // namespace sanpoll::conformance

// WSPIoctl.
#include <arpa/inet.h>
#include <sanpoll.h>

#include <cstring>
#include <set>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class IoctlTest : public ProviderTest {
protected:
    int extension(SOCKET s, GUID guid, void** function, std::size_t in = sizeof(GUID),
                  std::size_t out = sizeof(void*)) {
        returned = 0;
        return san.ioctl(s, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, in, function, out,
                         &returned);
    }
    DWORD returned = 0;
};

constexpr GUID kRegister = WSAID_REGISTERMEMORY;
constexpr GUID kDeregister = WSAID_DEREGISTERMEMORY;

TEST_F(IoctlTest, TheMemoryFunctionsAreThere) {
    void* function = nullptr;
    EXPECT_EQ(extension(socket(), kRegister, &function), 0);
    EXPECT_NE(function, nullptr);
    EXPECT_EQ(returned, sizeof(void*));  // project decision
    void* other = nullptr;
    EXPECT_EQ(extension(socket(), kDeregister, &other), 0);
    EXPECT_NE(other, nullptr);
    EXPECT_NE(other, function);
}

TEST_F(IoctlTest, ExtensionFunctionsAreGivenForAnySocket) {
    for (const SOCKET s : {static_cast<SOCKET>(INVALID_SOCKET), SOCKET{0}, SOCKET{12345}}) {
        void* function = nullptr;
        EXPECT_EQ(extension(s, kRegister, &function), 0);
        EXPECT_NE(function, nullptr);
    }
}

TEST_F(IoctlTest, AllExtensionsAreThereButTheCacheCallback) {
    std::set<void*> functions;
    for (const GUID& guid :
         {GUID WSAID_REGISTERMEMORY, GUID WSAID_DEREGISTERMEMORY, GUID WSAID_REGISTERRDMAMEMORY,
          GUID WSAID_DEREGISTERRDMAMEMORY, GUID WSAID_RDMAWRITE, GUID WSAID_RDMAREAD}) {
        void* function = nullptr;
        EXPECT_EQ(extension(socket(), guid, &function), 0);
        EXPECT_NE(function, nullptr);
        functions.insert(function);
    }
    EXPECT_EQ(functions.size(), 6U);
    void* function = nullptr;
    EXPECT_EQ(extension(socket(), GUID WSAID_MEMORYREGISTRATIONCACHECALLBACK, &function),
              WSAEOPNOTSUPP)
        << "nothing is cached";
    EXPECT_EQ(function, nullptr);
}

TEST_F(IoctlTest, AnUnknownExtensionIsInvalid) {  // project decision
    GUID guid = kRegister;
    guid.Data1 ^= 0x100U;
    void* function = nullptr;
    EXPECT_EQ(extension(socket(), guid, &function), WSAEINVAL);
    EXPECT_EQ(function, nullptr);
    guid = {};
    EXPECT_EQ(extension(socket(), guid, &function), WSAEINVAL);
}

TEST_F(IoctlTest, TooSmallBuffersForAnExtensionAreAFault) {
    void* function = nullptr;
    EXPECT_EQ(extension(socket(), kRegister, &function, 15), WSAEFAULT);
    EXPECT_EQ(extension(socket(), kRegister, &function, 16, 7), WSAEFAULT);
    EXPECT_EQ(extension(socket(), kRegister, nullptr), WSAEFAULT);
    EXPECT_EQ(san.ioctl(socket(), SIO_GET_EXTENSION_FUNCTION_POINTER, nullptr, 16, &function, 8,
                        &returned),
              WSAEFAULT);
    EXPECT_EQ(function, nullptr);
}

// ---- the address list ---------------------------------------------------------------------------------

TEST_F(IoctlTest, TheAddressListTellsItsSizeWhenTheBufferIsTooSmall) {
    const SOCKET s = socket();
    returned = 0;
    EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned), WSAEFAULT);
    const DWORD size = returned;
    ASSERT_GE(size, 8U + 16 + 16);
    EXPECT_EQ((size - 8) % 32, 0U);
    std::vector<char> buffer(size);
    EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer.data(), size - 1, &returned),
              WSAEFAULT);
    EXPECT_EQ(returned, size);
    EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer.data(), size, &returned), 0);
    EXPECT_EQ(returned, size);
}

TEST_F(IoctlTest, TheAddressListHoldsAddressesThatCanBeBound) {
    alignas(8) char buffer[8192] = {};
    ASSERT_EQ(
        san.ioctl(socket(), SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer), &returned),
        0);
    const auto* list = reinterpret_cast<const SOCKET_ADDRESS_LIST*>(buffer);
    ASSERT_GE(list->iAddressCount, 1);
    EXPECT_EQ(returned, 8U + 32U * static_cast<DWORD>(list->iAddressCount));
    for (INT i = 0; i < list->iAddressCount; ++i) {
        const SOCKET_ADDRESS& entry = list->Address[i];
        EXPECT_EQ(entry.iSockaddrLength, 16);
        const auto* bytes = reinterpret_cast<const char*>(entry.lpSockaddr);
        ASSERT_GE(bytes, buffer);
        ASSERT_LE(bytes + 16, buffer + returned);
        sockaddr_in address{};
        std::memcpy(&address, bytes, sizeof(address));
        EXPECT_EQ(address.sin_family, AF_INET);
        EXPECT_EQ(address.sin_port, 0);
        EXPECT_NE(address.sin_addr.s_addr, htonl(INADDR_ANY));
        address.sin_port = htons(4000);
        EXPECT_EQ(san.bind(socket(), address), 0) << text(address);
    }
}

TEST_F(IoctlTest, TheAddressListMayLieAnywhere) {
    alignas(8) char aligned[8192];
    DWORD size = 0;
    ASSERT_EQ(
        san.ioctl(socket(), SIO_ADDRESS_LIST_QUERY, nullptr, 0, aligned, sizeof(aligned), &size),
        0);
    std::vector<char> bytes(size + 1);
    ASSERT_EQ(
        san.ioctl(socket(), SIO_ADDRESS_LIST_QUERY, nullptr, 0, bytes.data() + 1, size, &returned),
        0);
    EXPECT_EQ(returned, size);
    SOCKET_ADDRESS first{};
    std::memcpy(&first, bytes.data() + 1 + offsetof(SOCKET_ADDRESS_LIST, Address), sizeof(first));
    const auto* address = reinterpret_cast<const char*>(first.lpSockaddr);
    EXPECT_GE(address, bytes.data() + 1);
    EXPECT_LE(address + 16, bytes.data() + 1 + size);
}

TEST_F(IoctlTest, WithoutAPlaceForTheSizeItIsAFault) {
    char buffer[8192];
    EXPECT_EQ(
        san.ioctl(socket(), SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer), nullptr),
        WSAEFAULT);
    void* function = nullptr;
    GUID guid = kRegister;
    EXPECT_EQ(
        san.ioctl(socket(), SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, 16, &function, 8, nullptr),
        WSAEFAULT);
}

TEST_F(IoctlTest, AnOverlappedCallIsFinishedWhenItReturns) {  // project decision
    const SOCKET s = socket();
    char buffer[8192];
    Polled operation;
    operation.Internal = WSS_OPERATION_IN_PROGRESS;
    INT error = 0;
    ASSERT_EQ(san.table.lpWSPIoctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer),
                                   &returned, &operation, nullptr, nullptr, &error),
              0);
    const Result got = san.overlapped_result(s, &operation, 0);
    EXPECT_EQ(got.error, 0);
    EXPECT_EQ(got.bytes, returned);
}

TEST_F(IoctlTest, TheAddressListNeedsASocket) {
    EXPECT_EQ(san.ioctl(INVALID_SOCKET, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned),
              WSAENOTSOCK);
}

TEST_F(IoctlTest, TheAddressListIsGivenInEveryState) {
    Pair pair = connected();
    char buffer[8192];
    for (const SOCKET s : {socket(), bound(), listening(fresh_address()), pair.client.s}) {
        EXPECT_EQ(
            san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer), &returned), 0);
    }
}

// ---- which fabric --------------------------------------------------------------------------------------

TEST_F(IoctlTest, AConnectionSaysWhichFabricItHasAndWhy) {
    const Pair pair = connected();
    SANPOLL_FABRIC answer;
    std::memset(&answer, 0xA5, sizeof(answer));
    ASSERT_EQ(san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, &answer, sizeof(answer),
                        &returned),
              0);
    EXPECT_EQ(returned, sizeof(answer));
    EXPECT_STREQ(answer.fabric, "shm");
    EXPECT_STREQ(answer.device, "");
    EXPECT_STREQ(answer.reason, "this process has no other fabric");
    EXPECT_EQ(answer.reason[sizeof(answer.reason) - 1], 0);
    // Another test of this process may have made one.
    const std::string arenas = answer.arenas;
    EXPECT_TRUE(arenas.starts_with("none yet: ") || arenas.starts_with("shared: ")) << arenas;
    EXPECT_EQ(answer.arenas[sizeof(answer.arenas) - 1], 0);
    ASSERT_EQ(san.ioctl(pair.server.s, SIO_SANPOLL_FABRIC, nullptr, 0, &answer, sizeof(answer),
                        &returned),
              0);
    EXPECT_STREQ(answer.fabric, "shm");
    EXPECT_STREQ(answer.reason, "the peer connected by it");
}

TEST_F(IoctlTest, TheFabricsAnswerMayLieAnywhere) {
    const Pair pair = connected();
    std::vector<char> bytes(sizeof(SANPOLL_FABRIC) + 1);
    ASSERT_EQ(san.ioctl(pair.client.s, SIO_SANPOLL_FABRIC, nullptr, 0, bytes.data() + 1,
                        sizeof(SANPOLL_FABRIC), &returned),
              0);
    EXPECT_STREQ(bytes.data() + 1, "shm");
}

// ---- other codes --------------------------------------------------------------------------------------

TEST_F(IoctlTest, QosIsNoProtocolOption) {  // project decision
    QOS qos{};
    for (const DWORD code : {SIO_GET_QOS, SIO_SET_QOS, SIO_GET_GROUP_QOS, SIO_SET_GROUP_QOS}) {
        EXPECT_EQ(san.ioctl(socket(), code, &qos, sizeof(qos), &qos, sizeof(qos), &returned),
                  WSAENOPROTOOPT)
            << code;
    }
}

TEST_F(IoctlTest, KnownCodesThatAreNotServedAreNotSupported) {  // project decision
    DWORD value = 0;
    for (const DWORD code : {WSP_FIONBIO, WSP_FIONREAD, WSP_SIOCATMARK, SIO_FLUSH,
                             SIO_ROUTING_INTERFACE_QUERY, SIO_ADDRESS_LIST_CHANGE}) {
        EXPECT_EQ(san.ioctl(socket(), code, &value, 4, &value, 4, &returned), WSAEOPNOTSUPP)
            << code;
    }
}

TEST_F(IoctlTest, UnknownCodesAreInvalid) {  // project decision
    DWORD value = 0;
    for (const DWORD code : {0U, 1U, 0x12345678U, 0xFFFFFFFFU, 0xC8000099U}) {
        EXPECT_EQ(san.ioctl(socket(), code, &value, 4, &value, 4, &returned), WSAEINVAL) << code;
    }
}

}  // namespace
}  // namespace sanpoll::test

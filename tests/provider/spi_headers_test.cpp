// The interface's headers in C++20, before the POSIX headers: every documented size, offset and
// value, by name, as C++ and as C see them.
// The order is what is tested.
// clang-format off
#include <sanpoll.h>
#include <ws2san.h>

#include "spi_headers_posix.h"
// clang-format on
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <type_traits>

#include "spi_headers_c.h"

namespace {

const spi_fact kFactsSeenByCxx[] = {
#define SPI_SIZE(type, bytes) {"sizeof(" #type ")", static_cast<long long>(sizeof(type)), bytes},
#define SPI_OFFSET(type, member, bytes) \
    {#type "." #member, static_cast<long long>(offsetof(type, member)), bytes},
#define SPI_VALUE(name, value) {#name, static_cast<long long>(name), value},
#include "spi_headers_facts.inc"
};

TEST(SpiHeaders, DocumentedFactsHoldInCxx) {
    for (const spi_fact& fact : kFactsSeenByCxx)
        EXPECT_EQ(fact.seen, fact.documented) << fact.name;
}

TEST(SpiHeaders, DocumentedFactsHoldInC) {
    std::size_t count = 0;
    for (const spi_fact* fact = spi_facts_seen_by_c; fact->name != nullptr; ++fact, ++count) {
        EXPECT_EQ(fact->seen, fact->documented) << fact->name;
    }
    EXPECT_EQ(count, std::size(kFactsSeenByCxx));
}

TEST(SpiHeaders, SocketsAndHandlesAreUnsignedAndPointerSized) {
    static_assert(std::is_unsigned_v<SOCKET> && sizeof(SOCKET) == sizeof(void*));
    static_assert(std::is_unsigned_v<DWORD> && std::is_signed_v<LONG>);
    static_assert(std::is_same_v<WCHAR, char16_t>);
    EXPECT_EQ(INVALID_SOCKET, ~SOCKET{0});
    EXPECT_EQ(spi_invalid_socket_seen_by_c, ~SOCKET{0});
    EXPECT_EQ(WSAEVENT{WSA_INVALID_EVENT}, nullptr);
    EXPECT_EQ(spi_invalid_event_seen_by_c, nullptr);
}

TEST(SpiHeaders, VersionWordHasTheMajorNumberBelow) {
    EXPECT_EQ(MAKEWORD(2, 2), 0x0202);
    EXPECT_EQ(MAKEWORD(1, 2), 0x0201);
    EXPECT_EQ(LOBYTE(0x0201), 1);
    EXPECT_EQ(HIBYTE(0x0201), 2);
    EXPECT_EQ(spi_version_seen_by_c, 0x0202);
}

std::string text_of(const GUID& guid) {
    char text[40];
    std::snprintf(text, sizeof text, "%08X-%04X-%04X-%02X%02X-%02X%02X%02X%02X%02X%02X", guid.Data1,
                  guid.Data2, guid.Data3, guid.Data4[0], guid.Data4[1], guid.Data4[2],
                  guid.Data4[3], guid.Data4[4], guid.Data4[5], guid.Data4[6], guid.Data4[7]);
    return text;
}

TEST(SpiHeaders, ExtensionFunctionsHaveTheirGuids) {
    EXPECT_EQ(text_of(WSAID_REGISTERMEMORY), "C0B422F5-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_DEREGISTERMEMORY), "C0B422F6-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_REGISTERRDMAMEMORY), "C0B422F7-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_DEREGISTERRDMAMEMORY), "C0B422F8-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_RDMAWRITE), "C0B422F9-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_RDMAREAD), "C0B422FA-F58C-11D1-AD6C-00C04FA34A2D");
    EXPECT_EQ(text_of(WSAID_MEMORYREGISTRATIONCACHECALLBACK),
              "E5DA4AF8-D824-48CD-A799-6337A98ED2AF");
}

TEST(SpiHeaders, GuidInMemoryIsLittleEndian) {
    const unsigned char bytes[] = {0xF5, 0x22, 0xB4, 0xC0, 0x8C, 0xF5, 0xD1, 0x11,
                                   0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D};
    const GUID guid = WSAID_REGISTERMEMORY;
    EXPECT_EQ(std::memcmp(&guid, bytes, sizeof guid), 0);
    EXPECT_EQ(std::memcmp(&spi_guid_seen_by_c, bytes, sizeof bytes), 0);
}

TEST(SpiHeaders, UpcallTableExBeginsLikeTheGeneralTable) {
    EXPECT_EQ(offsetof(WSPUPCALLTABLEEX, lpWPUCloseThread),
              offsetof(WSPUPCALLTABLE, lpWPUCloseThread));
    EXPECT_EQ(offsetof(WSPUPCALLTABLEEX, lpWPUCompleteOverlappedRequest), sizeof(WSPUPCALLTABLE));
}

TEST(SpiHeaders, EntryPointHasTheTypeOfItsPointer) {
    static_assert(std::is_same_v<decltype(&WSPStartupEx), LPWSPSTARTUPEX>);
}

}  // namespace

// The interface's headers in C++20, after the POSIX headers.
// The order is what is tested.
// clang-format off
#include <sanpoll.h>
#include <ws2san.h>

#include "spi_headers_posix.h"
// clang-format on
#include <gtest/gtest.h>

#include <type_traits>

namespace {

TEST(SpiHeadersPosixFirst, HostsConstantsAreUntouched) {
    EXPECT_NE(SOL_SOCKET, WSP_SOL_SOCKET);
    EXPECT_NE(SO_REUSEADDR, WSP_SO_REUSEADDR);
    EXPECT_NE(SOMAXCONN, WSP_SOMAXCONN);
    EXPECT_NE(FIONBIO, static_cast<long>(WSP_FIONBIO));
    EXPECT_NE(static_cast<int>(MSG_WAITALL), WSP_MSG_WAITALL);
}

TEST(SpiHeadersPosixFirst, AddressesAreTheHosts) {
    static_assert(std::is_same_v<SOCKADDR, sockaddr>);
    static_assert(std::is_same_v<SOCKADDR_IN, sockaddr_in>);
    EXPECT_EQ(AF_INET, 2);
    EXPECT_EQ(SOCK_STREAM, 1);
    EXPECT_EQ(IPPROTO_TCP, 6);
    EXPECT_EQ(TCP_NODELAY, 1);
    EXPECT_EQ(INADDR_LOOPBACK, 0x7F000001u);
}

TEST(SpiHeadersPosixFirst, HostsSocketsStillWork) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_GE(descriptor, 0);
    const int on = 1;
    EXPECT_EQ(::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    ::close(descriptor);
}

}  // namespace

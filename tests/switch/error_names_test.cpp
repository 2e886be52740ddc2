#include <gtest/gtest.h>

#include <sanpoll/switch.hpp>

namespace sanpoll_switch {
namespace {

TEST(ErrorNames, NamesKnownNumbers) {
    EXPECT_EQ(wsa_error_name(0), "success");
    EXPECT_EQ(wsa_error_name(10054), "WSAECONNRESET");
    EXPECT_EQ(wsa_error_name(997), "WSA_IO_PENDING");
    EXPECT_EQ(wsa_error_name(6), "WSA_INVALID_HANDLE");
    EXPECT_EQ(wsa_error_name(11031), "WSA_QOS_RESERVED_PETYPE");
}

TEST(ErrorNames, ShowsUnknownNumbers) {
    EXPECT_EQ(wsa_error_name(12345), "error 12345");
    EXPECT_EQ(wsa_error_name(-1), "error -1");
}

}  // namespace
}  // namespace sanpoll_switch

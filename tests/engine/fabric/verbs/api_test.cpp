// Opening the RDMA libraries at run time.
#include "engine/fabric/verbs/api.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine::verbs {
namespace {

TEST(ApiTest, FindsEverythingInTheInstalledLibraries) {
    std::string error;
    const Api* api = Api::load(error);
    ASSERT_NE(api, nullptr) << error;
    EXPECT_TRUE(error.empty());
    EXPECT_NE(api->verbs.reg_mr, nullptr);
    EXPECT_NE(api->cm.create_qp, nullptr);
    EXPECT_STREQ(api->verbs.wc_status_str(IBV_WC_SUCCESS), "success");
    EXPECT_EQ(Api::load(error), api) << "once in the life of the process";
}

TEST(ApiTest, NamesTheMissingVerbsLibraryAndItsPackage) {
    Api api{};
    std::string error;
    EXPECT_FALSE(detail::load_api("libsanpoll-no-such-verbs.so.1", "librdmacm.so.1", api, error));
    EXPECT_NE(error.find("libsanpoll-no-such-verbs.so.1"), std::string::npos) << error;
    EXPECT_NE(error.find("install the package libibverbs1"), std::string::npos) << error;
}

TEST(ApiTest, NamesTheMissingConnectionLibraryAndItsPackage) {
    Api api{};
    std::string error;
    EXPECT_FALSE(detail::load_api("libibverbs.so.1", "libsanpoll-no-such-cm.so.1", api, error));
    EXPECT_NE(error.find("libsanpoll-no-such-cm.so.1"), std::string::npos) << error;
    EXPECT_NE(error.find("install the package librdmacm1"), std::string::npos) << error;
}

TEST(ApiTest, NamesWhatALibraryLacks) {
    Api api{};
    std::string error;
    EXPECT_FALSE(detail::load_api("libc.so.6", "librdmacm.so.1", api, error));
    EXPECT_NE(error.find("has no ibv_get_device_list"), std::string::npos) << error;
    EXPECT_NE(error.find("update the package libibverbs1"), std::string::npos) << error;
}

}  // namespace
}  // namespace sanpoll::engine::verbs

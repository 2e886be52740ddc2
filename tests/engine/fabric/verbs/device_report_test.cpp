#include "engine/fabric/verbs/device_report.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "engine/fabric/verbs/api.hpp"
#include "tests/engine/fabric/verbs/fake_device.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::FakeDevice;

// The fake has no list of devices: one of it alone.
FakeDevice* the_fake = nullptr;
ibv_device* the_list[2] = {};
int listed = 0;
int closed = 0;

Api listing(FakeDevice& fake) {
    the_fake = &fake;
    the_list[0] = fake.context()->device;
    listed = closed = 0;
    Api api = fake.api();
    api.verbs.get_device_list = [](int* count) {
        *count = 1;
        ++listed;
        return the_list;
    };
    api.verbs.free_device_list = [](ibv_device**) { --listed; };
    api.verbs.open_device = [](ibv_device*) { return the_fake->context(); };
    api.verbs.close_device = [](ibv_context*) { return ++closed, 0; };
    return api;
}

TEST(DeviceReport, TellsEachDevicesLimitsAndLeavesNothingOpen) {
    FakeDevice::Options options;
    options.max_completions = 4321;
    FakeDevice fake(options);
    const auto report = device_report(listing(fake));
    ASSERT_EQ(report.size(), 1U);
    EXPECT_EQ(report[0].first, "fake0");
    EXPECT_NE(report[0].second.find("4321 entries (max_cqe)"), std::string::npos)
        << report[0].second;
    EXPECT_EQ(listed, 0);
    EXPECT_EQ(closed, 1);
}

TEST(DeviceReport, SaysWhyADeviceCannotBeOpened) {
    FakeDevice fake{FakeDevice::Options{}};
    Api api = listing(fake);
    api.verbs.open_device = [](ibv_device*) -> ibv_context* {
        errno = EACCES;
        return nullptr;
    };
    const auto report = device_report(api);
    ASSERT_EQ(report.size(), 1U);
    EXPECT_NE(report[0].second.find("/dev/infiniband"), std::string::npos) << report[0].second;
    EXPECT_EQ(listed, 0);
    EXPECT_EQ(closed, 0);
}

TEST(DeviceReport, IsEmptyWithoutAList) {
    FakeDevice fake{FakeDevice::Options{}};
    Api api = listing(fake);
    api.verbs.get_device_list = [](int*) -> ibv_device** { return nullptr; };
    EXPECT_TRUE(device_report(api).empty());
}

}  // namespace
}  // namespace sanpoll::engine::verbs

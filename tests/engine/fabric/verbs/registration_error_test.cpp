#include "engine/fabric/verbs/registration_error.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <vector>

#include "engine/fabric/verbs/device.hpp"
#include "tests/engine/fake_host.hpp"

namespace sanpoll::engine::verbs {
namespace {

class RegistrationErrorTest : public testing::Test {
protected:
    static bool says(const RegistrationError& error, const char* what) {
        return error.text.find(what) != std::string::npos;
    }
    static void expect_parts(const RegistrationError& error,
                             const std::vector<const char*>& parts) {
        for (const char* part : parts) {
            EXPECT_TRUE(says(error, part)) << part << " in: " << error.text;
        }
    }
    [[nodiscard]] RegistrationError explain(int error, std::uint64_t length) const {
        return explain_registration(error, length, "rxe0", &device_, host_);
    }

    tests::FakeHost host_;
    DeviceLimits device_;
};

TEST_F(RegistrationErrorTest, TheLimitOfLockedMemoryIsNamedWithItsRemedy) {
    host_.resources[RLIMIT_MEMLOCK] = {32 * 1024, 32 * 1024};
    for (const int number : {ENOMEM, EPERM}) {
        const RegistrationError error = explain(number, 123456);
        EXPECT_EQ(error.status, Status::kNoMemory);
        expect_parts(error, {"123456", "rxe0", "RLIMIT_MEMLOCK", "32 KiB", "ulimit -l",
                             "LimitMEMLOCK=infinity"});
        EXPECT_FALSE(says(error, "max_mr")) << error.text;
    }
}

TEST_F(RegistrationErrorTest, WhatIsPinnedAlreadyCounts) {
    host_.resources[RLIMIT_MEMLOCK] = {64 * 1024, 64 * 1024};
    host_.files["/proc/self/status"] = "VmPin:\t60 kB\n";
    const RegistrationError error = explain(ENOMEM, 8192);
    expect_parts(error, {"8192", "cannot be pinned", "64 KiB", "60 KiB"});
    EXPECT_FALSE(says(error, "max_mr")) << error.text;
}

TEST_F(RegistrationErrorTest, BelowTheLimitBothAreNamed) {
    host_.resources[RLIMIT_MEMLOCK] = {8 << 20, 8 << 20};
    device_.max_regions = 4096;
    expect_parts(explain(ENOMEM, 8192), {"4096 (max_mr)", "rdma resource", "RLIMIT_MEMLOCK"});
}

TEST_F(RegistrationErrorTest, ARegionLongerThanTheDeviceTakes) {
    device_.max_region_bytes = 1 << 20;
    const RegistrationError error = explain(ENOMEM, 2 << 20);
    EXPECT_EQ(error.status, Status::kNoMemory);
    expect_parts(error, {"2097152", "rxe0", "1 MiB", "max_mr_size"});
}

TEST_F(RegistrationErrorTest, TheCallersOwnMistakeIsNoLackOfMemory) {
    for (const int number : {EFAULT, EINVAL, EACCES}) {
        const RegistrationError error = explain(number, 10);
        EXPECT_EQ(error.status, Status::kBadRegion);
        EXPECT_FALSE(says(error, "RLIMIT_MEMLOCK"));
    }
}

TEST_F(RegistrationErrorTest, ALostDeviceIsNamed) {
    for (const int number : {ENODEV, EIO}) {
        const RegistrationError error = explain(number, 10);
        EXPECT_EQ(error.status, Status::kNotOpen);
        EXPECT_TRUE(says(error, "rxe0"));
    }
}

TEST_F(RegistrationErrorTest, WithoutALimitTheDeviceIsFull) {
    const RegistrationError error = explain_registration(ENOMEM, 10, "rxe0", nullptr, host_);
    EXPECT_EQ(error.status, Status::kNoMemory);
    EXPECT_TRUE(says(error, "max_mr")) << error.text;
    EXPECT_FALSE(says(error, "RLIMIT_MEMLOCK"));
}

}  // namespace
}  // namespace sanpoll::engine::verbs

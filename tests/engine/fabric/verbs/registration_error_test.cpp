#include "engine/fabric/verbs/registration_error.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>

namespace sanpoll::engine::verbs {
namespace {

class RegistrationErrorTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before_), 0); }
    void TearDown() override { EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before_), 0); }
    /// The soft limit may always be lowered.
    void limit(rlim_t bytes) {
        const rlimit lower{bytes, before_.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &lower), 0);
    }
    static bool says(const RegistrationError& error, const char* what) {
        return error.text.find(what) != std::string::npos;
    }

private:
    rlimit before_{};
};

TEST_F(RegistrationErrorTest, TheLimitOfLockedMemoryIsNamedWithItsRemedy) {
    limit(32 * 1024);
    for (const int number : {ENOMEM, EPERM}) {
        const RegistrationError error = explain_registration(number, 123456, "rxe0");
        EXPECT_EQ(error.status, Status::kNoMemory);
        for (const char* part :
             {"123456", "rxe0", "RLIMIT_MEMLOCK", "32 KiB", "ulimit -l", "LimitMEMLOCK=infinity"}) {
            EXPECT_TRUE(says(error, part)) << part << " in: " << error.text;
        }
    }
}

TEST_F(RegistrationErrorTest, TheCallersOwnMistakeIsNoLackOfMemory) {
    for (const int number : {EFAULT, EINVAL, EACCES}) {
        const RegistrationError error = explain_registration(number, 10, "rxe0");
        EXPECT_EQ(error.status, Status::kBadRegion);
        EXPECT_FALSE(says(error, "RLIMIT_MEMLOCK"));
    }
}

TEST_F(RegistrationErrorTest, ALostDeviceIsNamed) {
    for (const int number : {ENODEV, EIO}) {
        const RegistrationError error = explain_registration(number, 10, "rxe0");
        EXPECT_EQ(error.status, Status::kNotOpen);
        EXPECT_TRUE(says(error, "rxe0"));
    }
}

TEST_F(RegistrationErrorTest, WithoutALimitTheDeviceIsFull) {
    rlimit now{};
    ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &now), 0);
    if (now.rlim_max != RLIM_INFINITY) {
        GTEST_SKIP() << "RLIMIT_MEMLOCK cannot be raised to unlimited here";
    }
    limit(RLIM_INFINITY);
    const RegistrationError error = explain_registration(ENOMEM, 10, "rxe0");
    EXPECT_EQ(error.status, Status::kNoMemory);
    EXPECT_TRUE(says(error, "max_mr")) << error.text;
    EXPECT_FALSE(says(error, "RLIMIT_MEMLOCK"));
}

}  // namespace
}  // namespace sanpoll::engine::verbs

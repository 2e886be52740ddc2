// The program is a test or, when a test has started it again, a child of a test.
#include <gtest/gtest.h>

#include "tests/system/child.hpp"

int main(int argc, char** argv) {
    if (const auto status = sanpoll::system_test::run_role(argc, argv)) {
        return *status;
    }
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

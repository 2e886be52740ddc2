#include <gtest/gtest.h>

#include <csignal>

#include "tests/provider/child_process.hpp"

int main(int argc, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    if (const int status = sanpoll::test::run_role(argc, argv); status >= 0) {
        return status;
    }
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}

#include "engine/fork_guard.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

namespace sanpoll::engine {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// Forks, closes the entered descriptors in the child, and tells whether `fd` is open there.
bool open_in_child(int fd) {
    const pid_t child = ::fork();
    if (child == 0) {
        close_all_in_child();
        ::_exit(is_open(fd) ? 1 : 0);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status) == 1;
}

TEST(ForkGuard, AnEnteredDescriptorIsClosedInTheChildOnly) {
    const int fd = ::eventfd(0, EFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    close_in_child(fd);
    EXPECT_FALSE(open_in_child(fd));
    EXPECT_TRUE(is_open(fd));
    forget_in_child(fd);
    ::close(fd);
}

TEST(ForkGuard, AForgottenDescriptorStaysOpen) {
    const int fd = ::eventfd(0, EFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    close_in_child(fd);
    forget_in_child(fd);
    EXPECT_TRUE(open_in_child(fd));
    ::close(fd);
}

TEST(ForkGuard, OthersStayOpen) {
    const int fd = ::eventfd(0, EFD_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_TRUE(open_in_child(fd));
    ::close(fd);
}

TEST(ForkGuard, TakesNoHarmWhenItsTableIsFull) {
    for (int i = 0; i < 5000; ++i) {
        close_in_child(1000000 + i);
    }
    for (int i = 0; i < 5000; ++i) {
        forget_in_child(1000000 + i);
    }
    const int fd = ::eventfd(0, EFD_CLOEXEC);
    close_in_child(fd);
    EXPECT_FALSE(open_in_child(fd)) << "there is room again";
    forget_in_child(fd);
    ::close(fd);
}

}  // namespace
}  // namespace sanpoll::engine

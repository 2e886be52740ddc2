// A process that has no file descriptors left, for a while.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

namespace sanpoll::test {

/// Takes all descriptors that the process may have, and lowers that number so that they are few.
class NoDescriptors {
public:
    NoDescriptors() {
        EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
        const int free = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
        EXPECT_GE(free, 0);
        rlimit lower = before_;
        lower.rlim_cur = static_cast<rlim_t>(free) + 32;
        EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lower), 0);
        for (int fd = free; fd >= 0; fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) {
            taken_.push_back(fd);
        }
    }
    ~NoDescriptors() {
        for (const int fd : taken_) {
            ::close(fd);
        }
        (void)::setrlimit(RLIMIT_NOFILE, &before_);
    }
    NoDescriptors(const NoDescriptors&) = delete;
    NoDescriptors& operator=(const NoDescriptors&) = delete;

    /// From now on there is one more.
    void give_one() {
        ASSERT_FALSE(taken_.empty());
        ::close(taken_.back());
        taken_.pop_back();
    }

private:
    rlimit before_{};
    std::vector<int> taken_;
};

}  // namespace sanpoll::test

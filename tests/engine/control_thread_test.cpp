#include "engine/control_thread.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/control_thread_fixture.hpp"
#include "tests/engine/manual_clock.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/sanitizers.hpp"

namespace sanpoll::engine {
namespace {

using tests::ControlThreadTest;
using tests::eventually;

class Bell {
public:
    Bell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
    ~Bell() { ::close(fd_); }
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;
    [[nodiscard]] int fd() const { return fd_; }
    void ring() const {
        const std::uint64_t one = 1;
        ASSERT_EQ(::write(fd_, &one, sizeof(one)), 8);
    }
    void silence() const {
        std::uint64_t count = 0;
        (void)!::read(fd_, &count, sizeof(count));
    }

private:
    int fd_;
};

TEST_F(ControlThreadTest, TasksRunInOrder) {
    for (int i = 0; i < 10; ++i) {
        control_.post([this, i] { log_ += std::to_string(i); });
    }
    settle();
    EXPECT_EQ(log_, "0123456789");
}

TEST_F(ControlThreadTest, CallWaitsForItsTask) {
    int value = 0;
    control_.call([&] { value = 7; });
    EXPECT_EQ(value, 7);
}

TEST_F(ControlThreadTest, WhatACalledTaskThrowsReachesTheCallerBehindTheTurn) {
    EXPECT_THROW(control_.call([] { throw std::bad_alloc(); }), std::bad_alloc);
    EXPECT_FALSE(control_.is_this_thread());
    EXPECT_THROW(
        {
            while (!control_.try_call([] { throw std::bad_alloc(); })) {
            }
        },
        std::bad_alloc);
    EXPECT_FALSE(control_.is_this_thread());
    control_.call([&] { log_ += "on"; });
    settle();
    EXPECT_EQ(log_, "on");
}

TEST_F(ControlThreadTest, PostedTasksRunOnItsThread) {
    EXPECT_FALSE(control_.is_this_thread());
    std::promise<std::thread::id> id;
    bool there = false;
    control_.post([&] {
        there = control_.is_this_thread();
        id.set_value(std::this_thread::get_id());
    });
    EXPECT_NE(id.get_future().get(), std::this_thread::get_id());
    settle();
    EXPECT_TRUE(there);
}

TEST_F(ControlThreadTest, ACallRunsWhereItIsMade) {
    bool there = false;
    std::thread::id id;
    control_.call([&] {
        there = control_.is_this_thread();
        id = std::this_thread::get_id();
    });
    EXPECT_TRUE(there);
    EXPECT_EQ(id, std::this_thread::get_id());
    EXPECT_FALSE(control_.is_this_thread());
}

TEST_F(ControlThreadTest, ACallComesAfterWhatWasPostedBefore) {
    for (int i = 0; i < 1000; ++i) {
        control_.post([this] { log_ += 'a'; });
        control_.call([this] { log_ += 'b'; });
    }
    for (std::size_t i = 0; i < log_.size(); i += 2) {
        ASSERT_EQ(log_.substr(i, 2), "ab") << i;
    }
}

TEST_F(ControlThreadTest, ATriedCallGivesWayToWhoeverHasTheTurn) {
    // The control thread has the turn for a moment when it starts.
    while (!control_.try_call([this] { log_ += 'a'; })) {
        std::this_thread::yield();
    }
    std::promise<void> inside;
    std::promise<void> go_on;
    control_.post([&] {
        inside.set_value();
        go_on.get_future().wait();
    });
    inside.get_future().wait();
    EXPECT_FALSE(control_.try_call([this] { log_ += 'x'; }));
    go_on.set_value();
    settle();
    EXPECT_EQ(log_, "a");
}

TEST_F(ControlThreadTest, AHelperRunsAtItsEndWhatItsThreadPosted) {
    std::thread::id first;
    std::thread::id second;
    {
        const ControlThread::Helper helper(control_);
        control_.post([&] {
            first = std::this_thread::get_id();
            control_.post([&] { second = std::this_thread::get_id(); });
        });
    }
    control_.call([] {});  // sees what ran, wherever it did
    EXPECT_NE(first, std::thread::id());
    EXPECT_NE(second, std::thread::id());
}

TEST_F(ControlThreadTest, WhatAHelperCannotRunItselfIsRunAllTheSame) {
    std::promise<void> inside;
    std::promise<void> go_on;
    control_.post([&] {
        inside.set_value();
        go_on.get_future().wait();
    });
    inside.get_future().wait();
    std::atomic<bool> done{false};
    {
        const ControlThread::Helper helper(control_);
        control_.post([&] { done.store(true); });
    }
    go_on.set_value();
    EXPECT_TRUE(eventually([&] { return done.load(); }));
}

TEST_F(ControlThreadTest, HelpersAndCallersLoseNothing) {
    int count = 0;  // with the turn only
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 500; ++i) {
                if (t % 2 == 0) {
                    const ControlThread::Helper helper(control_);
                    control_.post([&] { ++count; });
                } else {
                    while (!control_.try_call([&] { ++count; })) {
                        std::this_thread::yield();
                    }
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    int seen = 0;
    EXPECT_TRUE(eventually([&] {
        control_.call([&] { seen = count; });
        return seen == 2000;
    })) << seen;
}

TEST_F(ControlThreadTest, ATaskMayPostAnother) {
    std::atomic<bool> done{false};
    control_.post([&] { control_.post([&] { done.store(true); }); });
    EXPECT_TRUE(eventually([&] { return done.load(); }));
}

TEST_F(ControlThreadTest, ManyThreadsCallAtOnce) {
    int count = 0;  // only ever touched on the control thread
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 500; ++i) {
                control_.call([&] { ++count; });
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(count, 2000);
}

TEST_F(ControlThreadTest, StopRunsWhatIsQueued) {
    int count = 0;
    for (int i = 0; i < 100; ++i) {
        control_.post([&] { ++count; });
    }
    control_.post([&] { control_.post([&] { ++count; }); });
    control_.stop();
    EXPECT_EQ(count, 101);
    control_.stop();
}

TEST(ControlThread, StopWithoutStartIsHarmless) {
    tests::ManualClock clock;
    ControlThread control(clock);
    control.stop();
}

TEST_F(ControlThreadTest, WhatIsApartIsNotRunInOthersTurns) {
    std::promise<void> inside;
    std::promise<void> go_on;
    control_.post([&] {
        inside.set_value();
        go_on.get_future().wait();
    });
    inside.get_future().wait();
    std::promise<std::thread::id> apart;
    std::thread::id poster;
    std::thread helper([&] {
        poster = std::this_thread::get_id();
        const ControlThread::Helper scope(control_);
        control_.post_apart([&] { apart.set_value(std::this_thread::get_id()); });
    });
    helper.join();
    go_on.set_value();
    const std::thread::id runner = apart.get_future().get();
    EXPECT_NE(runner, poster);
    EXPECT_NE(runner, std::this_thread::get_id());
}

TEST_F(ControlThreadTest, ACallComesAfterWhatIsApartToo) {
    for (int i = 0; i < 200; ++i) {
        control_.post_apart([this] { log_ += 'a'; });
        control_.call([this] { log_ += 'b'; });
    }
    for (std::size_t i = 0; i < log_.size(); i += 2) {
        ASSERT_EQ(log_.substr(i, 2), "ab") << i;
    }
}

// ---- descriptors ------------------------------------------------------------------------------------

TEST_F(ControlThreadTest, AWatchedDescriptorCallsItsHandler) {
    Bell bell;
    std::atomic<int> rings{0};
    control_.call([&] {
        ASSERT_TRUE(control_.watch(bell.fd(), EPOLLIN, [&](std::uint32_t events) {
            EXPECT_NE(events & EPOLLIN, 0U);
            EXPECT_TRUE(control_.is_this_thread());
            bell.silence();
            rings.fetch_add(1);
        }));
    });
    bell.ring();
    EXPECT_TRUE(eventually([&] { return rings.load() == 1; }));
    bell.ring();
    EXPECT_TRUE(eventually([&] { return rings.load() == 2; }));
    control_.call([&] { control_.forget(bell.fd()); });
}

TEST_F(ControlThreadTest, AForgottenDescriptorIsQuiet) {
    Bell bell;
    Bell other;
    std::atomic<int> rings{0};
    std::atomic<int> others{0};
    control_.call([&] {
        ASSERT_TRUE(control_.watch(bell.fd(), EPOLLIN, [&](std::uint32_t) { rings.fetch_add(1); }));
        ASSERT_TRUE(control_.watch(other.fd(), EPOLLIN, [&](std::uint32_t) {
            other.silence();
            others.fetch_add(1);
        }));
        control_.forget(bell.fd());
        control_.forget(bell.fd());
    });
    bell.ring();
    other.ring();
    EXPECT_TRUE(eventually([&] { return others.load() == 1; }));
    control_.call([&] { control_.forget(other.fd()); });
    EXPECT_EQ(rings.load(), 0);
}

TEST_F(ControlThreadTest, AHandlerMayForgetItselfAndAnother) {
    Bell bells[2];
    std::atomic<int> calls{0};
    control_.call([&] {
        for (const Bell& bell : bells) {
            ASSERT_TRUE(control_.watch(bell.fd(), EPOLLIN, [&](std::uint32_t) {
                // Whoever comes first sends both away, although both are ready.
                control_.forget(bells[0].fd());
                control_.forget(bells[1].fd());
                calls.fetch_add(1);
            }));
        }
        bells[0].ring();
        bells[1].ring();
    });
    EXPECT_TRUE(eventually([&] { return calls.load() >= 1; }));
    settle();
    EXPECT_EQ(calls.load(), 1);
}

TEST_F(ControlThreadTest, AnEventOfAForgottenDescriptorIsNotItsSuccessors) {
    Bell first;
    const int number = first.fd();
    std::atomic<int> calls{0};
    Bell blocker;
    control_.call([&] {
        ASSERT_TRUE(control_.watch(blocker.fd(), EPOLLIN, [&](std::uint32_t) {
            control_.forget(blocker.fd());
            control_.forget(number);
            // The same number, watched for something else: what was said of the first is not about it.
            ASSERT_TRUE(control_.watch(number, 0, [&](std::uint32_t) { calls.fetch_add(1); }));
        }));
        ASSERT_TRUE(
            control_.watch(number, EPOLLIN, [&](std::uint32_t) { control_.forget(number); }));
        blocker.ring();
        first.ring();
    });
    settle();
    EXPECT_EQ(calls.load(), 0);
    control_.call([&] { control_.forget(number); });
}

TEST_F(ControlThreadTest, ChangeAsksForOtherEvents) {
    Bell bell;
    std::atomic<std::uint32_t> seen{0};
    control_.call([&] {
        ASSERT_TRUE(control_.watch(bell.fd(), EPOLLIN, [&](std::uint32_t events) {
            control_.forget(bell.fd());
            seen.fetch_or(events);
        }));
        control_.change(bell.fd(), EPOLLOUT);
    });
    EXPECT_TRUE(eventually([&] { return seen.load() == EPOLLOUT; }));
    settle();
}

TEST_F(ControlThreadTest, ABadDescriptorIsRefused) {
    control_.call([&] {
        EXPECT_FALSE(control_.watch(-1, EPOLLIN, [](std::uint32_t) {}));
        Bell bell;
        EXPECT_TRUE(control_.watch(bell.fd(), EPOLLIN, [](std::uint32_t) {}));
        EXPECT_FALSE(control_.watch(bell.fd(), EPOLLIN, [](std::uint32_t) {})) << "twice";
        control_.forget(bell.fd());
    });
}

TEST(ControlThreadStart, NamesTheLimitThatBinds) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer needs descriptors itself";
    }
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{3, before.rlim_max};  // the standard streams
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    ControlThread control(Clock::steady());
    const std::string error = control.start();
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    for (const char* part : {"the control thread", "3 open files", "RLIMIT_NOFILE", "ulimit -n"}) {
        EXPECT_NE(error.find(part), std::string::npos) << error;
    }
}

}  // namespace
}  // namespace sanpoll::engine

// The system refuses messages between processes for lack of something, and may have it again in a moment: nothing is lost
// then. The system is this file's.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>

#include "tests/engine/fabric/shm/engine_bench.hpp"

namespace {

std::atomic<int> refusals{0};  // that are left
std::atomic<int> refusal{ENOBUFS};
std::atomic<bool> with_descriptors{false};  // only those

}  // namespace

extern "C" ssize_t sendmsg(int fd, const msghdr* message, int flags) {
    using Function = ssize_t (*)(int, const msghdr*, int);
    static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "sendmsg"));
    if ((!with_descriptors.load() || message->msg_controllen != 0) && refusals.load() > 0) {
        refusals.fetch_sub(1);
        errno = refusal.load();
        return -1;
    }
    return real(fd, message, flags);
}

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::EngineBench;
using tests::eventually;
using tests::Socket;

class RefusedMessageTest : public testing::TestWithParam<int> {
protected:
    void SetUp() override { refusal = GetParam(); }
    void TearDown() override {
        refusals = 0;
        with_descriptors = false;
    }
    // Connects while the next `count` messages are refused.
    void connect_in_spite_of(int count) {
        EngineBench bench;
        const Address at = EngineBench::fresh_address();
        Backlog backlog(bench, at);
        ASSERT_EQ(backlog.status, Status::kOk);
        Socket from;
        Socket to;
        refusals = count;
        ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
        EXPECT_EQ(refusals.load(), 0);
        const tests::Operation& receive = to.receive(64);
        const tests::Operation& send = from.send_number(1, 64);
        tests::wait_for(to, receive);
        tests::wait_for(from, send);
        EXPECT_TRUE(receive.good() && send.good());
        tests::close_all({&from, &to});
    }
};

TEST_P(RefusedMessageTest, IsSentWhenThatIsOver) {
    for (const int count : {1, 2, 3, 7}) {
        ASSERT_NO_FATAL_FAILURE(connect_in_spite_of(count)) << count;
    }
}

TEST_P(RefusedMessageTest, IsSentWithItsDescriptors) {
    with_descriptors = true;
    for (const int count : {1, 4}) {
        ASSERT_NO_FATAL_FAILURE(connect_in_spite_of(count)) << count;
    }
}

// Not by the connect's own time-out.
TEST_P(RefusedMessageTest, EndsTheAcquaintanceWhenThatIsNotOver) {
    Config config;
    config.connect_timeout_ms = 3'600'000;
    EngineBench bench(config);
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    with_descriptors = true;
    refusals = 1 << 30;
    const auto outcome = bench.dial(at, from);
    EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kTimedOut);
    refusals = 0;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
    tests::close_all({&from, &to});
}

INSTANTIATE_TEST_SUITE_P(By, RefusedMessageTest, testing::Values(ENOBUFS, ENOMEM, ETOOMANYREFS),
                         [](const auto& one) {
                             return one.param == ENOBUFS  ? std::string("ENOBUFS")
                                    : one.param == ENOMEM ? std::string("ENOMEM")
                                                          : std::string("ETOOMANYREFS");
                         });

}  // namespace
}  // namespace sanpoll::engine::shm

// A million messages, and the threads that post and poll never enter the kernel: counted by ptrace, from
// outside. First it is shown that the count is right, with calls that are made on purpose.
//
// Over an RDMA device (SANPOLL_FABRIC=verbs, SANPOLL_TEST_ADDRESS) fewer messages, since the library of a soft device
// enters the kernel for each doorbell and is stopped there: these calls are counted apart.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/scale.hpp"
#include "tests/system/steady_connection.hpp"
#include "tests/system/syscall_tracer.hpp"

namespace sanpoll::system_test {
namespace {

bool over_device() {
    const char* const fabric = std::getenv("SANPOLL_FABRIC");
    return fabric != nullptr && std::string_view(fabric) == "verbs";
}

const std::uint64_t kWarmUp = over_device() ? 500 : 10'000;
const std::uint64_t kMessages = over_device() ? 5'000 : scaled(1'000'000, 50'000);
constexpr std::uint64_t kDeliberateCalls = 3;

/// Memory that the test shares with the traced processes, because speaking by a channel is a system
/// call. A process does a step when the test has asked for it, and says when it is done. Which place in
/// `done` is whose: in the order of their start.
struct Steps {
    enum Step : std::uint32_t { kNone, kCallOnPurpose, kExchange, kEnd };
    std::atomic<std::uint32_t> asked{kNone};
    std::atomic<std::uint32_t> abandoned{0};
    std::atomic<std::uint32_t> done[2]{};

    void await(std::uint32_t step) const {
        while (asked.load(std::memory_order_acquire) < step) {
            if (abandoned.load(std::memory_order_relaxed) != 0) {
                throw std::runtime_error("abandoned");
            }
        }
    }
};

Steps& map_steps(int fd) {
    void* memory = ::mmap(nullptr, sizeof(Steps), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        throw std::runtime_error("no shared memory");
    }
    return *static_cast<Steps*>(memory);  // zeros are its first state
}

template <typename Exchange>
void go_through(Steps& steps, std::size_t place, Channel& test, Exchange exchange) {
    exchange(kWarmUp);
    test.tell(std::to_string(thread_named(::getpid(), "sanpoll-core")));
    steps.await(Steps::kCallOnPurpose);
    for (std::uint64_t i = 0; i < kDeliberateCalls; ++i) {
        ::syscall(SYS_getppid);
    }
    steps.done[place].store(Steps::kCallOnPurpose, std::memory_order_release);
    steps.await(Steps::kExchange);
    exchange(kMessages);
    steps.done[place].store(Steps::kExchange, std::memory_order_release);
    steps.await(Steps::kEnd);
    test.expect("close");
}

Pattern pattern_of(const std::string& text) {
    return text == "pingpong" ? Pattern::kPingPong : Pattern::kOneWay;
}

const Role leader("leader", [](Channel& test, const Arguments& arguments) {
    Steps& steps = map_steps(Child::kSharedFd);
    const auto provider = load_provider();
    const auto port = static_cast<std::uint16_t>(std::stoul(arguments.at(1)));
    SteadyConnection connection(*provider, connect_to(*provider, port), steps.abandoned);
    go_through(steps, 1, test, [&](std::uint64_t messages) {
        lead(pattern_of(arguments.at(0)), connection, messages);
    });
    return 0;
});

const Role follower("follower", [](Channel& test, const Arguments& arguments) {
    Steps& steps = map_steps(Child::kSharedFd);
    const auto provider = load_provider();
    const Listener listener(*provider);
    test.tell(std::to_string(listener.port()));
    SteadyConnection connection(*provider, listener.accept(), steps.abandoned);
    go_through(steps, 0, test, [&](std::uint64_t messages) {
        follow(pattern_of(arguments.at(0)), connection, messages);
    });
    return 0;
});

const Role both_sides("both", [](Channel& test, const Arguments& arguments) {
    Steps& steps = map_steps(Child::kSharedFd);
    const auto provider = load_provider();
    const Listener listener(*provider);
    const auto [one, other] = connected_pair(*provider, listener);
    SteadyConnection leading(*provider, one, steps.abandoned);
    SteadyConnection following(*provider, other, steps.abandoned);
    go_through(steps, 0, test, [&](std::uint64_t messages) {
        lead_and_follow(pattern_of(arguments.at(0)), leading, following, messages);
    });
    return 0;
});

class NoSystemCalls : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        if (kThreadSanitizer) {
            GTEST_SKIP() << "ThreadSanitizer's run-time makes system calls of its own";
        }
        fd_ = ::memfd_create("steps", MFD_CLOEXEC);
        ASSERT_EQ(::ftruncate(fd_, sizeof(Steps)), 0);
        steps_ = &map_steps(fd_);
    }

    void TearDown() override {
        if (steps_ != nullptr) {
            steps_->abandoned.store(1);
            ::munmap(steps_, sizeof(Steps));
            ::close(fd_);
        }
    }

    /// A process of the test; its threads are traced from when it is warm.
    struct Traced {
        std::unique_ptr<Child> child;
        pid_t core = 0;
    };

    void start(const std::string& role, const Arguments& arguments, const Environment& knobs) {
        traced_.push_back({std::make_unique<Child>(role, arguments, knobs, fd_)});
    }

    /// Lets the tracer work until all processes have done the step.
    void perform(Steps::Step step) {
        steps_->asked.store(step, std::memory_order_release);
        // Two spinning processes on a machine with other work pass the ball once a time slice.
        const auto deadline = std::chrono::steady_clock::now() + 8 * kPatience;
        for (std::size_t i = 0; i < traced_.size(); ++i) {
            while (steps_->done[i].load(std::memory_order_acquire) < step) {
                ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "step " << step;
                tracer_.serve();
                std::this_thread::sleep_for(std::chrono::microseconds(100));
            }
        }
        tracer_.serve();
    }

    void count_calls(bool expect_core) {
        for (Traced& traced : traced_) {
            const auto answer = traced.child->channel().hear();
            ASSERT_TRUE(answer);
            traced.core = static_cast<pid_t>(std::stol(*answer));
            ASSERT_EQ(traced.core != 0, expect_core);
            for (const pid_t thread : {traced.child->pid(), traced.core}) {
                if (thread == 0) {
                    continue;
                }
                if (const std::string refusal = tracer_.attach(thread); !refusal.empty()) {
                    GTEST_SKIP() << refusal;
                }
            }
        }
        perform(Steps::kCallOnPurpose);
        for (const Traced& traced : traced_) {
            ASSERT_EQ(tracer_.count(traced.child->pid()), kDeliberateCalls)
                << tracer_.describe(traced.child->pid());
            ASSERT_EQ(tracer_.calls(traced.child->pid()).begin()->first, SYS_getppid);
        }
        const auto start = std::chrono::steady_clock::now();
        perform(Steps::kExchange);
        const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
        for (const Traced& traced : traced_) {
            EXPECT_EQ(tracer_.count(traced.child->pid()), kDeliberateCalls)
                << "a posting thread made " << tracer_.describe(traced.child->pid());
            if (traced.core != 0) {
                EXPECT_EQ(tracer_.count(traced.core), 0U)
                    << "a polling core made " << tracer_.describe(traced.core);
            }
        }
        const std::uint64_t doorbells = device_calls();
        if (over_device()) {
            EXPECT_GT(doorbells, 0U);
            // One for each of the two messages of a round, and some for word of credit; not one more for each.
            EXPECT_LT(doorbells, 3 * kMessages);
        } else {
            EXPECT_EQ(doorbells, 0U);
        }
        tracer_.detach_all();
        std::printf("%llu messages in %.2f s, no system call on %zu posting threads%s",
                    static_cast<unsigned long long>(kMessages), time.count(), traced_.size(),
                    expect_core ? " and the polling core" : "");
        std::printf(over_device() ? ", but %llu doorbells that libibverbs rings by one\n" : "\n",
                    static_cast<unsigned long long>(doorbells));
        steps_->asked.store(Steps::kEnd, std::memory_order_release);
        for (Traced& traced : traced_) {
            traced.child->channel().tell("close");
            EXPECT_EQ(traced.child->reap(), 0);
        }
    }

    [[nodiscard]] std::uint64_t device_calls() const {
        std::uint64_t sum = 0;
        for (const Traced& traced : traced_) {
            sum += tracer_.device_calls(traced.child->pid());
            sum += traced.core != 0 ? tracer_.device_calls(traced.core) : 0;
        }
        return sum;
    }

    SyscallTracer tracer_;
    std::vector<Traced> traced_;
    int fd_ = -1;
    Steps* steps_ = nullptr;
};

TEST_P(NoSystemCalls, InlineBetweenTwoProcesses) {
    start("follower", {GetParam()}, {});
    const auto port = traced_[0].child->channel().hear();
    ASSERT_TRUE(port);
    start("leader", {GetParam(), *port}, {});
    count_calls(false);
}

// Both ends on one core: as many threads spin as the smallest machine has CPUs.
TEST_P(NoSystemCalls, DedicatedCore) {
    start("both", {GetParam()}, {{"SANPOLL_MODE", "dedicated"}, {"SANPOLL_PROFILE", "ultra"}});
    count_calls(true);
}

INSTANTIATE_TEST_SUITE_P(Patterns, NoSystemCalls, ::testing::Values("pingpong", "oneway"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::system_test

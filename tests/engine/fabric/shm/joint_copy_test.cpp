#include "engine/fabric/shm/joint_copy.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "engine/fabric/shm/connection.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using Rest = JobOffered::Rest;

constexpr std::uint32_t kChunk = JobChunks::kBytes;
constexpr std::uint32_t kAny = UINT32_MAX;

class JointCopy : public testing::Test {
protected:
    void offer(std::uint32_t length) { offered_.offer(*owner_, {64, 2, 3, 4, length}); }
    [[nodiscard]] std::uint64_t claims() const { return job_->claims.load(); }

    std::unique_ptr<Connection> owner_ = std::make_unique<Connection>();
    std::unique_ptr<CopyJob> job_ = std::make_unique<CopyJob>();
    JobOffered offered_{job_.get()};
    JobSeen seen_{job_.get()};
};

TEST(JobChunks, MakeUpAMessageOfAnyLength) {
    for (const std::uint32_t length :
         {1U, kChunk - 1, kChunk, kChunk + 1, 100000U, 1U << 20, kChunk * JobWord::kMost,
          kChunk * JobWord::kMost + 1, 1U << 30, 0x7FFFFFFFU, 0x80000001U, ~0U}) {
        const JobChunks chunks(length);
        ASSERT_GE(chunks.count(), 1U);
        ASSERT_LE(chunks.count(), JobWord::kMost);
        std::uint64_t end = 0;
        for (std::uint32_t i = 0; i < chunks.count(); ++i) {
            const JobChunks::Run run = chunks.run(i, 1);
            ASSERT_EQ(run.offset, end) << length;
            ASSERT_NE(run.length, 0U) << length;
            end += run.length;
        }
        ASSERT_EQ(end, length);
        ASSERT_EQ(chunks.run(0, chunks.count()).length, length);
    }
}

TEST(JobWord, HoldsItsParts) {
    const JobWord word = JobWord::of(JobWord{0xABCDEF0123, JobWord::kClosed, 7}.word());
    EXPECT_EQ(word.serial, 0xABCDEF0123U);
    EXPECT_EQ(word.front, JobWord::kClosed);
    EXPECT_EQ(word.back, 7U);
    EXPECT_EQ(next_serial(1), 2U);
    EXPECT_EQ(next_serial(0xFFFFFFFFFF), 0U);
}

TEST_F(JointCopy, NothingIsSeenBeforeAnythingIsOffered) {
    EXPECT_FALSE(seen_.look());
    EXPECT_TRUE(offered_.idle());
    offer(100000);
    ASSERT_TRUE(seen_.look());
    const JobTarget target = seen_.target();
    EXPECT_EQ(target.offset, 64U);
    EXPECT_EQ(target.arena, 2U);
    EXPECT_EQ(target.connection, 3U);
    EXPECT_EQ(target.message, 4U);
    EXPECT_EQ(target.length, 100000U);
}

TEST_F(JointCopy, TheReceiverAloneTakesAllOfIt) {
    offer(100000);
    std::uint32_t end = 0;
    for (;;) {
        const JobChunks::Run run = offered_.claim(kAny);
        if (run.length == 0) {
            break;
        }
        ASSERT_EQ(run.offset, end);
        end += run.length;
    }
    EXPECT_EQ(end, 100000U);
    EXPECT_EQ(offered_.rest(), Rest::kNone);
    EXPECT_EQ(offered_.placed(), 0U);
    ASSERT_TRUE(seen_.look());
    EXPECT_EQ(seen_.claim(100000, kAny).length, 0U);
    EXPECT_FALSE(seen_.look());  // until it changes
    offered_.end();
    EXPECT_TRUE(offered_.idle());
}

TEST_F(JointCopy, WhatTheSenderHasTakenIsWaitedFor) {
    offer(4 * kChunk);
    ASSERT_TRUE(seen_.look());
    const JobChunks::Run run = seen_.claim(4 * kChunk, kAny);
    EXPECT_EQ(run.offset, 2 * kChunk);
    EXPECT_EQ(run.length, 2 * kChunk);
    EXPECT_EQ(offered_.claim(kAny).length, kChunk);
    EXPECT_EQ(offered_.claim(kAny).length, kChunk);
    EXPECT_EQ(offered_.claim(kAny).length, 0U);
    EXPECT_EQ(offered_.rest(), Rest::kCopying);
    EXPECT_TRUE(offered_.keeps_copying());
    seen_.finish();
    EXPECT_EQ(offered_.rest(), Rest::kNone);
    EXPECT_EQ(offered_.placed(), 2 * kChunk);
}

TEST_F(JointCopy, AfterACloseTheReceiverGoesOnAlone) {
    offer(8 * kChunk);
    ASSERT_TRUE(seen_.look());
    const std::uint32_t theirs = seen_.claim(8 * kChunk, kChunk).length;
    EXPECT_EQ(theirs, kChunk);
    seen_.finish();
    const std::uint32_t ours = offered_.claim(kAny).length;
    offered_.close();
    EXPECT_EQ(seen_.claim(8 * kChunk, kAny).length, 0U);
    ASSERT_TRUE(!seen_.look() || seen_.claim(8 * kChunk, kAny).length == 0);
    std::uint32_t rest = 0;
    while (const std::uint32_t more = offered_.claim(kAny).length) {
        rest += more;
    }
    EXPECT_EQ(ours + theirs + rest, 8 * kChunk);
    EXPECT_EQ(offered_.rest(), Rest::kNone);
}

// The sender knows by the length that all is taken. With the next job's length it must not take any of the one before.
TEST_F(JointCopy, NothingOfAJobIsTakenByTheWordsOfTheNext) {
    offer(2 * kChunk);
    ASSERT_TRUE(seen_.look());
    while (offered_.claim(kAny).length != 0) {
    }
    offered_.end();
    offer(100 * kChunk);
    EXPECT_EQ(seen_.target().length, 100 * kChunk);
    EXPECT_EQ(seen_.claim(100 * kChunk, kAny).length, 0U);
    ASSERT_TRUE(seen_.look());
    EXPECT_NE(seen_.claim(100 * kChunk, kAny).length, 0U);
}

// Of what a lying receiver makes of the sender's own count, or of its own.
TEST_F(JointCopy, TheSenderTakesOnlyBehindWhatItHasTaken) {
    offer(100 * kChunk);
    const std::uint64_t serial = JobWord::of(claims()).serial;
    const auto takes = [&](std::uint32_t front, std::uint32_t back) {
        job_->claims.store(JobWord{serial, front, back}.word());
        return seen_.look() ? seen_.claim(100 * kChunk, kAny).length : 0;
    };
    EXPECT_EQ(takes(0, 1), 0U);
    EXPECT_EQ(takes(0, 0), 8 * kChunk);
    EXPECT_EQ(takes(0, 0), 0U);
    EXPECT_EQ(takes(0, 9), 0U);
    EXPECT_EQ(takes(5, 8), 8 * kChunk);
}

TEST_F(JointCopy, WhatIsGivenUpTheSenderIsToldOf) {
    offer(100 * kChunk);
    ASSERT_TRUE(seen_.look());
    ASSERT_NE(seen_.claim(100 * kChunk, kAny).length, 0U);
    EXPECT_FALSE(seen_.given_up());
    (void)offered_.claim(kAny);
    EXPECT_FALSE(seen_.given_up());
    offered_.close();
    EXPECT_FALSE(seen_.given_up());  // what it has taken is wanted
    offered_.give_up();
    EXPECT_TRUE(seen_.given_up());
    EXPECT_EQ(offered_.rest(), Rest::kCopying);
    seen_.finish();
    EXPECT_EQ(offered_.rest(), Rest::kNone);
}

TEST(JobChunks, NoneIsLongerThanIsWaitedFor) {
    EXPECT_LE(JobChunks(JobChunks::kLongest).run(0, 1).length, JobChunks::kMostBytes);
    EXPECT_GT(JobChunks(JobChunks::kLongest + 1).run(0, 1).length, JobChunks::kMostBytes);
}

TEST_F(JointCopy, ImpossibleClaimsAreFoundOut) {
    const std::uint32_t count = 10;
    const auto lies = [&](const JobWord& said) {
        for (const bool by_close : {false, true}) {
            JobOffered offered(job_.get());
            offered.offer(*owner_, {0, 1, 2, 3, count * kChunk});
            ASSERT_NE(offered.claim(2 * kChunk).length, 0U);
            JobWord word = JobWord::of(claims());
            word = {word.serial + said.serial, word.front + said.front, said.back};
            job_->claims.store(word.word());
            if (by_close) {
                offered.close();
            } else {
                EXPECT_EQ(offered.claim(kAny).length, 0U);
            }
            EXPECT_EQ(offered.rest(), Rest::kImpossible);
            EXPECT_FALSE(offered.keeps_copying());
        }
    };
    lies({1, 0, 0});
    lies({0, 1, 0});
    lies({0, 0, count - 1});  // two are taken, so eight are left
    lies({0, 0, JobWord::kMost});
    lies({0, JobWord::kClosed - 2, 0});
}

TEST_F(JointCopy, NobodyFinishesMoreThanWasTaken) {
    offer(4 * kChunk);
    ASSERT_TRUE(seen_.look());
    ASSERT_NE(seen_.claim(4 * kChunk, kChunk).length, 0U);
    while (offered_.claim(kAny).length != 0) {
    }
    const std::uint64_t serial = JobWord::of(claims()).serial;
    job_->finished.store(JobWord{serial - 1, 0, 1}.word());
    EXPECT_EQ(offered_.rest(), Rest::kCopying);
    job_->finished.store(JobWord{serial, 0, 2}.word());
    EXPECT_EQ(offered_.rest(), Rest::kImpossible);
    job_->finished.store(JobWord{serial, 0, 1}.word());
    EXPECT_EQ(offered_.rest(), Rest::kImpossible);  // once is enough
}

TEST_F(JointCopy, WhatIsFinishedStaysSo) {
    offer(4 * kChunk);
    ASSERT_TRUE(seen_.look());
    ASSERT_NE(seen_.claim(4 * kChunk, kChunk).length, 0U);
    seen_.finish();
    while (offered_.claim(kAny).length != 0) {
    }
    EXPECT_EQ(offered_.rest(), Rest::kNone);
    job_->finished.store(0);
    EXPECT_EQ(offered_.rest(), Rest::kNone);
    offered_.give_up();
    EXPECT_EQ(offered_.rest(), Rest::kNone);
    offered_.end();
    offer(4 * kChunk);
    ASSERT_TRUE(seen_.look());
    ASSERT_NE(seen_.claim(4 * kChunk, kChunk).length, 0U);
    offered_.close();
    EXPECT_EQ(offered_.rest(), Rest::kCopying);
}

// A sender in another process that is stopped in the middle of a chunk: the receiver knows as long as it is, and when it goes
// on it writes no more than the step that it was at.
TEST_F(JointCopy, ASenderThatIsStoppedInAChunkKnowsThatItWasGivenUp) {
    constexpr std::uint32_t kLength = 16 * kChunk;
    struct Shared {
        CopyJob job;
        std::byte target[kLength];
    };
    void* const memory =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    auto* const shared = new (memory) Shared;
    JobOffered offered(&shared->job);
    offered.offer(*owner_, {0, 1, 2, 3, kLength});
    const pid_t sender = ::fork();
    if (sender == 0) {
        JobSeen seen(&shared->job);
        const JobChunks::Run run = seen.look() ? seen.claim(kLength, kAny) : JobChunks::Run{};
        for (std::uint32_t done = 0; done != run.length && !seen.given_up();
             done += JobChunks::kStep) {
            if (done == JobChunks::kStep) {
                (void)::raise(SIGSTOP);
            }
            std::memset(shared->target + run.offset + done, 1, JobChunks::kStep);
        }
        seen.finish();
        ::_exit(run.length == 8 * kChunk ? 0 : 1);
    }
    ASSERT_GT(sender, 0);
    int status = 0;
    ASSERT_EQ(::waitpid(sender, &status, WUNTRACED), sender);
    ASSERT_TRUE(WIFSTOPPED(status));
    while (offered.claim(kAny).length != 0) {
    }
    EXPECT_EQ(offered.rest(), Rest::kCopying);
    offered.give_up();
    EXPECT_EQ(offered.rest(), Rest::kCopying);
    ASSERT_EQ(::kill(sender, SIGCONT), 0);
    ASSERT_EQ(::waitpid(sender, &status, 0), sender);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_EQ(offered.rest(), Rest::kNone);
    EXPECT_EQ(std::count(shared->target, shared->target + kLength, std::byte{1}),
              2 * JobChunks::kStep);
    ::munmap(memory, sizeof(Shared));
}

// Two threads, and jobs of all lengths: each chunk is taken once, and all is there when the receiver says so.
TEST_F(JointCopy, EachByteIsCopiedOnceByWhoeverComes) {
    constexpr std::uint32_t kLongest = 64 * kChunk;
    const std::uint32_t jobs = tests::scaled(3000) + 200;
    std::vector<std::uint32_t> to(kLongest / 1024);  // a word stands for 1 KiB
    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> helped{0};
    std::thread sender([&] {
        while (!over.load()) {
            if (!seen_.look()) {
                std::this_thread::yield();
                continue;
            }
            const std::uint32_t length = seen_.target().length;
            if (length == 0 || length > kLongest) {
                continue;
            }
            for (;;) {
                const JobChunks::Run run = seen_.claim(length, kAny);
                if (run.length == 0) {
                    break;
                }
                for (std::uint32_t at = run.offset; at < run.offset + run.length; at += 1024) {
                    ++to[at / 1024];
                }
                seen_.finish();
                helped.fetch_add(run.length);
            }
        }
    });
    std::mt19937 random(7);
    // And until the sender has had its part in it, whenever it gets a processor.
    for (std::uint32_t number = 0; number < jobs || helped.load() == 0; ++number) {
        std::fill(to.begin(), to.end(), 0);
        const std::uint32_t length = (1 + random() % (kLongest / 1024)) * 1024;
        offer(length);
        const bool stops = random() % 4 == 0;
        for (std::uint32_t step = 0;; ++step) {
            if (stops && step == 1) {
                offered_.close();
            }
            const JobChunks::Run run = offered_.claim(kAny);
            if (run.length == 0) {
                break;
            }
            for (std::uint32_t at = run.offset; at < run.offset + run.length; at += 1024) {
                ++to[at / 1024];
            }
            if (random() % 8 == 0) {
                std::this_thread::yield();
            }
        }
        while (offered_.rest() == Rest::kCopying) {
            std::this_thread::yield();
        }
        ASSERT_EQ(offered_.rest(), Rest::kNone);
        for (std::uint32_t i = 0; i < to.size(); ++i) {
            ASSERT_EQ(to[i], i < length / 1024 ? 1U : 0U) << number << " " << i;
        }
        offered_.end();
    }
    over.store(true);
    sender.join();
}

}  // namespace
}  // namespace sanpoll::engine::shm

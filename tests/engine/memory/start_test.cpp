#include "engine/memory/start.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cerrno>

#include "engine/memory/arena_mapping.hpp"
#include "engine/memory/hugepages.hpp"
#include "tests/engine/lesser_kernel.hpp"

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

Config config_with(Hugepages hugepages) {
    Config config;
    config.hugepages = hugepages;
    config.arena_mb = 32;
    config.arena_limit_mb = 96;
    return config;
}

TEST(MemoryStart, TheKnobsBecomeRules) {
    Arenas arenas;
    EXPECT_EQ(begin(arenas, config_with(Hugepages::kOff)), "");
    EXPECT_EQ(arenas.rules().arena_bytes, 32 * kMiB);
    EXPECT_EQ(arenas.rules().limit_bytes, 96 * kMiB);
    EXPECT_EQ(arenas.rules().hugepages, Hugepages::kOff);
    EXPECT_EQ(arenas.rules().numa_node, -1);
    EXPECT_TRUE(arenas.rules().peers_may_write);
}

TEST(MemoryStart, WhoLetsPeersOnlyReadHasItSealed) {
    for (const ShareArenas share : {ShareArenas::kOff, ShareArenas::kRead, ShareArenas::kOn}) {
        Config config = config_with(Hugepages::kOff);
        config.share_arenas = share;
        EXPECT_EQ(rules_of(config).peers_may_write, share == ShareArenas::kOn);
    }
}

// As before Linux 5.1: fcntl(F_ADD_SEALS) knows no F_SEAL_FUTURE_WRITE.
TEST(MemoryStart, WhatPeersCannotBeKeptFromWritingIsNotSharedForReading) {
    sock_filter no_such_seal[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_ADD_SEALS, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x0010 /* F_SEAL_FUTURE_WRITE */, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const auto outcome = tests::under_lesser_kernel(no_such_seal, [] {
        bool right = true;
        for (const ShareArenas share : {ShareArenas::kOff, ShareArenas::kRead, ShareArenas::kOn}) {
            Config config = config_with(Hugepages::kOff);
            config.share_arenas = share;
            const std::string why = settle_sharing(config);
            right &= share == ShareArenas::kRead
                         ? config.share_arenas == ShareArenas::kOff &&
                               why.find("SANPOLL_SHARE_ARENAS") != std::string::npos
                         : config.share_arenas == share && why.empty();
            // There is memory all the same, and it does not change its size.
            Arenas arenas;
            Refusal refusal;
            right &= begin(arenas, config).empty() && arenas.make(true, 0, refusal) != nullptr;
            right &= right && ::fcntl(arenas.arena(0).fd, F_GET_SEALS) ==
                                  (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        }
        return right;
    });
    if (outcome == tests::LesserKernel::kHere) {
        GTEST_SKIP() << "no seccomp filter can be set here";
    }
    EXPECT_EQ(outcome, tests::LesserKernel::kTrue);
}

TEST(MemoryStart, SharingForReadingStaysWhereTheKernelHasTheSeal) {
    if (!writers_can_be_kept_out()) {
        GTEST_SKIP() << "before Linux 5.1";
    }
    Config config = config_with(Hugepages::kOff);
    config.share_arenas = ShareArenas::kRead;
    EXPECT_EQ(settle_sharing(config), "");
    EXPECT_EQ(config.share_arenas, ShareArenas::kRead);
}

TEST(MemoryStart, TheKnobsDefaultsAreTheRulesDefaults) {
    const ArenaRules rules = rules_of(Config{});
    EXPECT_EQ(rules.arena_bytes, ArenaRules{}.arena_bytes);
    EXPECT_EQ(rules.limit_bytes, ArenaRules{}.limit_bytes);
    EXPECT_EQ(rules.hugepages, ArenaRules{}.hugepages);
    EXPECT_EQ(rules.numa_node, ArenaRules{}.numa_node);
}

TEST(MemoryStart, AnArenaIsNotLargerThanTheLimit) {
    Config config = config_with(Hugepages::kOff);
    config.arena_mb = 128;
    EXPECT_EQ(rules_of(config).arena_bytes, 96 * kMiB);
}

TEST(MemoryStart, MakesNothingBeforeSomebodyAsks) {
    for (const Hugepages hugepages : {Hugepages::kAuto, Hugepages::kOff}) {
        Arenas arenas;
        EXPECT_EQ(begin(arenas, config_with(hugepages)), "");
        EXPECT_EQ(arenas.count(), 0U);
    }
}

TEST(MemoryStart, RequiredHugepagesAreThereFromTheStartOrItFails) {
    Arenas arenas;
    const std::string error = begin(arenas, config_with(Hugepages::kRequired));
    if (error.empty()) {
        ASSERT_EQ(arenas.count(), 1U);
        EXPECT_EQ(arenas.arena(0).pages, PageKind::kHuge);
        EXPECT_EQ(begin(arenas, config_with(Hugepages::kRequired)), "");
        EXPECT_EQ(arenas.count(), 1U) << "a second start finds it";
    } else {
        for (const char* const word : {"arena", "16", "vm.nr_hugepages", "SANPOLL_HUGEPAGES"}) {
            EXPECT_NE(error.find(word), std::string::npos) << error;
        }
        EXPECT_EQ(arenas.count(), 0U);
    }
}

TEST(MemoryStart, RequiredHugepagesBeyondAnyHostAreAnErrorThatNamesTheRemedy) {
    Config config = config_with(Hugepages::kRequired);
    config.arena_mb = config.arena_limit_mb = 1U << 30;
    Arenas arenas;
    const std::string error = begin(arenas, config);
    EXPECT_NE(error.find("vm.nr_hugepages"), std::string::npos) << error;
    EXPECT_EQ(arenas.count(), 0U);
}

TEST(MemoryStart, ADedicatedCoresNodeIsPreferred) {
    Config config = config_with(Hugepages::kOff);
    config.cores = {0};
    EXPECT_EQ(rules_of(config).numa_node, -1) << "inline: the threads that use it are not known";
    config.mode = Mode::kDedicated;
    EXPECT_EQ(rules_of(config).numa_node, numa_node_of(0));
    Arenas arenas;
    EXPECT_EQ(begin(arenas, config), "");
    Refusal refusal;
    const Arena* const arena = arenas.make(true, 0, refusal);
    ASSERT_NE(arena, nullptr) << "never an error: " << refusal.text;
    EXPECT_TRUE(arena->numa_node == -1 || arena->numa_node == numa_node_of(0));
}

TEST(MemoryStart, ACpuThatIsNotThereHasNoNode) { EXPECT_EQ(numa_node_of(1000000), -1); }

TEST(MemoryStart, ANodeThatIsNotThereIsNoError) {
    for (const int node : {63, 64, 1000000}) {
        Arenas arenas;
        arenas.set_rules({32 * kMiB, 32 * kMiB, Hugepages::kOff, node});
        Refusal refusal;
        const Arena* const arena = arenas.make(false, 0, refusal);
        ASSERT_NE(arena, nullptr) << refusal.text;
        *reinterpret_cast<char*>(arena->base) = 1;
    }
}

}  // namespace
}  // namespace sanpoll::engine::memory

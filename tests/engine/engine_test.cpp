#include "engine/engine.hpp"

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <string>

#include "engine/eal.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"
#include "tests/engine/core_bench.hpp"
#include "tests/engine/sanitizers.hpp"
#include "tests/engine/thread_state.hpp"

namespace sanpoll::engine {
namespace {

std::unique_ptr<Engine> start(const Config& config, std::string& error) {
    return Engine::start(config, Clock::steady(), tests::record_handlers(), error);
}

int entries_of(const char* path) {
    DIR* folder = ::opendir(path);
    int count = 0;
    while (folder != nullptr && ::readdir(folder) != nullptr) {
        ++count;
    }
    if (folder != nullptr) {
        ::closedir(folder);
    }
    return count;
}

TEST(Engine, StartsAndEndsManyTimes) {
    for (int i = 0; i < 20; ++i) {
        std::string error;
        const auto engine = start(tests::inline_config(), error);
        ASSERT_NE(engine, nullptr) << error;
        EXPECT_EQ(engine->cores().size(), 1U);
    }
}

TEST(Engine, LeavesNoThreadAndNoDescriptorBehind) {
    std::string error;
    ASSERT_NE(start(tests::inline_config(), error), nullptr);
    const int threads = entries_of("/proc/self/task");
    const int descriptors = entries_of("/proc/self/fd");
    for (int i = 0; i < 5; ++i) {
        ASSERT_NE(start(tests::inline_config(), error), nullptr);
    }
    EXPECT_EQ(entries_of("/proc/self/task"), threads);
    EXPECT_EQ(entries_of("/proc/self/fd"), descriptors);
}

TEST(Engine, MakesTheCoresThatAreAskedFor) {
    Config config = tests::inline_config();
    config.core_count = 3;
    std::string error;
    const auto engine = start(config, error);
    ASSERT_NE(engine, nullptr) << error;
    ASSERT_EQ(engine->cores().size(), 3U);
    for (std::uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(engine->cores()[i]->index(), i);
        EXPECT_FALSE(engine->cores()[i]->dedicated());
    }
}

TEST(Engine, WithOneFabricThereIsNoChoiceBeforeIt) {
    Config config = tests::inline_config();
    config.fabric = FabricKind::kShm;
    std::string error;
    const auto engine = start(config, error);
    ASSERT_NE(engine, nullptr) << error;
    EXPECT_EQ(engine->fabric().name(), "shm");
    EXPECT_EQ(engine->shm_ports()[0]->fabric(), "shm");
    EXPECT_TRUE(engine->verbs_ports().empty());
}

TEST(Engine, DevicesAloneAreRefusedWithTheRemedyWhereThereAreNone) {
    Config config = tests::inline_config();
    config.fabric = FabricKind::kVerbs;
    std::string error;
    const auto engine = start(config, error);
    if (engine != nullptr) {  // this host has some
        EXPECT_EQ(engine->fabric().name(), "verbs");
        EXPECT_EQ(engine->verbs_ports().size(), engine->cores().size());
        return;
    }
    EXPECT_NE(error.find("fabric = verbs"), std::string::npos) << error;
    EXPECT_NE(error.find("auto"), std::string::npos) << error;
}

TEST(Engine, DedicatedModeChoosesACpuThatTheProcessMayUse) {
    Config config = tests::dedicated_config();
    config.cores.clear();
    std::string error;
    const auto engine = start(config, error);
    ASSERT_NE(engine, nullptr) << error;
    ASSERT_EQ(engine->cores().size(), 1U);
    EXPECT_EQ(engine->cores()[0]->cpu(), static_cast<int>(tests::last_cpu()));
    EXPECT_EQ(engine->config().cores, std::vector<std::uint32_t>{tests::last_cpu()});
}

TEST(Engine, DedicatedModeStartsAgainInTheSameProcess) {
    for (int i = 0; i < 3; ++i) {
        std::string error;
        ASSERT_NE(start(tests::dedicated_config(), error), nullptr) << error;
    }
}

TEST(Engine, AnImpossibleCpuIsRefusedWithTheRemedy) {
    for (const std::uint32_t cpu : {1000U, 4095U}) {
        Config config = tests::dedicated_config();
        config.cores = {cpu};
        std::string error;
        EXPECT_EQ(start(config, error), nullptr);
        EXPECT_NE(error.find("SANPOLL_CORES"), std::string::npos) << error;
        EXPECT_NE(error.find(std::to_string(cpu)), std::string::npos) << error;
    }
}

TEST(Engine, TellsTheLimitsOfTheHostWhenItIsAskedToTalk) {
    Config config = tests::inline_config();
    config.log_level = "info";
    std::string error;
    testing::internal::CaptureStderr();
    const bool started = start(config, error) != nullptr;
    const std::string told = testing::internal::GetCapturedStderr();
    ASSERT_NE(start(tests::inline_config(), error), nullptr);  // the log is as quiet as before
    EXPECT_TRUE(started) << error;
    for (const char* part : {"RLIMIT_MEMLOCK: ", "RLIMIT_NOFILE: ", "vm.max_map_count: "}) {
        EXPECT_NE(told.find(part), std::string::npos) << told;
    }
}

// Whichever of its descriptors it cannot have.
TEST(Engine, NamesTheLimitOnOpenFilesWhereverItBinds) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer needs descriptors itself";
    }
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    int refused = 0;
    bool started = false;
    for (rlim_t files = 3; files < 256 && !started; ++files) {
        const rlimit few{files, before.rlim_max};
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
        std::string error;
        Config config = tests::inline_config();
        config.log_level = "off";
        started = start(config, error) != nullptr;
        ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
        if (!started) {
            ++refused;
            const std::string value = std::to_string(files) + " open files";
            for (const char* part : {value.c_str(), "RLIMIT_NOFILE", "ulimit -n"}) {
                EXPECT_NE(error.find(part), std::string::npos) << error;
            }
        }
    }
    EXPECT_TRUE(started);
    EXPECT_GT(refused, 3);
}

}  // namespace
}  // namespace sanpoll::engine

#include "engine/config.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace sanpoll::engine {
namespace {

struct KnobCase {
    std::string name;
    std::string standard;
    std::vector<std::string> allowed;
    std::vector<std::string> refused;
};

const std::vector<KnobCase>& cases() {
    static const std::vector<KnobCase> all = {
        {"mode", "inline", {"inline", "dedicated"}, {"", "Inline", "both", "0"}},
        {"profile", "balanced", {"ultra", "balanced", "eco"}, {"", "turbo", "eco "}},
        {"cores",
         "",
         {"", "0", "2,3", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "4095"},
         {"a", ",", "1,,2", "3-2", "1,1", "0-3,2", "0-16", "4096", "-1", "1-", "0-100"}},
        {"core_count", "1", {"1", "16"}, {"0", "17", "-1", "", "two", "1.5", "0x1", " 1", "1 "}},
        {"spin_us", "50", {"0", "1000000"}, {"1000001", "-1", "", "99999999999999999999"}},
        {"hugepages", "auto", {"auto", "off", "required"}, {"on", "", "1"}},
        {"eal_memory_mb", "64", {"16", "65536"}, {"15", "65537", ""}},
        {"arena_mb", "128", {"32", "96", "65536"}, {"0", "16", "33", "100", "65568", "-32", ""}},
        {"arena_limit_mb",
         "4096",
         {"32", "96", "1048576"},
         {"0", "31", "100", "1048608", "-1", ""}},
        {"lane_slots", "256", {"16", "65536"}, {"8", "17", "131072", "0", ""}},
        {"notifier_slots", "1024", {"16", "1048576"}, {"8", "1000", "2097152", "0"}},
        {"queue_depth", "4096", {"64", "100", "1048576"}, {"63", "1048577", "0"}},
        {"shm_ring_slots", "1024", {"256", "1048576"}, {"128", "300", "2097152", "0"}},
        {"shm_staging_kb", "2048", {"256", "1048576"}, {"128", "300", "2097152", "0"}},
        {"eager_max", "16384", {"512", "1000", "65536"}, {"511", "65537", "0"}},
        {"max_message", "16777216", {"65536", "1073741824"}, {"65535", "1073741825", "4294967296"}},
        {"max_rdma", "1073741824", {"1", "2147483648"}, {"0", "2147483649", "-1", ""}},
        {"rdma_threshold", "65536", {"0", "2147483648", "4096"}, {"2147483649", "-1", ""}},
        {"copy", "auto", {"auto", "staged", "direct"}, {"", "mapped", "1"}},
        {"share_arenas", "on", {"on", "read", "off"}, {"", "1", "auto"}},
        {"joint_copy", "on", {"on", "off"}, {"", "1", "auto"}},
        {"max_connections", "65536", {"64", "1048576"}, {"32", "100", "2097152", "0"}},
        {"registration_cache", "off", {"off", "on"}, {"", "auto", "1"}},
        {"registration_cache_mb", "1024", {"1", "1048576"}, {"0", "1048577"}},
        {"registration_cache_entries", "16384", {"16", "1048576"}, {"15", "1048577"}},
        {"connect_timeout_ms", "20000", {"1", "3600000"}, {"0", "3600001"}},
        {"fabric", "auto", {"auto", "shm", "verbs"}, {"", "rdma", "auto,shm", "SHM"}},
        {"log_level", "warn", {"trace", "debug", "info", "warn", "error", "off"}, {"", "all"}},
    };
    return all;
}

std::string variable_of(std::string_view knob) {
    std::string name = "SANPOLL_";
    for (const char c : knob) {
        name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return name;
}

// Each test starts and ends with no variable of ours set.
class ConfigTest : public testing::Test {
protected:
    void SetUp() override {
        ::unsetenv("SANPOLL_CONFIG");
        for (const Knob& knob : knobs()) {
            ::unsetenv(variable_of(knob.name).c_str());
        }
    }
    void TearDown() override {
        SetUp();
        if (!path_.empty()) {
            ::unlink(path_.c_str());
        }
    }

    void write_file(const std::string& text) {
        path_ = testing::TempDir() + "sanpoll-config-" + std::to_string(::getpid()) + ".toml";
        std::ofstream(path_) << text;
        ::setenv("SANPOLL_CONFIG", path_.c_str(), 1);
    }

    std::string path_;
};

bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

TEST_F(ConfigTest, EveryKnobIsInThisTest) {
    std::vector<std::string> here;
    for (const KnobCase& one : cases()) {
        here.push_back(one.name);
    }
    std::vector<std::string> there;
    for (const Knob& knob : knobs()) {
        there.emplace_back(knob.name);
        EXPECT_FALSE(knob.allowed.empty()) << knob.name;
        EXPECT_FALSE(knob.description.empty()) << knob.name;
    }
    std::sort(here.begin(), here.end());
    std::sort(there.begin(), there.end());
    EXPECT_EQ(here, there);
}

TEST_F(ConfigTest, DefaultsAreAsDocumented) {
    Config config;
    ASSERT_EQ(load_config(config), "");
    for (const KnobCase& one : cases()) {
        EXPECT_EQ(knob_value(config, one.name), one.standard) << one.name;
    }
}

TEST_F(ConfigTest, AllowedValuesAreTakenAndReadBack) {
    for (const KnobCase& one : cases()) {
        for (const std::string& value : one.allowed) {
            Config config;
            EXPECT_EQ(set_knob(config, one.name, value), "") << one.name << '=' << value;
            EXPECT_EQ(knob_value(config, one.name), value) << one.name;
        }
    }
}

TEST_F(ConfigTest, RefusedValuesAreNamedWithTheirRangeAndChangeNothing) {
    for (const KnobCase& one : cases()) {
        const auto knob = std::find_if(knobs().begin(), knobs().end(),
                                       [&](const Knob& k) { return k.name == one.name; });
        ASSERT_NE(knob, knobs().end());
        for (const std::string& value : one.refused) {
            Config config;
            const std::string error = set_knob(config, one.name, value);
            EXPECT_TRUE(contains(error, one.name)) << one.name << '=' << value << ": " << error;
            EXPECT_TRUE(contains(error, "'" + value + "'")) << error;
            EXPECT_TRUE(contains(error, knob->allowed)) << error;
            EXPECT_EQ(knob_value(config, one.name), one.standard);
        }
    }
}

TEST_F(ConfigTest, ARangeOfCoresIsSpelledOut) {
    Config config;
    ASSERT_EQ(set_knob(config, "cores", "2-4,7"), "");
    EXPECT_EQ(config.cores, (std::vector<std::uint32_t>{2, 3, 4, 7}));
}

TEST_F(ConfigTest, AnUnknownKnobIsAnsweredWithTheListOfKnobs) {
    Config config;
    const std::string error = set_knob(config, "speed", "9");
    EXPECT_TRUE(contains(error, "'speed'")) << error;
    for (const KnobCase& one : cases()) {
        EXPECT_TRUE(contains(error, one.name)) << one.name;
    }
    EXPECT_EQ(knob_value(config, "speed"), "");
}

TEST_F(ConfigTest, TheEnvironmentSetsEveryKnob) {
    for (const KnobCase& one : cases()) {
        SetUp();
        ::setenv(variable_of(one.name).c_str(), one.allowed.back().c_str(), 1);
        Config config;
        EXPECT_EQ(load_config(config), "") << one.name;
        EXPECT_EQ(knob_value(config, one.name), one.allowed.back());
    }
}

TEST_F(ConfigTest, AWrongVariableIsNamed) {
    for (const KnobCase& one : cases()) {
        SetUp();
        ::setenv(variable_of(one.name).c_str(), one.refused.front().c_str(), 1);
        Config config;
        const std::string error = load_config(config);
        EXPECT_TRUE(contains(error, variable_of(one.name))) << one.name << ": " << error;
    }
}

TEST_F(ConfigTest, OtherVariablesAreNotOurs) {
    ::setenv("SANPOLL_LIBRARY", "somewhere", 1);
    Config config;
    EXPECT_EQ(load_config(config), "");
}

TEST_F(ConfigTest, AFileSetsWordsNumbersAndLists) {
    write_file("mode = \"dedicated\"\nspin_us = 7\ncores = [1, 3]\nlog_level = 'off'\n");
    Config config;
    ASSERT_EQ(load_config(config), "");
    EXPECT_EQ(config.mode, Mode::kDedicated);
    EXPECT_EQ(config.spin_us, 7U);
    EXPECT_EQ(config.cores, (std::vector<std::uint32_t>{1, 3}));
    EXPECT_EQ(config.log_level, "off");
}

TEST_F(ConfigTest, TheEnvironmentOverrulesTheFile) {
    write_file("spin_us = 7\ncore_count = 2\n");
    ::setenv("SANPOLL_SPIN_US", "8", 1);
    Config config;
    ASSERT_EQ(load_config(config), "");
    EXPECT_EQ(config.spin_us, 8U);
    EXPECT_EQ(config.core_count, 2U);
}

TEST_F(ConfigTest, AnEmptyNameMeansNoFile) {
    ::setenv("SANPOLL_CONFIG", "", 1);
    Config config;
    EXPECT_EQ(load_config(config), "");
}

TEST_F(ConfigTest, AMissingFileIsNamed) {
    ::setenv("SANPOLL_CONFIG", "/no/such/file.toml", 1);
    Config config;
    EXPECT_TRUE(contains(load_config(config), "/no/such/file.toml"));
}

TEST_F(ConfigTest, ASyntaxErrorIsFoundInItsLine) {
    write_file("spin_us = 7\ncore_count = = 2\n");
    Config config;
    const std::string error = load_config(config);
    EXPECT_TRUE(contains(error, path_)) << error;
    EXPECT_TRUE(contains(error, "line 2")) << error;
}

TEST_F(ConfigTest, AWrongValueInAFileNamesFileKnobAndRange) {
    for (const char* text : {"spin_us = -1", "spin_us = \"much\"", "spin_us = 1.5",
                             "spin_us = true", "[spin_us]\nx = 1", "spin_us = [1, 2]"}) {
        write_file(text);
        Config config;
        const std::string error = load_config(config);
        EXPECT_TRUE(contains(error, path_)) << text << ": " << error;
        EXPECT_TRUE(contains(error, "spin_us")) << error;
        EXPECT_TRUE(contains(error, "0 to 1000000")) << error;
    }
}

TEST_F(ConfigTest, AnUnknownKnobInAFileIsRefused) {
    write_file("spin = 3\n");
    Config config;
    const std::string error = load_config(config);
    EXPECT_TRUE(contains(error, path_)) << error;
    EXPECT_TRUE(contains(error, "'spin'")) << error;
}

TEST_F(ConfigTest, EagerMessagesMustFitTheStagingAreaFourTimes) {
    Config config;
    config.shm_staging_kb = 256;
    config.eager_max = 65536;
    EXPECT_EQ(load_config(config), "");
    config.eager_max = 65537;
    const std::string error = load_config(config);
    EXPECT_TRUE(contains(error, "eager_max")) << error;
    EXPECT_TRUE(contains(error, "shm_staging_kb")) << error;
}

TEST_F(ConfigTest, WhatIsNotLongerThanTheRdmaThresholdMustFitAMessage) {
    Config config;
    config.max_message = 65536;
    config.rdma_threshold = 65536;
    EXPECT_EQ(load_config(config), "");
    config.rdma_threshold = 65537;
    const std::string error = load_config(config);
    EXPECT_TRUE(contains(error, "rdma_threshold")) << error;
    EXPECT_TRUE(contains(error, "max_message")) << error;
}

}  // namespace
}  // namespace sanpoll::engine

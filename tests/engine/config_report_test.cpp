#include "engine/config_report.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/engine/fake_host.hpp"

namespace sanpoll::engine {
namespace {

Config unusual() {
    Config config;
    EXPECT_EQ(set_knob(config, "cores", "2,3"), "");
    EXPECT_EQ(set_knob(config, "profile", "eco"), "");
    EXPECT_EQ(set_knob(config, "queue_depth", "100"), "");
    return config;
}

TEST(ConfigReport, HasEveryKnobWithItsValueAndWhatIsAllowed) {
    const std::string text = config_report(unusual(), {}, {});
    for (const Knob& knob : knobs()) {
        const std::string line =
            "\n" + std::string(knob.name) + " = \"" + knob_value(unusual(), knob.name) + "\"\n";
        EXPECT_NE(text.find(line), std::string::npos) << knob.name << "\n" << text;
        EXPECT_NE(text.find(knob.allowed), std::string::npos) << knob.name;
        EXPECT_NE(text.find(knob.description), std::string::npos) << knob.name;
    }
    EXPECT_NE(text.find("default: \"balanced\""), std::string::npos) << text;
    EXPECT_EQ(text.find("default: \"inline\""), std::string::npos) << text;
}

TEST(ConfigReport, IsAConfigurationFileThatSetsTheSame) {
    std::string path = testing::TempDir() + "sanpoll-report-XXXXXX";
    const int fd = ::mkstemp(path.data());
    ASSERT_GE(fd, 0);
    ::close(fd);
    std::ofstream(path) << config_report(unusual(), read_host_limits(), {{"rxe0", "a few things"}});
    Config config;
    ASSERT_EQ(::setenv("SANPOLL_CONFIG", path.c_str(), 1), 0);
    const std::string error = load_config(config);
    ::unsetenv("SANPOLL_CONFIG");
    ::unlink(path.c_str());
    ASSERT_EQ(error, "");
    for (const Knob& knob : knobs()) {
        EXPECT_EQ(knob_value(config, knob.name), knob_value(unusual(), knob.name)) << knob.name;
    }
}

TEST(ConfigReport, HasTheLimitsAndTheDevices) {
    tests::FakeHost host;
    host.resources[RLIMIT_NOFILE] = {20, 20};
    host.files["/proc/sys/vm/max_map_count"] = "65530\n";
    const std::string text =
        config_report({}, read_host_limits(host), {{"rxe0", "7 queue pairs (max_qp)"}});
    for (const char* part :
         {"# RLIMIT_NOFILE: 20\n", "# vm.max_map_count: 65530\n",
          "# too low: this process may have 20 open files", "# rxe0: 7 queue pairs (max_qp)\n"}) {
        EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
    }
    EXPECT_NE(config_report({}, {}, {}).find("# RDMA devices\n# none\n"), std::string::npos);
}

}  // namespace
}  // namespace sanpoll::engine

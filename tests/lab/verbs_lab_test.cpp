// The provider over RDMA devices, in machines of scripts/rdma-lab, on Soft-RoCE and on Soft-iWARP. What happens
// inside is in the scripts beside this file. Nothing here is about how fast anything is.
#include <gtest/gtest.h>

#include "tests/scripts/rdma_lab.hpp"

namespace sanpoll::lab {
namespace {

using scripts::test::Arguments;
using scripts::test::Lab;

constexpr std::chrono::seconds kPatience{800};

class VerbsLab : public testing::TestWithParam<const char*> {
protected:
    void TearDown() override {
        const auto remains = lab_.remains();
        EXPECT_TRUE(remains.empty()) << remains.front();
    }

    /// A script of this folder, with DEVICE and `settings` before it.
    [[nodiscard]] static std::string script(const std::string& name,
                                            const std::string& settings = "") {
        return "DEVICE=" + std::string(GetParam()) + " " + settings +
               " " SANPOLL_SOURCE_DIR "/tests/lab/" + name;
    }
    [[nodiscard]] bench::test::ProgramResult run(Arguments more) const {
        Arguments all{"--device", GetParam(), "--time-limit", "700"};
        all.insert(all.end(), more.begin(), more.end());
        return lab_.start(all, {{"SANPOLL_ADVERSARIAL_STEPS", "3000"}}).wait(kPatience);
    }
    /// That `part` was printed, with the device in the same line.
    static void expect_line(const std::string& text, const std::string& part) {
        const std::size_t at = text.find(part);
        ASSERT_NE(at, std::string::npos) << part << "\n" << text;
        const std::string line = text.substr(at, text.find('\n', at) - at);
        EXPECT_NE(line.find("verbs " + std::string(GetParam()) + "0"), std::string::npos) << line;
    }
    static void expect_step(const std::string& text, const std::string& step) {
        const std::string line = "b| " + std::string(GetParam()) + "0  " + step;
        EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
    }

    const Lab lab_;
};

TEST_P(VerbsLab, TheSuitesPassAndManyConnectionsLeaveNothing) {
    const auto result = run({"--cpus", "2", "--memory", "2048", "sh", script("alone")});
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    EXPECT_EQ(result.out.find("FAILED"), std::string::npos) << result.out;
    if (GetParam() == std::string_view("rxe")) {
        EXPECT_NE(result.out.find("connections: "), std::string::npos) << result.out;
    }
}

TEST_P(VerbsLab, TwoMachinesMeetWhateverHappensToCableAndDevice) {
    const auto result = run({"pair", script("traffic-a"), script("traffic-b")});
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    for (const char* step : {"sanpoll-ping", "300 messages", "RDMA", "cable cut for 2 s",
                             "1 % of the packets lost", "device removed", "device added again"}) {
        expect_step(result.out, step);
    }
    EXPECT_EQ(result.out.find("FAILED"), std::string::npos) << result.out;
    expect_line(result.out, "a| served 300 messages over ");
}

TEST_P(VerbsLab, APeerWhosePowerFailsEndsItsConnections) {
    const auto result = run({"pair", script("ends-a", "HOW=power"), script("ends-b", "HOW=power")});
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    expect_line(result.out, "b| broken: after 0 messages over ");
}

TEST_P(VerbsLab, ACableThatIsCutForGoodEndsConnectionsAtBothEnds) {
    const auto result = run({"pair", script("ends-a", "HOW=cut"), script("ends-b", "HOW=cut")});
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    expect_line(result.out, "a| served 0 messages over ");
    expect_line(result.out, "b| broken: after 0 messages over ");
}

INSTANTIATE_TEST_SUITE_P(Each, VerbsLab, testing::Values("rxe", "siw"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::lab

// The provider over RDMA devices, in machines of scripts/rdma-lab, on Soft-RoCE and on Soft-iWARP. What happens
// inside is in the scripts beside this file. Nothing here is about how fast anything is.
#include <gtest/gtest.h>

#include <iostream>
#include <string_view>

#include "tests/scripts/rdma_lab.hpp"

namespace sanpoll::lab {
namespace {

using scripts::test::Arguments;
using scripts::test::Lab;

// For a machine alone, or a pair, from its start on: several times what it takes on a machine with two processors and
// nothing else to do. The scripts have limits of their own, which say more.
constexpr int kAlone = 900;
constexpr int kPair = 700;

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
    [[nodiscard]] bench::test::ProgramResult run(int time_limit, Arguments more) const {
        Arguments all{"--device", GetParam(), "--time-limit", std::to_string(time_limit)};
        all.insert(all.end(), more.begin(), more.end());
        auto result = lab_.start(all, {{"SANPOLL_ADVERSARIAL_STEPS", "3000"}})
                          .wait(std::chrono::seconds(time_limit + 60));
        // ctest takes a test for skipped that prints this, whatever else it prints: gtest's word of a test inside the
        // machine would hide that others have failed there.
        for (std::string* text : {&result.out, &result.err}) {
            const std::string_view word = "[  SKIPPED ]";
            for (std::size_t at = 0; (at = text->find(word, at)) != std::string::npos;) {
                text->replace(at, word.size(), "[  skipped ]");
            }
        }
        EXPECT_TRUE(result.ended) << "it took too long";
        EXPECT_EQ(result.status, 0) << result.out << result.err;
        EXPECT_EQ(result.out.find("FAILED"), std::string::npos) << result.out;
        return result;
    }
    /// A piece of what runs in one machine.
    [[nodiscard]] std::string run_alone(const std::string& piece) const {
        return run(kAlone,
                   {"--cpus", "2", "--memory", "2048", "sh", script("alone", "PIECE=" + piece)})
            .out;
    }
    [[nodiscard]] std::string run_pair(const std::string& name,
                                       const std::string& settings = "") const {
        return run(kPair, {"pair", script(name + "-a", settings), script(name + "-b", settings)})
            .out;
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

TEST_P(VerbsLab, ConformsAsEveryFabric) {
    const std::string out = run_alone("conformance");
    EXPECT_NE(out.find("[  PASSED  ]"), std::string::npos) << out;
}

TEST_P(VerbsLab, AnAdversarialSwitchFindsNothing) {
    const std::string out = run_alone("adversarial");
    EXPECT_NE(out.find("[  PASSED  ]"), std::string::npos) << out;
}

TEST_P(VerbsLab, ManyConnectionsLeaveNothing) {
    if (GetParam() == std::string_view("siw")) {
        // 1,000 in a row leave nothing there either. The cause is open.
        GTEST_SKIP() << "Soft-iWARP lets connects time out when hundreds of connections are open";
    }
    const std::string out = run_alone("connections");
    std::cout << out;
    EXPECT_NE(out.find(" at once, "), std::string::npos) << out;
}

TEST_P(VerbsLab, SeveralDevicesCarryConnectionsAtOnceAndOneMayGo) {
    const std::string out = run_alone("devices");
    const std::string own = GetParam();
    expect_line(out, "devices: ");
    EXPECT_NE(out.find("; over verbs " + std::string(own == "rxe" ? "siw1" : "rxe1") + " until"),
              std::string::npos)
        << out;
}

TEST_P(VerbsLab, KeptRegistrationsReachNoStalePages) {
    const std::string out = run_alone("registrations");
    std::cout << out;
    EXPECT_NE(out.find("[  PASSED  ]"), std::string::npos) << out;
    EXPECT_EQ(out.find("[  SKIPPED ]"), std::string::npos) << out;
    EXPECT_NE(out.find("with the cache, 10000 kept"), std::string::npos) << out;
}

TEST_P(VerbsLab, WhoPostsAndPollsEntersTheKernelForDoorbellsOnly) {
    const std::string out = run_alone("system-calls");
    EXPECT_NE(out.find("and the polling core, but "), std::string::npos) << out;
}

TEST_P(VerbsLab, TwoMachinesMeetWhateverHappensToCableAndDevice) {
    const std::string out = run_pair("traffic");
    for (const char* step :
         {"sanpoll-ping", "300 messages", "RDMA", "cable cut for 2 s", "1 % of the packets lost",
          "device removed", "device added again", "dedicated cores"}) {
        expect_step(out, step);
    }
    expect_line(out, "a| served 300 messages over ");
    EXPECT_NE(
        out.find("a| served 300 messages over verbs " + std::string(GetParam()) + "0, dedicated"),
        std::string::npos)
        << out;
}

TEST_P(VerbsLab, APeerWhosePowerFailsEndsItsConnections) {
    expect_line(run_pair("ends", "HOW=power"), "b| broken: after 0 messages over ");
}

TEST_P(VerbsLab, ACableThatIsCutForGoodEndsConnectionsAtBothEnds) {
    const std::string out = run_pair("ends", "HOW=cut");
    expect_line(out, "a| served 0 messages over ");
    expect_line(out, "b| broken: after 0 messages over ");
}

INSTANTIATE_TEST_SUITE_P(Each, VerbsLab, testing::Values("rxe", "siw"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::lab

// Machines of scripts/rdma-lab: what comes out of them, and that nothing of them stays.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/scripts/rdma_lab.hpp"

namespace sanpoll::scripts {
namespace {

using test::Arguments;

class RdmaLabMachine : public testing::Test {
protected:
    void TearDown() override {
        const auto remains = lab_.remains();
        EXPECT_TRUE(remains.empty()) << remains.front();
    }

    static void expect_text(const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), std::string::npos) << text;
    }

    const test::Lab lab_;
};

TEST_F(RdmaLabMachine, OutputAndExitStatusComeBack) {
    const auto result = lab_.run(
        {"--device", "siw", "--env", "LAB_TEST", "run", "sh", "-c",
         "rdma link | cut -d ' ' -f 2; pwd; echo \"$LAB_TEST  $SANPOLL_X\"; echo no >&2; exit 7"},
        {{"LAB_TEST", "two  blanks"}, {"SANPOLL_X", "y"}});
    EXPECT_EQ(result.status, 7) << result.err;
    const std::string here = std::filesystem::current_path();
    EXPECT_EQ(result.out, "siw0/1\n" + here + "\ntwo  blanks  y\n");
    expect_text(result.err, "\nno\n");
    // It says what it runs on.
    expect_text(result.err, "siw, Linux ");
    EXPECT_NE(result.err.find("hardware KVM"), std::string::npos) << result.err;
}

TEST_F(RdmaLabMachine, LongOutputIsWhole) {
    const auto result = lab_.run({"--device", "none", "sh", "seq 100000"});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(bench::test::lines_of(result.out), 100000U);
    EXPECT_TRUE(result.out.ends_with("\n100000\n"));
}

TEST_F(RdmaLabMachine, TheFirstFailureOfAPairIsItsStatus) {
    const auto result =
        lab_.run({"--device", "none", "pair", "echo $LAB_ADDRESS; lab_flag go; exit 0",
                  "lab_await go; echo $LAB_ADDRESS; exit 9"});
    EXPECT_EQ(result.status, 9) << result.err;
    expect_text(result.out, "a| 10.77.0.1\n");
    expect_text(result.out, "b| 10.77.0.2\n");
}

TEST_F(RdmaLabMachine, WhoWaitsForAMachineWhosePowerFailedIsTold) {
    const auto result = lab_.run({"--device", "none", "pair", "lab_await ready; lab_power_off 3",
                                  "lab_flag ready; lab_await never 300 || exit 4"});
    EXPECT_EQ(result.status, 3) << result.err;
    expect_text(result.err, "machine a did not raise the flag 'never'");
}

TEST_F(RdmaLabMachine, TheTimeLimitEndsItWithStatus124) {
    const auto result =
        lab_.run({"--device", "none", "--time-limit", "3", "sh", "while :; do sleep 1; done"});
    EXPECT_EQ(result.status, 124) << result.err;
    expect_text(result.err, "time limit of 3 s");
}

TEST_F(RdmaLabMachine, AKernelThatPanicsEndsItWithStatus125AndItsConsole) {
    const auto result = lab_.run({"--device", "none", "sh", "echo c >/proc/sysrq-trigger"});
    EXPECT_EQ(result.status, 125) << result.err;
    expect_text(result.err, "ended without a result");
    expect_text(result.err, "Kernel panic");
}

TEST_F(RdmaLabMachine, AnInterruptLeavesNothingBehind) {
    const test::TemporaryFolder kept;
    auto caller = lab_.start({"--device", "none", "--keep", kept.path(), "sh",
                              "touch /lab/here; while :; do sleep 1; done"});
    ASSERT_TRUE(test::eventually([&] { return exists(kept.path() / "share/here"); }));
    kill(caller.pid(), SIGINT);
    const auto result = caller.wait();
    EXPECT_EQ(result.status, 128 + SIGINT) << result.err;
}

TEST_F(RdmaLabMachine, ItsProcessesDoNotOutliveTheScript) {
    auto caller = lab_.start({"--device", "none", "sh", "while :; do sleep 1; done"});
    ASSERT_TRUE(test::eventually([&] { return lab_.remains().size() > 1; }));
    kill(caller.pid(), SIGKILL);
    caller.wait();
    // Nobody was left who could have removed the folder; the processes are gone.
    EXPECT_TRUE(test::eventually([&] { return lab_.remains().size() == 1; }));
    for (const auto& name : test::names_in(lab_.temporary()))
        remove_all(lab_.temporary() / name);
}

TEST_F(RdmaLabMachine, KeepsWhatIsToBeKept) {
    const test::TemporaryFolder kept;
    const auto result = lab_.run({"--device", "none", "--keep", kept.path(), "sh",
                                  "echo said; echo written >/lab/file; echo x >/tmp/gone"});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(test::content_of(kept.path() / "out-alone"), "said\n");
    EXPECT_EQ(test::content_of(kept.path() / "share/file"), "written\n");
    expect_text(test::content_of(kept.path() / "share/kernel-alone"), "Linux version");
}

TEST_F(RdmaLabMachine, WorksForAnOrdinaryUser) {
    if (geteuid() != 0) GTEST_SKIP() << "every other test does it";
    std::filesystem::permissions(lab_.temporary(), std::filesystem::perms::all);
    const Arguments as_nobody{"--reuid=65534", "--regid=65534", "--clear-groups", "env",
                              "TMPDIR=" + lab_.temporary().string()};
    const auto with = [&](Arguments more) {
        more.insert(more.begin(), as_nobody.begin(), as_nobody.end());
        return test::RunningProgram("/usr/bin/setpriv", more).wait(std::chrono::seconds(1000));
    };
    if (with({"test", "-r", test::script("rdma-lab")}).status != 0) {
        GTEST_SKIP() << "this folder is shut to ordinary users";
    }
    ASSERT_EQ(lab_.run({"prepare"}).status, 0);
    const auto result = with({test::script("rdma-lab"), "run", "rdma", "link"});
    EXPECT_EQ(result.status, 0) << result.err;
    expect_text(result.out, "rxe0/1 state ACTIVE");
}

TEST_F(RdmaLabMachine, DemonstratesBothDevices) {
    // Its figures mean nothing on a host with other work: once, and in short, is enough.
    const auto result =
        lab_.run({"demo", "--time-limit", "250", "--env", "LAB_ROUNDS", "--env", "LAB_EXCHANGES"},
                 {{"LAB_ROUNDS", "1"}, {"LAB_EXCHANGES", "1000"}});
    EXPECT_EQ(result.status, 0) << result.out << result.err;
    for (const std::string device : {"rxe0", "siw0"}) {
        expect_text(result.out, device + "  rping, 50 rounds");
        expect_text(result.out, device + "  device removed under rping");
        expect_text(result.out, "b| " + device + "  cable cut for 2 s under rping");
        expect_text(result.out, "b| " + device + (device == "rxe0" ? "  ib_send_lat" : "  rping") +
                                    ", 5 % of the packets lost");
    }
    EXPECT_EQ(result.out.find("FAILED"), std::string::npos) << result.out;
    expect_text(result.err, "all steps succeeded");
}

}  // namespace
}  // namespace sanpoll::scripts

"""scripts/bench as its user calls it, with programs that only pretend; and what its parts would run."""
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

import fixtures
import machine
import parts
import program
from program import Command

BENCH = os.path.join(fixtures.ROOT, "scripts", "bench")


def bench(*arguments):
    return subprocess.run([BENCH, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150,
                          check=False)


class Folder(unittest.TestCase):
    """Tests with a folder of programs and one for results."""

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.programs = os.path.join(self._folder.name, "bin")
        self.output = os.path.join(self._folder.name, "out")
        os.mkdir(self.programs)

    def program(self, name, text):
        path = os.path.join(self.programs, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def program_with(self, name, result):
        """One that writes this into the file after --json."""
        self.program(name, 'while [ "$1" != --json ]; do shift; done\ncat >"$2" <<\'END\'\n' + json.dumps(result) + "\nEND\n")

    def measure(self, *arguments):
        return bench("--quick", "--no-setup", "--programs", self.programs, "--output", self.output, *arguments)

    def run_json(self):
        with open(os.path.join(self.output, "bench.json"), encoding="utf-8") as file:
            return json.load(file)


class CommandLine(unittest.TestCase):
    def refused(self, *arguments):
        done = bench(*arguments)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        return done.stderr

    def test_an_unknown_part_is_refused_in_one_line_that_names_the_parts(self):
        said = self.refused("--only", "nothing")
        self.assertIn("unknown part 'nothing'", said)
        self.assertIn(", ".join(parts.NAMES), said)

    def test_other_wrong_options_are_refused_likewise(self):
        self.assertIn("'0' is not a number from 1 to 1000", self.refused("--rounds", "0"))
        self.assertIn("--fast", self.refused("--fast"))

    def test_the_list_has_every_part_and_measures_nothing(self):
        done = bench("--list")
        self.assertEqual(done.returncode, 0)
        self.assertEqual([line.split()[0] for line in done.stdout.splitlines()], list(parts.NAMES))

    def test_a_folder_that_cannot_be_made_is_told_before_measuring(self):
        done = bench("--no-setup", "--programs", "/nonexistent", "--output", "/proc/nothing")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1))
        self.assertIn("/proc/nothing", done.stderr)


class Plans(unittest.TestCase):
    def estimate(self, plan):
        return sum(command.seconds for part in parts.ALL for command in part.commands(plan))

    def test_quick_is_meant_to_stay_below_five_minutes_and_full_below_half_an_hour(self):
        self.assertLess(self.estimate(parts.Plan(quick=True)), 5 * 60)
        self.assertLess(self.estimate(parts.Plan()), 30 * 60)

    def test_quick_asks_for_less(self):
        for part in parts.ALL:
            quick, full = part.commands(parts.Plan(quick=True)), part.commands(parts.Plan())
            self.assertEqual([one.name for one in quick], [one.name for one in full], part.NAME)
            self.assertNotEqual([one.argv for one in quick], [one.argv for one in full], part.NAME)

    def test_rounds_are_handed_on(self):
        for name in ("rings", "messages", "rdma", "scale", "connect", "tail"):
            for command in parts.named(name).commands(parts.Plan(rounds=13)):
                self.assertIn("--rounds 13", " ".join(command.argv), name)

    def test_every_program_is_told_where_json_goes(self):
        for part in parts.ALL:
            for command in part.commands(parts.Plan()):
                self.assertIn(program.JSON, " ".join(command.argv), f"{part.NAME}: {command.name}")


class WholeRun(Folder):
    def test_writes_figures_verdicts_report_and_plots(self):
        self.program_with("peer_bench", fixtures.RESULTS["messages"]["peers"])
        self.program_with("sanpoll-ping", fixtures.RESULTS["messages"]["dedicated"])
        done = self.measure("--only", "messages")
        self.assertEqual(done.returncode, 0, done.stderr)
        run = self.run_json()
        self.assertEqual([part["name"] for part in run["parts"]], ["messages"])
        self.assertEqual(run["parts"][0]["commands"][0]["result"], fixtures.RESULTS["messages"]["peers"])
        met = {entry["met"] for entry in run["targets"] if entry["part"] == "messages"}
        self.assertEqual(met, {True})
        for key in ("name", "value", "target", "met"):
            self.assertIn(key, run["targets"][0])
        self.assertIn("cpu", run["machine"])
        with open(os.path.join(self.output, "report.md"), encoding="utf-8") as file:
            report = file.read()
        drawn = [name for name in os.listdir(self.output) if name.endswith(".svg")]
        self.assertTrue(drawn or "matplotlib is not installed" in report)
        for name in drawn:
            self.assertIn(f"({name})", report)
        self.assertIn("1/1 messages: peers: done", done.stderr)
        self.assertIn(os.path.join(self.output, "report.md"), done.stdout)

    def test_a_program_that_fails_and_one_that_lacks_are_told_and_the_rest_runs(self):
        self.program("scale_bench", "echo scale_bench: no way >&2; exit 3\n")
        self.program_with("tail_bench", fixtures.RESULTS["tail"]["tail"])
        done = self.measure("--only", "scale", "--only", "connect", "--only", "tail")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not run: scale, scale: it ended with status 3: scale_bench: no way", done.stdout)
        self.assertIn("not run: connect, connect: the program connect_bench is not there", done.stdout)
        entries = {entry["part"]: entry for entry in self.run_json()["targets"]}
        self.assertIs(entries["tail"]["met"], True)
        self.assertIsNone(entries["scale"]["met"])
        self.assertIn("scale was not run: it ended with status 3", entries["scale"]["why_not_measured"])

    def test_a_missed_target_is_no_failure(self):
        result = json.loads(json.dumps(fixtures.RESULTS["calls"]["calls"]))
        result["calls"][0]["instructions"] = 1000
        self.program_with("call_cost", result)
        done = self.measure("--only", "calls")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("missed: instructions of one 64 B send", done.stdout)

    def test_output_that_is_no_json_is_a_failure(self):
        self.program("tail_bench", 'while [ "$1" != --json ]; do shift; done\necho "{" >"$2"\n')
        done = self.measure("--only", "tail")
        self.assertEqual(done.returncode, 1)
        self.assertIn("its JSON cannot be read", done.stdout)

    def test_the_report_can_be_made_again(self):
        self.program_with("tail_bench", fixtures.RESULTS["tail"]["tail"])
        self.measure("--only", "tail")
        os.remove(os.path.join(self.output, "report.md"))
        self.assertEqual(bench("--report", self.output).returncode, 0)
        self.assertTrue(os.path.exists(os.path.join(self.output, "report.md")))
        done = bench("--report", "/nonexistent")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1))


    def test_what_was_measured_before_an_interruption_is_kept(self):
        self.program_with("scale_bench", fixtures.RESULTS["scale"]["scale"])
        started = os.path.join(self._folder.name, "pid")
        self.program("connect_bench", f"echo $$ >{started}.new; mv {started}.new {started}; exec sleep 1000\n")
        running = subprocess.Popen(
            [BENCH, "--quick", "--no-setup", "--programs", self.programs, "--output", self.output, "--only", "scale",
             "--only", "connect", "--only", "tail"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background jobs ignore it
        while not os.path.exists(started) and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=150)
        self.assertEqual(running.returncode, 1, err)
        self.assertIn("not run: connect, connect: the user interrupted it", out)
        run = self.run_json()
        self.assertIs(run["interrupted"], True)
        self.assertEqual([part["commands"][0]["why_not"] for part in run["parts"]],
                         [None, "the user interrupted it", "the user had interrupted the suite"])
        self.assertNotIn("tail", run["not_asked_for"])
        self.assertEqual(run["arguments"][0], "--quick")
        with open(started, encoding="utf-8") as file, self.assertRaises(ProcessLookupError):
            os.kill(int(file.read()), 0)


class Preparation(Folder):
    """In a tree of its own, whose setup and build only pretend."""

    def tree(self, setup, build):
        root = os.path.join(self._folder.name, "tree")
        shutil.copytree(os.path.join(fixtures.ROOT, "scripts", "bench.d"), os.path.join(root, "scripts", "bench.d"))
        shutil.copy(BENCH, os.path.join(root, "scripts", "bench"))
        self.programs = os.path.join(root, "scripts")
        self.program("setup", setup)
        self.program("build", build)
        self.programs = os.path.join(root, "build", "release", "bin")
        os.makedirs(self.programs)
        self.program_with("tail_bench", fixtures.RESULTS["tail"]["tail"])
        return subprocess.run([os.path.join(root, "scripts", "bench"), "--quick", "--only", "tail", "--output", self.output],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150, check=False)

    def test_installs_peers_and_builds_the_release(self):
        done = self.tree("echo setup $* >&2\n", "echo build $* >&2\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("setup --peers\nbuild release\n", done.stderr)

    def test_does_without_peers_that_cannot_be_installed(self):
        done = self.tree('[ $# = 0 ]\n', "exit 0\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("peers cannot be installed", done.stderr)

    def test_ends_where_nothing_can_be_built(self):
        self.assertEqual(self.tree("exit 1\n", "exit 0\n").returncode, 1)
        shutil.rmtree(os.path.join(self._folder.name, "tree"))
        self.assertEqual(self.tree("exit 0\n", "exit 1\n").returncode, 1)
        self.assertFalse(os.path.exists(os.path.join(self.output, "bench.json")))


class Programs(Folder):
    def test_that_take_too_long_are_killed_with_what_they_started(self):
        self.program("slow", "sleep 1000 & echo $! >\"$1\"\nwait\n")
        started = os.path.join(self._folder.name, "pid")
        kept = program.SHORTEST_LIMIT
        program.SHORTEST_LIMIT = 0
        self.addCleanup(setattr, program, "SHORTEST_LIMIT", kept)

        def wait(_process):  # the limit is short: let the child begin first
            while not os.path.exists(started) or os.path.getsize(started) == 0:
                time.sleep(0.01)
        outcome = program.run(Command("slow", ["slow", started], 0.01), self.programs, wait)
        self.assertIn("time limit", outcome.why)
        with open(started, encoding="utf-8") as file:
            child = int(file.read())
        for _ in range(6000):  # whoever adopts it may take a moment to bury it
            try:
                with open(f"/proc/{child}/stat", encoding="utf-8") as file:
                    if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                        return
            except OSError:
                return
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        self.fail("the child of a killed program is still there")

    def test_that_end_by_a_signal_are_named_with_it(self):
        self.program("crash", "kill -SEGV $$\n")
        self.assertIn("SIGSEGV", program.run(Command("crash", ["crash"], 1), self.programs).why)

    def test_see_the_commands_environment_which_the_report_shows(self):
        self.program("env", 'printf \'{"value": "%s"}\' "$COLOUR" >"$1"\n')
        outcome = program.run(Command("env", ["env", program.JSON], 1, {"COLOUR": "deep red"}), self.programs)
        self.assertEqual(outcome.result, {"value": "deep red"})
        self.assertEqual(outcome.shown, "COLOUR='deep red' env FILE")

    def test_of_google_benchmark_give_medians_and_rounds(self):
        import parts.memory
        given = {"context": {"executable": "./bin/memory_bench"}, "benchmarks": [
            {"name": "a/1", "run_name": "a/1", "run_type": "iteration", "real_time": 1.0, "time_unit": "us"},
            {"name": "a/1", "run_name": "a/1", "run_type": "iteration", "real_time": 3.0, "time_unit": "us"},
            {"name": "a/1_median", "run_name": "a/1", "run_type": "aggregate", "aggregate_name": "median",
             "real_time": 2.0, "time_unit": "us"},
            {"name": "a/1_cv", "run_name": "a/1", "run_type": "aggregate", "aggregate_name": "cv", "real_time": 0.5,
             "time_unit": "us"}]}
        self.assertEqual(parts.memory.read_google(given), {
            "program": "memory_bench", "results": [{"what": "a/1", "ns": 2000.0, "rounds": [1000.0, 3000.0]}]})


class Machine(unittest.TestCase):
    def test_cpu_lists_are_read(self):
        self.assertEqual(machine.cpu_list("0-2,7"), [0, 1, 2, 7])
        self.assertEqual(machine.cpu_list(None), [])

    def test_is_described_as_json(self):
        described = json.loads(json.dumps(machine.describe(fixtures.ROOT)))
        for key in ("cpu", "kernel", "frequency", "isolation", "hugepages", "mitigations", "load_average", "date", "sanpoll"):
            self.assertIn(key, described)

    def test_remarks_warn_of_what_spoils_figures(self):
        described = machine.describe(fixtures.ROOT)
        described["cpu"].update(allowed=[0], hypervisor="KVM")
        described["load_average"] = [3.0, 0, 0]
        described["sanpoll"] = {"commit": "0", "dirty": True}
        said = " ".join(machine.remarks(described))
        for words in ("one CPU", "virtual", "load average was 3.00", "differs from its revision"):
            self.assertIn(words, said)


if __name__ == "__main__":
    unittest.main()

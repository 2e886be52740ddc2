"""scripts/bench.d/targets.py and readings.py: met, missed, not measured."""
import unittest

import fixtures
import targets


def judged(results):
    return {entry["name"]: entry for entry in targets.evaluate(results)}


class Targets(unittest.TestCase):
    def entry(self, results, beginning):
        found = [entry for name, entry in judged(results).items() if name.startswith(beginning)]
        self.assertEqual(len(found), 1, beginning)
        return found[0]

    def test_are_all_met_by_the_fixture(self):
        for name, entry in judged(fixtures.results()).items():
            self.assertIs(entry["met"], True, f"{name}: {entry}")

    def test_are_all_without_a_value_when_nothing_ran(self):
        for entry in targets.evaluate({}):
            self.assertIsNone(entry["value"])
            self.assertIsNone(entry["met"])
            self.assertIn("was not run", entry["why_not_measured"])

    def test_are_without_a_value_when_programs_say_nothing_known(self):
        strange = {"results": [{"rounds": None}, 5], "calls": "none", "idle": [{}], "noise": 3}
        of = {part: {command: strange for command in commands} for part, commands in fixtures.RESULTS.items()}
        for entry in targets.evaluate(of):
            self.assertIsNone(entry["met"], entry["name"])
            self.assertTrue(entry["why_not_measured"], entry["name"])

    def test_have_names_of_their_own_and_say_how(self):
        names = [target.name for target in targets.TARGETS]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(target.how and target.unit for target in targets.TARGETS))

    def test_ratio_is_to_the_best_peer_of_the_cell(self):
        entry = self.entry(fixtures.results(), "ring, one by one, 8 B")
        self.assertEqual(entry["value"], 1.25)  # 150 / 120, not / 100
        self.assertIn("boost", entry["detail"])

    def test_ratio_of_rounds_has_a_spread(self):
        entry = self.entry(fixtures.results(), "ring round trip, 8 B: faster")
        self.assertEqual((entry["value"], entry["spread"]), (1.5, [1.5, 2.0]))

    def test_a_slower_ring_misses_its_cell_and_the_share(self):
        results = fixtures.results()
        for row in results["rings"]["rings"]["results"]:
            if row["ring"] == "SpscRing" and row["element_bytes"] == 8 and "elements_per_second" in row:
                row["elements_per_second"] = 110e6
        self.assertIs(self.entry(results, "ring, one by one, 8 B")["met"], False)
        self.assertIs(self.entry(results, "ring, one by one, 64 B")["met"], True)
        share = self.entry(results, "ring throughput")
        self.assertEqual((share["value"], share["met"]), (0.5, False))  # most are more than half

    def test_a_message_is_compared_inline_and_polled(self):
        results = fixtures.results()
        rows = results["messages"]["peers"]["results"]
        rows.insert(0, {**rows[2], "completion": "event", "half_p50_ns": 9000, "ratio_to_handoff": 180})
        entry = self.entry(results, "64 B message, half round trip: beside the raw")
        self.assertEqual((entry["value"], entry["met"]), (1.4, True))

    def test_a_peer_that_is_as_fast_is_not_behind(self):
        results = fixtures.results()
        for row in results["messages"]["peers"]["results"]:
            if row["transport"] == "ucx-am":
                row["half_p50_ns"] = 70
        self.assertIs(self.entry(results, "8 B message, half round trip: ahead of UCX")["met"], False)

    def test_without_peers_there_is_no_being_ahead(self):
        results = fixtures.results()
        peers = results["messages"]["peers"]
        peers["results"] = [row for row in peers["results"] if row["transport"].startswith("shm")]
        entry = self.entry(results, "64 B message rate")
        self.assertIsNone(entry["met"])
        self.assertIn("of any peer", entry["why_not_measured"])
        self.assertIs(self.entry(results, "64 B message, half round trip: beside the raw")["met"], True)

    def test_instructions_are_without_the_callers_where_those_were_counted(self):
        results = fixtures.results()
        entry = self.entry(results, "instructions of")
        self.assertEqual((entry["value"], entry["spread"]), (340, [340, 340]))
        self.assertIn("420, of which 80", entry["detail"])
        del results["calls"]["calls"]["calls"][1]
        self.assertEqual(self.entry(results, "instructions of")["value"], 420)

    def test_dedicated_is_one_message_in_raw_round_trips(self):
        entry = self.entry(fixtures.results(), "dedicated mode")
        self.assertEqual((entry["value"], entry["detail"]), (2.1, ""))

    def test_dedicated_is_shown_beside_bare_lines_of_the_same_rounds(self):
        results = fixtures.results()
        row = results["messages"]["dedicated"]["results"][0]
        row["rounds"] = [{"p50_ns": 420, "bare_ns": bare, "bare_with_work_ns": 200, "moved": moved,
                          "before": fixtures.SENTINEL, "after": fixtures.SENTINEL}
                         for bare, moved in ((150, False), (170, False), (900, True), (160, False))]
        entry = self.entry(results, "dedicated mode")
        self.assertEqual((entry["value"], entry["detail"]), (2.1, "bare lines 1.60, with as much work 2.00"))
        row["rounds"][0]["before"] = None
        self.assertIn("bare lines 1.65", self.entry(results, "dedicated mode")["detail"])

    def test_connect_takes_the_better_way_to_wait_of_each(self):
        entry = self.entry(fixtures.results(), "connect, accept and close")
        self.assertEqual(entry["value"], round(12000 / 9000, 4))

    def test_tail_counts_the_machines_gap(self):
        results = fixtures.results()
        entry = self.entry(results, "p99 of paced")
        self.assertEqual((entry["value"], entry["spread"]), (round(500 / 600, 4), [450 / 600, 540 / 600]))
        self.assertNotIn("worked off", entry["detail"])
        results["tail"]["tail"]["results"][1]["machine_queued_p99_ns"] = 450
        self.assertIn("their p99 is 450 ns", self.entry(results, "p99 of paced")["detail"])
        self.assertNotIn("bare", self.entry(results, "p99 of paced")["detail"])
        results["tail"]["tail"]["results"][1] |= {"bare_busy_p99_ns": 610, "p99_beside_bare": 0.82}
        self.assertIn("p99 610 ns, ours by its 0.82", self.entry(results, "p99 of paced")["detail"])
        results["tail"]["tail"]["results"][1]["machine_p99_gap_ns"] = 0
        self.assertIs(self.entry(results, "p99 of paced")["met"], False)

    def test_bounds_belong_to_at_most_and_at_least(self):
        for comparison, met in (("at least", True), ("at most", True), ("more than", False), ("less than", False)):
            self.assertIs(targets.COMPARISONS[comparison](1.0, 1.0), met)


if __name__ == "__main__":
    unittest.main()

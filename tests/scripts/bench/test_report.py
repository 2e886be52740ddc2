"""scripts/bench.d/report.py and plots.py: out of a run that is already there."""
import os
import tempfile
import unittest
from xml.etree import ElementTree

import fixtures
import plots
import report


class Report(unittest.TestCase):
    def test_has_the_verdicts_before_anything_else(self):
        run = fixtures.run()
        text = report.markdown(run)
        self.assertIn(f"**{len(run['targets'])} of {len(run['targets'])} targets met, 0 missed, 0 not measured.**", text)
        self.assertLess(text.index("## Targets"), text.index("## Machine"))
        for heading in ("## Peers", "## Method", "## Rings", "## Messages", "## Plots", "## How the targets' values"):
            self.assertIn(heading, text)

    def test_names_peers_that_lack_and_how_the_others_are_set_up(self):
        text = report.markdown(fixtures.run())
        self.assertIn("- ck_ring (rings): the build did not find it", text)
        self.assertIn("- io_uring (messages): the kernel forbids it", text)
        self.assertIn("- rte_ring: SP/SC", text)
        self.assertIn("- ucx-am: ucx-am as it is best", text)

    def test_has_the_sentinels_and_the_ratio_to_the_best_peer(self):
        text = report.markdown(fixtures.run())
        self.assertIn("2 sentinels: raw round trip of a cache line 100 ns", text)
        self.assertIn("| shm beside the best peer, times better | 1.86 | 1.86 |", text)
        self.assertIn("| ours beside the best peer, times better | 1.50 | 1.50 - 2 |", text)

    def test_has_rdma_beside_ucx_by_size(self):
        text = report.markdown(fixtures.run())
        self.assertIn("| shm arena beside ucx put, times better | 1.09 | 1.09 | 1.09 |", text)
        self.assertIn("| shm arena beside ucx put, times better | 1.03 | 1.03 | 1.03 |", text)

    def test_has_the_machines_noise_beside_the_tail_and_no_verdicts_but_its_own(self):
        text = report.markdown(fixtures.run())
        self.assertIn("| client |", text)
        self.assertNotIn("what the program thinks", text)

    def test_says_what_was_missed_and_what_was_not_run(self):
        results = fixtures.results()
        results["calls"]["calls"]["calls"][0]["instructions"] = 500
        del results["tail"]
        run = fixtures.run(results)
        run["parts"][0]["commands"].append({"name": "engine", "command": "engine_bench", "seconds": 0,
                                            "why_not": "the program engine_bench is not there", "result": None})
        text = report.markdown(run)
        self.assertIn("**missed**", text)
        self.assertIn("- rings, engine: the program engine_bench is not there", text)
        self.assertIn("- tail: not asked for", text)
        self.assertIn("not measured | - | the part tail was not run |", text)

    def test_of_nothing_at_all_is_still_a_report(self):
        text = report.markdown(fixtures.run({}), [], plots.WHY_NOT)
        self.assertIn("**0 of ", text)
        self.assertIn(plots.WHY_NOT, text)


class Plots(unittest.TestCase):
    def test_quantiles_go_up_to_the_last_sample(self):
        points = plots.quantile_points([[10, 90], [20, 9], [40, 1]], 0.5)
        self.assertEqual([value for _, value in points], [5, 10, 20])
        for (share, _), wanted in zip(points, (10, 100, 100)):
            self.assertAlmostEqual(share, wanted)

    @unittest.skipIf(plots.matplotlib is None, plots.WHY_NOT)
    def test_are_svg_files_all_of_them(self):
        with tempfile.TemporaryDirectory() as folder:
            drawn, why = plots.draw(fixtures.results(), folder)
            self.assertIsNone(why)
            self.assertEqual([name for _, name in drawn], [name for name, _, _ in plots.PLOTS])
            for _, name in drawn:
                root = ElementTree.parse(os.path.join(folder, name)).getroot()
                self.assertTrue(root.tag.endswith("svg"), name)

    @unittest.skipIf(plots.matplotlib is None, plots.WHY_NOT)
    def test_of_nothing_are_none(self):
        with tempfile.TemporaryDirectory() as folder:
            drawn, why = plots.draw({}, folder)
            self.assertEqual((drawn, os.listdir(folder)), ([], []))
            self.assertTrue(why)

    def test_without_matplotlib_say_so(self):
        kept, plots.matplotlib = plots.matplotlib, None
        try:
            self.assertEqual(plots.draw(fixtures.results(), "/nonexistent"), ([], plots.WHY_NOT))
        finally:
            plots.matplotlib = kept


if __name__ == "__main__":
    unittest.main()

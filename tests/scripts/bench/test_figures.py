"""scripts/bench.d/figures.py and tables.py: arithmetic and how numbers are shown."""
import unittest

import fixtures  # noqa: F401: finds the package
import figures
import tables
from figures import Sample


class Rounds(unittest.TestCase):
    def test_are_numbers_or_objects_or_have_a_name(self):
        self.assertEqual(figures.per_round({"rounds": [1, 2]}, "ns"), [1, 2])
        self.assertEqual(figures.per_round({"rounds": [{"ns": 1}, {"other": 2}]}, "ns"), [1, None])
        self.assertEqual(figures.per_round({"ns_rounds": [3], "rounds": [1, 2]}, "ns"), [3])
        self.assertEqual(figures.per_round({"rounds_ns": [4]}, "ns"), [4])
        self.assertEqual(figures.per_round({"rounds": 5}, "ns"), [])

    def test_that_moved_do_not_count_unless_all_did(self):
        rounds = [{"ns": 1, "moved": True}, {"ns": 2, "moved": False}]
        self.assertEqual(figures.per_round({"rounds": rounds}, "ns"), [None, 2])
        self.assertEqual(figures.per_round({"rounds": rounds[:1]}, "ns"), [1])
        self.assertEqual(figures.per_round({"rounds": rounds, "rate_rounds": [5, 6]}, "rate"), [None, 6])
        self.assertEqual(figures.per_round({"rounds": rounds, "rate_rounds": [5, 6, 7]}, "rate"), [5, 6, 7])


class Ratio(unittest.TestCase):
    def test_is_the_median_of_the_rounds_ratios_where_both_were_measured_together(self):
        found = figures.ratio(Sample(2, [2, 40, 6]), Sample(1, [1, 10, 3]))
        self.assertEqual((found.value, found.spread()), (2, (2, 4)))

    def test_leaves_rounds_out_in_which_either_moved(self):
        found = figures.ratio(Sample(2, [2, None, 6, 8]), Sample(1, [1, 10, 3, 2]))
        self.assertEqual((found.value, found.rounds), (2, [2, 2, 4]))

    def test_of_two_rounds_is_not_their_mean(self):
        found = figures.ratio(Sample(6, [2, 10]), Sample(3, [5, 0.001]))
        self.assertEqual((found.value, found.rounds), (2, [0.4, 10000]))

    def test_is_one_of_medians_otherwise(self):
        found = figures.ratio(Sample(3, [2, 4]), Sample(2))
        self.assertEqual((found.value, found.spread()), (1.5, None))

    def test_of_nothing_or_by_nothing_is_nothing(self):
        self.assertFalse(figures.ratio(Sample(None), Sample(1)))
        self.assertFalse(figures.ratio(Sample(1), Sample(0)))


class Numbers(unittest.TestCase):
    def test_are_finite_and_no_truths(self):
        for no_number in (True, None, "1", float("nan"), float("inf")):
            self.assertIsNone(figures.number(no_number))

    def test_for_people_have_three_digits(self):
        for value, shown in ((0.12345, "0.123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (35, "35"), (None, "-")):
            self.assertEqual(tables.three_digits(value), shown)

    def test_rates_and_sizes_have_units(self):
        self.assertEqual(tables.rate(12.34e6), "12.3 M")
        self.assertEqual(tables.rate(2e9), "2 G")
        self.assertEqual([tables.size_name(one) for one in (0, 8, 1024, 1 << 20)], ["0 B", "8 B", "1 KiB", "1 MiB"])

    def test_quantiles_of_a_histogram(self):
        histogram = [[10, 50], [20, 49], [30, 1]]
        self.assertEqual([figures.quantile(histogram, share) for share in (0.5, 0.51, 0.99, 1)], [10, 20, 20, 30])
        self.assertIsNone(figures.quantile([], 0.5))


class AnyTable(unittest.TestCase):
    def test_has_names_first_and_ranges_behind_their_figures(self):
        table = tables.of_rows("x", [{"half_ns": 2.0, "open": 1, "name": "a|b", "rounds": [1.0, 2.0, 3.0], "empty": None}])
        self.assertEqual(table.columns, ["name", "open", "half ns", "range"])
        self.assertEqual(table.rows, [["a|b", "1", "2", "1 - 3"]])
        self.assertIn("| a\\|b | 1 | 2 | 1 - 3 |", tables.markdown(table))

    def test_has_quantiles_in_their_order(self):
        table = tables.of_rows("x", [{"machine_p99_ns": 1, "max_ns": 1, "p50_ns": 1, "p999_ns": 1, "p99_ns": 1, "rate_ns": 1}])
        self.assertEqual(table.columns, ["machine p99 ns", "p50 ns", "p99 ns", "p999 ns", "max ns", "rate ns"])

    def test_shows_rows_that_lack_what_others_have(self):
        table = tables.of_rows("x", [{"name": "a", "p50_ns": 1}, {"name": "b"}])
        self.assertEqual(table.rows, [["a", "1"], ["b", "-"]])


if __name__ == "__main__":
    unittest.main()

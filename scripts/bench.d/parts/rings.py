"""Rings between two threads, and the engine's smallest steps."""
import figures
import readings
from program import JSON, Command
from tables import Table, cell, size_name, three_digits

NAME = "rings"
TITLE = "Rings and the engine's steps"
ABOUT = ("Two pinned threads of one process. `ring_bench`: our rings beside those of DPDK, Boost, moodycamel and "
         "Concurrency Kit, elements of 8 and 64 bytes: one by one, in bursts of 32, and to and fro over two rings. "
         "`engine_bench`: what the engine's steps cost by themselves.")


def commands(plan):
    return [
        Command("rings", ["ring_bench", *plan.round_arguments(7, 15), "--json", JSON], plan.pick(30, 40)),
        Command("engine", ["engine_bench", *plan.round_arguments(7, 15), "--json", JSON], plan.pick(15, 40)),
    ]


TITLES = {"round_trip": "Round trip over two rings, ns", "one_by_one": "One by one, elements a second",
          "bursts_of_32": "Bursts of 32, elements a second"}


def _pivot(results, what):
    """Rings down, element sizes across; a last line with how many times better our best ring is than the best peer."""
    key = "round_trip_ns" if what == "round_trip" else "elements_per_second"
    found = figures.pick(figures.rows(results["rings"]), what=what)
    sizes = sorted({row["element_bytes"] for row in found if "element_bytes" in row})
    lines = []
    for name, role in dict.fromkeys((row.get("ring"), row.get("role")) for row in found):
        line = [f"{name} ({role})"]
        for size in sizes:
            one = figures.sample(figures.first(found, ring=name, element_bytes=size), key)
            spread = one.spread()
            line += [cell(key, one.value), f"{cell(key, spread[0])} - {cell(key, spread[1])}" if spread else "-"]
        lines.append(line)
    ahead = [readings.ring_cell({"rings": results}, what, size).figure for size in sizes]
    line = ["ours beside the best peer, times better"]
    for one in ahead:
        spread = one.spread() if one else None
        line += [three_digits(one.value if one else None),
                 f"{three_digits(spread[0])} - {three_digits(spread[1])}" if spread else "-"]
    header = ["ring"]
    for size in sizes:
        header += [size_name(size), "range"]
    return Table(TITLES.get(what, what), header, lines + [line])


def tables(results):
    """For the rings; the engine's steps are shown as they are."""
    if not results.get("rings"):
        return {}
    kinds = dict.fromkeys(row.get("what") for row in figures.rows(results["rings"]))
    return {"rings": [_pivot(results, what) for what in kinds if what]}

"""Messages between two processes, beside everything else that carries them."""
import figures
import readings
from program import JSON, Command
from tables import Table, cell, of_rows, size_name, three_digits

NAME = "messages"
TITLE = "Messages between two processes"
ABOUT = ("`peer_bench`: the provider over shared memory, from ordinary memory (`shm`) and out of an arena (`shm-arena`), "
         "beside kernel TCP, unix sockets, io_uring, UCX and libfabric. The same loops drive all of them, in turn in "
         "each round. Then the provider's dedicated mode: between two processes, which on two CPUs share them with their "
         "polling cores, and (`sanpoll-ping`) as one application thread with one polling core, each on a CPU of its own, beside "
         "bare cache lines that go the same way, with and without as many steps on it as the provider takes.")


def commands(plan):
    quick = ["--quick"] if plan.quick else []
    more = [] if plan.quick else ["--completion", "polled,event,port", "--phase-ms", "50"]
    return [
        Command("peers", ["peer_bench", "--quiet", *quick, *more, *plan.round_arguments(9, 15), "--json", JSON],
                plan.pick(70, 450)),
        Command("dedicated, two processes", ["peer_bench", "--quiet", *quick, "--mode", "dedicated", "--transports", "shm",
                                             "--sizes", "8,64,64K", *plan.round_arguments(), "--json", JSON],
                plan.pick(5, 10)),
        Command("dedicated", ["sanpoll-ping", "--mode", "dedicated", "--one-thread", "--no-tcp", "--no-rate", "--quiet",
                              "--sizes", "8,64", *plan.round_arguments(9, 15), "--json", JSON], plan.pick(12, 20)),
    ]


# Figure, title, and what the cells are multiplied by.
FIGURES = (
    ("half_p50_ns", "Half round trip, median, ns", 1),
    ("half_p99_ns", "Half round trip, p99, ns", 1),
    ("ratio_to_handoff", "Half round trip, median, in raw hand-offs of a cache line around the same samples", 1),
    ("messages_per_second", "Messages a second, a window of sends outstanding", 1),
    ("bytes_per_second", "Bandwidth, GB/s", 1e-9),
)


def _pivot(results, key, title, scale):
    """Transports down, sizes across; a last line with how many times better ours is than the best peer."""
    whole = {"messages": results}
    all_rows = readings.message_rows(whole)
    sizes = sorted({row["size"] for row in all_rows if "size" in row})
    names = list(dict.fromkeys(row["transport"] for row in all_rows if "transport" in row))
    lines = []
    for name in names:
        found = [readings.message_figure(readings.message_row(whole, name, size), key) for size in sizes]
        if any(found):
            lines.append([name] + [cell(key, one.value) if scale == 1 else three_digits(one.scaled(scale).value)
                                   for one in found])
    if not lines:
        return None
    for ours in readings.OURS:
        if ours in names:
            ahead = [readings.message_ahead(whole, size, key, ours=ours) for size in sizes]
            if any(one.figure for one in ahead) and key != "ratio_to_handoff":
                lines.append([f"{ours} beside the best peer, times better"] +
                             [three_digits(one.figure.value) if one.figure else "-" for one in ahead])
    return Table(title, ["transport"] + [size_name(size) for size in sizes], lines)


def _others(results):
    """Rows that the comparison does not show: other modes and ways of completion."""
    whole = {"messages": results}
    all_rows = readings.message_rows(whole)
    shown = [id(readings.message_row(whole, row.get("transport"), row.get("size"))) for row in all_rows]
    rest = [{key: row.get(key) for key in ("transport", "mode", "completion", "size", "half_p50_ns", "half_p99_ns",
                                           "messages_per_second", "bytes_per_second") if key in row}
            for row in all_rows if id(row) not in shown]
    return [of_rows("Other modes and ways of completion", rest)] if rest else []


def _rounds(results):
    """Spread of the half round trips, which the first table has no room for."""
    whole = {"messages": results}
    lines = []
    for row in figures.pick(readings.message_rows(whole), size=64):
        spread = readings.message_figure(row, "half_p50_ns").spread()
        if spread:
            lines.append([row.get("transport"), row.get("mode") or "-", row.get("completion") or "-",
                          f"{three_digits(spread[0])} - {three_digits(spread[1])}"])
    return [Table("64 B: the rounds' medians of the half round trip, ns", ["transport", "mode", "completion", "range"],
                  lines)] if lines else []


def _dedicated(results):
    lines = []
    for row in figures.rows(results.get("dedicated")):
        reading = readings.dedicated({"messages": results}, row.get("size"))
        spread = reading.figure.spread() if reading.figure else None
        trips = row.get("rtt_ns") or {}
        lines.append([size_name(row.get("size", 0)), three_digits(trips.get("p50")), three_digits(trips.get("p99")),
                      three_digits(reading.figure.value if reading.figure else None),
                      f"{three_digits(spread[0])} - {three_digits(spread[1])}" if spread else "-",
                      *[_beside(readings.bare_dedicated({"messages": results}, key, row.get("size")))
                        for key in ("bare_ns", "bare_with_work_ns")]])
    return [Table("Dedicated mode: application thread and polling core on two CPUs; one message, in raw round trips of a line",
                  ["message", "two messages, p50, ns", "p99, ns", "ours", "range", "bare lines",
                   "bare lines, with as much work"], lines)]


def _beside(sample):
    spread = sample.spread()
    return three_digits(sample.value) + (f" ({three_digits(spread[0])} - {three_digits(spread[1])})" if spread else "")


def tables(results):
    """For these programs, instead of their arrays as they are."""
    said = {}
    if results.get("dedicated"):
        said["dedicated"] = _dedicated(results)
    if results.get("dedicated, two processes"):
        said["dedicated, two processes"] = _others({"peers": results["dedicated, two processes"]})
    if results.get("peers"):
        pivots = [_pivot(results, *figure) for figure in FIGURES]
        said["peers"] = [one for one in pivots if one] + _rounds(results) + _others(results)
    return said

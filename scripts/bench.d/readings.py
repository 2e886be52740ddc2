"""What the targets take out of the programs' JSON. Each reader gets {part: {command: result}} and gives a Reading.

A ratio is always one of two figures of the same program's same run. What is lacking gives a reading without a value that
says what is lacking.
"""
from typing import NamedTuple, Optional

from figures import Sample, best, first, number, pick, ratio, rows, sample

# Who is who among the transports of peer_bench, by the beginnings of their names.
OURS = ("shm", "shm-arena")
UCX = ("ucx", "ucp", "uct")
LIBFABRIC = ("libfabric",)
TCP_SPINNING = ("tcp-spin",)
UNIX_SPINNING = ("unix-spin",)


class Reading(NamedTuple):
    figure: Optional[Sample]
    detail: str = ""  # which peer it was, for example
    why: str = ""     # why there is no figure


def lacking(what):
    return Reading(None, why=what)


def result_of(results, part, command):
    return (results.get(part) or {}).get(command) or {}


def compared(ours, peers, least, unit_name):
    """How many times better ours is than the best peer: above 1 is ahead. `least`: the smaller figure is better."""
    if not ours:
        return lacking(f"no {unit_name} of ours was measured")
    winner = best(peers, least)
    if winner is None:
        return lacking(f"no {unit_name} of any peer was measured")
    name, peer = winner
    figure = ratio(peer, ours) if least else ratio(ours, peer)
    return Reading(figure, f"the best peer is {name}")


# ---- rings --------------------------------------------------------------------------------------------------------

def _ring_key(what):
    return "round_trip_ns" if what == "round_trip" else "elements_per_second"


def _ring_rows(results, what, size):
    return pick(rows(result_of(results, "rings", "rings")), what=what, element_bytes=size)


def _by_role(found, role, key):
    return [(row.get("ring"), sample(row, key)) for row in pick(found, role=role)]


def ring_cell(results, what, size):
    """Our best ring beside the best peer in one cell, as a Reading of how many times better it is."""
    found, key, least = _ring_rows(results, what, size), _ring_key(what), what == "round_trip"
    mine = best(_by_role(found, "ours", key), least)
    if mine is None:
        return lacking(f"ring_bench has no {what} of {size} B of ours")
    reading = compared(mine[1], _by_role(found, "peer", key), least, f"{what} of {size} B")
    return reading._replace(detail=f"{mine[0]}; {reading.detail}") if reading.figure else reading


THROUGHPUT_CELLS = [(what, size) for what in ("one_by_one", "bursts_of_32") for size in (8, 64)]


def ring_share_ahead(results, times):
    """The share of throughput cells in which ours is at least so many times the best peer."""
    cells = [ring_cell(results, *cell) for cell in THROUGHPUT_CELLS]
    missing = [reading.why for reading in cells if reading.figure is None]
    if missing:
        return lacking(missing[0])
    ahead = [reading for reading in cells if reading.figure.value >= times]
    return Reading(Sample(len(ahead) / len(cells)), f"{len(ahead)} of {len(cells)} cells")


def ring_beside_raw(results, size):
    found = _ring_rows(results, "round_trip", size)
    mine = best(_by_role(found, "ours", "round_trip_ns"), True)
    raw = best([(name, one) for name, one in _by_role(rows(result_of(results, "rings", "rings")), "raw", "round_trip_ns")
                if name == "one line"], True)
    if mine is None or raw is None:
        return lacking(f"ring_bench has no round trip of {size} B, or no raw one")
    return Reading(ratio(mine[1], raw[1]), mine[0])


# ---- messages -----------------------------------------------------------------------------------------------------

def message_rows(results):
    return rows(result_of(results, "messages", "peers"))


def message_row(results, transport, size):
    """Inline and polled, for ours; the spinning one for what the kernel carries."""
    return first(pick(message_rows(results), transport=transport, size=size, mode=("inline", "kernel", "peer", None),
                      completion=("polled", "spinning", None)))


def message_figure(row, key):
    if key == "half_p50_ns" and "half_p50_ns" not in row:
        return sample(row, "half_rtt_ns", "half_p50_ns")
    return sample(row, key)


def peer_names(results):
    return sorted({row["transport"] for row in message_rows(results) if row.get("transport")} - set(OURS))


def message_ahead(results, size, key, peers=None, ours="shm"):
    """How many times better ours is than the best of the peers: all, or those whose names begin so."""
    least = key.endswith("_ns")
    names = [name for name in peer_names(results) if peers is None or name.startswith(peers)]
    candidates = [(name, message_figure(message_row(results, name, size), key)) for name in names]
    row = message_row(results, ours, size)
    reading = compared(message_figure(row, key), candidates, least, f"{key} at {size} B")
    return reading._replace(detail=reading.detail + bare_copies(row)) if reading.figure and key == "bytes_per_second" else reading


def bare_copies(row):
    """What two CPUs copy with no provider around it, in the same rounds: by the receiver's alone, and by both."""
    alone = sample(row, "bare_copy_bytes_per_second")
    both = sample(row, "bare_joint_copy_bytes_per_second")
    if not alone or not both:
        return ""
    return (f"; ours {row['bytes_per_second'] / 1e9:.1f} GB/s, bare copies in the same rounds {alone.value / 1e9:.1f} by the "
            f"receiver alone, {both.value / 1e9:.1f} by both ends")


def _over_sentinels(row, key):
    """A figure of each round over the raw round trip of the sentinels around it."""
    each = []
    for one in row.get("rounds") or []:
        around = [number((one.get(side) or {}).get("round_trip_ns")) for side in ("before", "after")]
        trip = number(one.get(key))
        good = trip is not None and all(around) and not one.get("moved")
        each.append(trip / (sum(around) / 2) if good else None)
    return each


def beside_sentinels(row):
    """A row's half round trip over the raw one-way hand-off: the program's figure, and that of each round with the
    sentinels around it."""
    return Sample(row.get("ratio_to_handoff"), _over_sentinels(row, "p50_ns"))


def message_beside_handoff(results, size):
    value = beside_sentinels(message_row(results, "shm", size))
    return Reading(value) if value else lacking(f"no half round trip of {size} B, or one CPU only")


def dedicated(results, size=64):
    """A message from the application thread to the polling core and back, over the raw round trip of a line.

    The round trip of one thread with itself is two messages, each of which goes to the core and back.
    """
    row = first(rows(result_of(results, "messages", "dedicated")), size=size, mode="dedicated")
    value = beside_sentinels(row)
    if not value:
        return lacking(f"sanpoll-ping --mode dedicated --one-thread has no ratio at {size} B")
    said = [f"{name} {one.value:.2f}" for name, one in
            (("bare lines", bare_dedicated(results, "bare_ns", size)),
             ("with as much work", bare_dedicated(results, "bare_with_work_ns", size))) if one]
    return Reading(value.scaled(0.5), ", ".join(said))


def bare_dedicated(results, key, size=64):
    """The same through bare cache lines in the same rounds: `bare_ns`, with as much work on the way `bare_with_work_ns`."""
    return Sample(None, _over_sentinels(first(rows(result_of(results, "messages", "dedicated")), size=size, mode="dedicated"), key))


# ---- the other parts ----------------------------------------------------------------------------------------------

def rdma_ahead(results, measure, size):
    """How many times better RDMA writes between arenas are than UCX's put."""
    latency = measure == "latency"
    key = "half_p50_ns" if latency else "bytes_per_second"
    found = pick(rows(result_of(results, "rdma", "rdma")), operation=("write", "put"), measure=measure, bytes=size)
    ours = sample(first(found, transport="shm arena"), key)
    peers = [(row.get("transport"), sample(row, key)) for row in found if "ucx" in str(row.get("transport"))]
    return compared(ours, peers, latency, f"{measure} of {size} B")


def instructions(results, size):
    """Of a message, without what the caller's own part takes, which call_cost counts with calls of nothing."""
    found = rows(result_of(results, "calls", "calls"), "calls")
    whole, caller = (Sample(row.get("instructions"), row.get("instructions_counts") or [])
                     for row in (first(found, name=f"{name}_{size}") for name in ("send_and_receive", "caller")))
    if not whole:
        return lacking("call_cost has no count of a send and its receive")
    if not caller:
        return Reading(whole, "with what the caller's own part takes")
    each = [a - b for a, b in zip(whole.rounds, caller.rounds) if a is not None and b is not None]
    return Reading(Sample(whole.value - caller.value, each),
                   f"{whole.value:.0f}, of which {caller.value:.0f} are the caller's own")


def busy_among_idle(results, idle):
    row = first(rows(result_of(results, "scale", "scale"), "idle"), idle_connections=idle)
    value = sample(row, "ratio_to_alone")
    return Reading(value) if value else lacking(f"scale_bench has nothing beside {idle} idle connections")


def connect_ahead(results, key, under_way):
    """Ours beside TCP, one other connection open, each in the better of its ways to wait."""
    found = pick(rows(result_of(results, "connect", "connect")), under_way=under_way, open=1)
    least = key.endswith("_ns")
    sides = {}
    for transport in ("shm", "tcp"):
        sides[transport] = best([(row.get("wait"), sample(row, key)) for row in pick(found, transport=transport)], least)
        if not sides[transport]:
            return lacking(f"connect_bench has no {key} of {transport}")
    reading = compared(sides["shm"][1], [("kernel TCP", sides["tcp"][1])], least, key)
    return reading._replace(detail=f"ours waits by {sides['shm'][0]}, TCP by {sides['tcp'][0]}")


def paced_tail(results, load):
    row = first(rows(result_of(results, "tail", "tail")), bytes=64, load_percent=load)
    p50, p99, gap = (sample(row, key) for key in ("p50_ns", "p99_ns", "machine_p99_gap_ns"))
    if not (p50 and p99 and gap):
        return lacking(f"tail_bench has no p50, p99 or machine gap at {load} %")
    each = [late / (2 * usual + machine) if None not in (late, usual, machine) and usual > 0 else None
            for late, usual, machine in zip(p99.rounds, p50.rounds, gap.rounds)]
    detail = f"p99 {p99.value:.0f} ns; 2 x p50 + gap = 2 x {p50.value:.0f} + {gap.value:.0f} ns"
    queued = sample(row, "machine_queued_p99_ns")
    if queued:
        detail += f"; where the machine's gaps are worked off at the peak rate their p99 is {queued.value:.0f} ns"
    bare, beside = sample(row, "bare_busy_p99_ns"), sample(row, "p99_beside_bare")
    if bare and beside:
        detail += (f"; a bare exchange of cache lines at the same load of its own peak, in turn with ours: p99 {bare.value:.0f} ns, "
                   f"ours by its {beside.value:.2f}")
    return Reading(Sample(p99.value / (2 * p50.value + gap.value), each), detail)


# ---- what plots take ----------------------------------------------------------------------------------------------

def idle_rows(results, key):
    """[(idle connections, ns)] of "idle" or "idle_dedicated"."""
    return [(row["idle_connections"], row["half_p50_ns"])
            for row in rows(result_of(results, "scale", "scale"), key)
            if row.get("idle_connections") is not None and sample(row, "half_p50_ns")]


def busy_rows(results):
    """[(busy connections, messages a second)]"""
    return [(row["connections"], row["messages_per_second"])
            for row in rows(result_of(results, "scale", "scale"), "busy")
            if row.get("connections") and sample(row, "messages_per_second")]


def machine_histogram(results, load):
    """What round trips that cost nothing would have shown, paced likewise on the same cores."""
    row = first(rows(result_of(results, "tail", "tail")), bytes=64, load_percent=load)
    return row.get("machine_histogram")

"""What sanpoll has to show, as data, and whether it did.

Every target is a ratio of figures of one program's one run, or a count. One that was not measured has no value, is neither
met nor missed, and says what is lacking.
"""
from typing import Callable, NamedTuple

import readings
from readings import LIBFABRIC, TCP_SPINNING, UCX, UNIX_SPINNING

COMPARISONS = {
    "at least": lambda value, bound: value >= bound,
    "at most": lambda value, bound: value <= bound,
    "more than": lambda value, bound: value > bound,
    "less than": lambda value, bound: value < bound,
}


class Target(NamedTuple):
    name: str
    part: str        # of the suite
    comparison: str  # a key of COMPARISONS
    bound: float
    unit: str
    how: str         # how the value is computed, in words
    read: Callable


def _rings():
    words = {"one_by_one": "one by one", "bursts_of_32": "bursts of 32"}
    for what, size in readings.THROUGHPUT_CELLS:
        yield Target(f"ring, {words[what]}, {size} B: throughput beside the best peer", "rings", "at least", 1.0, "times",
                     "elements a second of our best ring / of the best peer's",
                     lambda results, cell=(what, size): readings.ring_cell(results, *cell))
    yield Target("ring throughput: cells with 1.2 times the best peer", "rings", "more than", 0.5, "of the cells",
                 "the share of the four cells above whose ratio is 1.2 or more",
                 lambda results: readings.ring_share_ahead(results, 1.2))
    for size, bound in ((8, 1.45), (64, 1.6)):
        yield Target(f"ring round trip, {size} B: beside the raw one-line round trip", "rings", "at most", bound, "times",
                     "round trip over two of our rings / raw round trip of one cache line between the same CPUs",
                     lambda results, size=size: readings.ring_beside_raw(results, size))
    for size in (8, 64):
        yield Target(f"ring round trip, {size} B: faster than the best peer", "rings", "at least", 1.25, "times",
                     "the best peer's round trip over two rings / ours",
                     lambda results, size=size: readings.ring_cell(results, "round_trip", size))


# Aeron IPC's round trips in multiples of the raw one (design notes: 170 and 200 ns where a line took 110 ns).
AERON = {8: 170 / 110, 64: 200 / 110}


def _small_messages():
    for size, bound in ((8, 1.5), (64, 1.75)):
        yield Target(f"{size} B message, half round trip: beside the raw hand-off", "messages", "at most", bound, "times",
                     "median half round trip, inline and polled / raw one-way hand-off of a cache line around the same "
                     "samples",
                     lambda results, size=size: readings.message_beside_handoff(results, size))
        for name, peers in (("UCX at all its layers", UCX), ("libfabric", LIBFABRIC)):
            yield Target(f"{size} B message, half round trip: ahead of {name}", "messages", "more than", 1.0, "times",
                         f"the least median half round trip of {name} / ours",
                         lambda results, size=size, peers=peers:
                         readings.message_ahead(results, size, "half_p50_ns", peers))
        yield Target(f"{size} B message, half round trip: ahead of Aeron IPC's figure in the notes", "messages", "less than",
                     round(AERON[size], 2), "times the raw hand-off",
                     "half round trip / raw hand-off here, against Aeron IPC's on the machine of the notes: another run, so "
                     "in hand-offs instead of nanoseconds",
                     lambda results, size=size: readings.message_beside_handoff(results, size))
    for size in (8, 64):
        yield Target(f"{size} B message rate: beside the best peer", "messages", "at least", 1.5, "times",
                     "messages a second with a window of outstanding sends, ours / the best peer's",
                     lambda results, size=size: readings.message_ahead(results, size, "messages_per_second"))


def _long_messages():
    for size, name in ((1024, "1 KiB"), (4096, "4 KiB")):
        yield Target(f"{name} message, half round trip: ahead of every peer", "messages", "more than", 1.0, "times",
                     "the least median half round trip of all peers / ours",
                     lambda results, size=size: readings.message_ahead(results, size, "half_p50_ns"))
        yield Target(f"{name} message bandwidth: ahead of every peer", "messages", "more than", 1.0, "times",
                     "bytes a second, ours / the best peer's",
                     lambda results, size=size: readings.message_ahead(results, size, "bytes_per_second"))
    for size, name in ((65536, "64 KiB"), (1 << 20, "1 MiB")):
        for ours, memory, bound in (("shm-arena", "arena", 2.0), ("shm", "ordinary", 1.0)):
            yield Target(f"{name} message bandwidth out of {memory} memory: beside the best peer", "messages", "at least",
                         bound, "times", "bytes a second, ours / the best peer's",
                         lambda results, size=size, ours=ours:
                         readings.message_ahead(results, size, "bytes_per_second", ours=ours))
    for peers, name, bound in ((TCP_SPINNING, "kernel TCP over loopback", 35), (UNIX_SPINNING, "unix sockets", 15)):
        yield Target(f"64 B half round trip: faster than {name}, spinning", "messages", "at least", bound, "times",
                     f"median half round trip of {name}, both ends spinning / ours",
                     lambda results, peers=peers: readings.message_ahead(results, 64, "half_p50_ns", peers))


def _others():
    yield Target("8 B RDMA write between arenas, latency: no worse than UCX's put", "rdma", "at least", 1.0, "times",
                 "UCX's half round trip of one-sided puts / ours of writes",
                 lambda results: readings.rdma_ahead(results, "latency", 8))
    for size, name in ((8, "8 B"), (4096, "4 KiB"), (1 << 20, "1 MiB")):
        yield Target(f"{name} RDMA writes between arenas, bandwidth: no worse than UCX's put", "rdma", "at least", 1.0,
                     "times", "bytes a second of our writes / of UCX's puts",
                     lambda results, size=size: readings.rdma_ahead(results, "bandwidth", size))
    yield Target("instructions of one 64 B send and its receive, inline", "calls", "at most", 350, "instructions",
                 "counted by callgrind at both ends: posts, and the polls that complete them, through the WSP* calls, without "
                 "the caller's own part (its loop, the arguments)",
                 lambda results: readings.instructions(results, 64))
    yield Target("one busy connection among 10,000 idle ones: beside its time alone", "scale", "at most", 1.1, "times",
                 "median half round trip of 64 B beside 10,000 idle connections / alone, in turn in one run",
                 lambda results: readings.busy_among_idle(results, 10000))
    yield Target("connect, accept and close, one after another: faster than kernel TCP over loopback", "connect",
                 "more than", 1.0, "times",
                 "median time of TCP's / of ours, from the connect to the close; each in the better of its ways to wait",
                 lambda results: readings.connect_ahead(results, "p50_ns", 1))
    yield Target("connections a second, 16 under way: more than kernel TCP over loopback", "connect", "more than", 1.0,
                 "times", "connected, accepted and closed a second, ours / TCP's; each in the better of its ways to wait",
                 lambda results: readings.connect_ahead(results, "connections_per_second", 16))
    yield Target("p99 of paced 64 B messages at half load", "tail", "at most", 1.0, "times what is allowed",
                 "p99 / (2 x p50 + the machine's own p99 gap), latency from the moment when the message was due",
                 lambda results: readings.paced_tail(results, 50))
    yield Target("dedicated mode: application thread and polling core on two CPUs", "messages", "at most", 2.2, "times",
                 "a 64 B message from the application thread to the core and back / raw round trip of a cache line",
                 readings.dedicated)


TARGETS = (*_rings(), *_small_messages(), *_long_messages(), *_others())


def judge(target, results, not_run=()):
    """The target's entry in bench.json. `not_run` has (part, command, why) of programs that failed or lack."""
    failed = [f"{command} was not run: {why}" for part, command, why in not_run if part == target.part]
    if target.part not in results:
        reading = readings.lacking(f"the part {target.part} was not run")
    else:
        reading = target.read(results)
    entry = {"name": target.name, "value": None, "target": target.bound, "met": None, "comparison": target.comparison,
             "unit": target.unit, "part": target.part, "how": target.how, "detail": reading.detail, "spread": None}
    if not reading.figure:
        entry["why_not_measured"] = "; ".join([reading.why or "the figure is not in the program's output"] + failed)
        return entry
    entry["value"] = round(reading.figure.value, 4)
    entry["met"] = COMPARISONS[target.comparison](reading.figure.value, target.bound)
    spread = reading.figure.spread()
    entry["spread"] = [round(one, 4) for one in spread] if spread else None
    return entry


def evaluate(results, not_run=()):
    return [judge(target, results, not_run) for target in TARGETS]

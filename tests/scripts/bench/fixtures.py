"""Results of a machine that does not exist, on which every target is met. Round numbers, so that ratios can be seen."""
import copy
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "bench.d"))
sys.dont_write_bytecode = True

SENTINEL = {"round_trip_ns": 100.0, "overwrite_ns_per_line": 3.4, "placement": "near"}


def _rings():
    results = [{"what": "round_trip", "element_bytes": 8, "ring": name, "role": "raw", "round_trip_ns": ns}
               for name, ns in (("one line", 100), ("two lines", 120))]
    for size in (8, 64):
        results += [
            {"what": "round_trip", "element_bytes": size, "ring": "SpscRing", "role": "ours", "round_trip_ns": 140,
             "rounds": [{"round_trip_ns": one, "moved": False} for one in (130, 140, 150)]},
            {"what": "round_trip", "element_bytes": size, "ring": "rte_ring", "role": "peer", "round_trip_ns": 210,
             "configuration": "SP/SC", "rounds": [{"round_trip_ns": one, "moved": False} for one in (195, 210, 300)]},
            {"what": "round_trip", "element_bytes": size, "ring": "boost", "role": "peer", "round_trip_ns": 250},
        ]
        for what in ("one_by_one", "bursts_of_32"):
            results += [
                {"what": what, "element_bytes": size, "ring": "SpscRing", "role": "ours", "elements_per_second": 150e6},
                {"what": what, "element_bytes": size, "ring": "rte_ring", "role": "peer", "elements_per_second": 100e6},
                {"what": what, "element_bytes": size, "ring": "boost", "role": "peer", "elements_per_second": 120e6},
            ]
    return {"program": "ring_bench", "results": results, "missing": ["ck_ring"], "sentinels": [SENTINEL]}


# Transport: half round trip of small messages, messages a second, bytes a second.
TRANSPORTS = {
    "shm": (70, 30e6, 13e9), "shm-arena": (70, 30e6, 30e9), "tcp-spin": (4000, 0.2e6, 2e9), "unix-spin": (1750, 0.8e6, 5e9),
    "ucx-tag": (160, 16e6, 12e9), "ucx-am": (130, 19e6, 11e9), "libfabric": (300, 5e6, 9e9),
}


def _messages():
    results = []
    for name, (half, messages, bandwidth) in TRANSPORTS.items():
        ours = name.startswith("shm")
        for size in (0, 8, 64, 1024, 4096, 65536, 1 << 20):
            row = {"transport": name, "size": size, "mode": "inline" if ours else "peer",
                   "completion": "polled" if ours else None, "half_p50_ns": half, "half_p99_ns": 2 * half,
                   "messages_per_second": messages, "bytes_per_second": bandwidth, "ratio_to_handoff": half / 50,
                   "configuration": f"{name} as it is best", "histogram": [[2 * half, 990], [8 * half, 9], [80 * half, 1]],
                   "rounds": [{"p50_ns": 2 * half, "moved": False, "before": SENTINEL, "after": SENTINEL}] * 2}
            results.append(row)
    return {"program": "peer_bench", "results": results, "sentinels": [SENTINEL, SENTINEL],
            "skipped": {"io_uring": "the kernel forbids it"}}


RESULTS = {
    "rings": {"rings": _rings()},
    "messages": {
        "peers": _messages(),
        "dedicated": {"results": [{"transport": "shm", "size": 64, "mode": "dedicated", "ratio_to_handoff": 4.2,
                                   "rtt_ns": {"p50": 420, "p99": 600}}]},
    },
    "rdma": {"rdma": {"results": [
        {"transport": transport, "operation": "write", "measure": measure, "bytes": size, key: value}
        for transport, latency, rate in (("shm arena", 55, 40e9), ("ucx put", 60, 39e9))
        for measure, key, value in (("latency", "half_p50_ns", latency), ("bandwidth", "bytes_per_second", rate))
        for size in (8, 4096, 1 << 20)]}},
    "calls": {"calls": {"calls": [
        {"name": name, "function": "WSPSend + WSPRecv", "size_bytes": 64, "instructions": count,
         "instructions_counts": [count, count], "time_ns": 40.0}
        for name, count in (("send_and_receive_64", 420.0), ("caller_64", 80.0))]}},
    "scale": {"scale": {
        "idle": [{"idle_connections": count, "half_p50_ns": 70 + count / 10000, "ratio_to_alone": 1 + count / 200000}
                 for count in (0, 1, 100, 1000, 10000)],
        "busy": [{"connections": count, "messages_per_second": 20e6 / (1 + count / 1000)} for count in (1, 10, 100, 1000)]}},
    "connect": {"connect": {"results": [
        {"what": "connect", "transport": transport, "wait": wait, "under_way": under_way, "open": 1, "p50_ns": ns,
         "connections_per_second": 1e9 / ns}
        for transport, wait, ns in (("shm", "poll", 9000), ("shm", "sleep", 20000), ("tcp", "poll", 12000),
                                    ("tcp", "sleep", 15000))
        for under_way in (1, 16)]}},
    "tail": {"tail": {"results": [
        {"what": "paced echo", "bytes": 64, "load_percent": load, "p50_ns": 100, "p99_ns": 500, "machine_p99_gap_ns": 400,
         "rounds": [{"p50_ns": 100, "p99_ns": p99, "machine_p99_gap_ns": 400} for p99 in (450, 500, 540)],
         "histogram": [[100, 500], [200, 490], [500, 9], [100000, 1]], "machine_histogram": [[1, 950], [400, 50]]}
        for load in (10, 50, 90)],
        "noise": [{"core": core, "gaps_over_1us_per_second": 1000, "gap_p99_ns": 40000, "lost_percent": 1.5}
                  for core in ("client", "server")],
        "targets": [{"name": "what the program thinks", "value": 1, "target": 2, "met": True}]}},
}


def results():
    """All of them, for the caller to change."""
    return copy.deepcopy(RESULTS)


def run(of=None):
    """A whole run, as bench.json has it, of parts with these results (default: all)."""
    import machine
    import parts
    import peers
    import targets
    of = results() if of is None else of
    entries = []
    for name in parts.NAMES:
        if name in of:
            part = parts.named(name)
            entries.append({"name": name, "title": part.TITLE, "about": part.ABOUT, "commands": [
                {"name": command, "command": f"{command} --json FILE", "seconds": 1.0, "why_not": None, "result": result}
                for command, result in of[name].items()]})
    return {"format": 1, "arguments": ["--quick"], "quick": True, "rounds": None,
            "machine": machine.describe(ROOT), "peers": peers.installed(), "parts": entries,
            "interrupted": False, "seconds": 1.0, "load_average_after": [0, 0, 0],
            "not_asked_for": [name for name in parts.NAMES if name not in of], "targets": targets.evaluate(of)}

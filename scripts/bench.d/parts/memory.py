"""Long messages beside plain copies, and what registered memory and idle connections cost."""
from figures import number
from program import JSON, Command

NAME = "memory"
TITLE = "Memory"
ABOUT = ("`message_bench`: long messages out of arenas and ordinary memory beside a plain copy of as many bytes that the "
         "other core has just written. `register_bench`, `registration_bench`: what registering costs through the "
         "interface, and below it. `memory_bench`: registered heaps beside malloc. `footprint`: memory of idle "
         "connections.")


def read_google(result):
    """Google Benchmark's JSON as rows of ours: the median of the repetitions, and each of them."""
    rows = {}
    for entry in result["benchmarks"]:
        row = rows.setdefault(entry.get("run_name", entry["name"]), {"rounds": []})
        unit = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[entry.get("time_unit", "ns")]
        value = number(entry.get("real_time"))
        if value is None:
            continue
        if entry.get("run_type") != "aggregate":
            row["rounds"].append(value * unit)
        elif entry.get("aggregate_name") == "median":
            row["ns"] = value * unit
    results = []
    for name, row in rows.items():
        if "ns" not in row and row["rounds"]:
            row["ns"] = sorted(row["rounds"])[len(row["rounds"]) // 2]
        if "ns" in row:
            results.append({"what": name, "ns": row["ns"], "rounds": row["rounds"]})
    return {"program": result["context"].get("executable", "").rsplit("/", 1)[-1], "results": results}


def _google(plan, program, seconds):
    return Command(program, [program, f"--benchmark_repetitions={plan.rounds or plan.pick(3, 7)}",
                             f"--benchmark_min_time={plan.pick(0.02, 0.1)}", f"--benchmark_out={JSON}",
                             "--benchmark_out_format=json"], seconds, read=read_google)


def commands(plan):
    return [
        Command("message_bench", ["message_bench", "--count", plan.pick("200", "1000"), *plan.round_arguments(3, 9),
                                  "--json", JSON], plan.pick(5, 12)),
        Command("message_bench, 64 KiB", ["message_bench", "--message", "64", "--count", plan.pick("2000", "10000"),
                                          *plan.round_arguments(3, 9), "--json", JSON], plan.pick(5, 12)),
        Command("register_bench", ["register_bench", "--count", plan.pick("5000", "20000"), "--json", JSON],
                3),
        _google(plan, "memory_bench", plan.pick(5, 20)),
        _google(plan, "registration_bench", plan.pick(10, 25)),
        Command("footprint", ["footprint", "--connections", "10000", "--json", JSON],
                plan.pick(3, 4)),
        Command("footprint with receives", ["footprint", "--connections", "10000", "--receives", "8",
                                            "--no-tcp", "--json", JSON], plan.pick(3, 4)),
    ]

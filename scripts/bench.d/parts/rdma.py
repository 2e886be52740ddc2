"""RDMA writes and reads between two processes, beside UCX's put."""
import figures
from program import JSON, Command
from tables import Table, size_name, three_digits

NAME = "rdma"
TITLE = "RDMA between two processes"
ABOUT = ("`rdma_bench --compare`: RDMA between two processes out of the provider's memory. Write latency is a one-sided "
         "ping-pong (either end watches the memory that the other writes into), read latency lasts from the post to the "
         "completion, bandwidth has a window of operations posted ahead. Beside it UCX's put and get, by `ucx_perftest`, in "
         "turn in each round.")


def commands(plan):
    size = ["--moved", "64", "--count", "5000"] if plan.quick else []
    return [Command("rdma", ["rdma_bench", "--compare", *size, *plan.round_arguments(9, 15), "--json", JSON],
                    plan.pick(30, 60))]


# Figure, what its table says, and what the cells are multiplied by.
FIGURES = (
    ("write", "latency", "half_p50_ns", "Writes, half a one-sided round trip, median, ns", 1),
    ("read", "latency", "p50_ns", "Reads, from the post to the completion, median, ns", 1),
    ("write", "bandwidth", "bytes_per_second", "Writes, GB/s", 1e-9),
    ("read", "bandwidth", "bytes_per_second", "Reads, GB/s", 1e-9),
)


def _pivot(found, key, title, scale):
    """Transports down, sizes across, the range of the rounds below each; a last line with how many times better ours is."""
    sizes = sorted({row["bytes"] for row in found if "bytes" in row})
    samples = {name: [figures.sample(figures.first(found, transport=name, bytes=size), key).scaled(scale) for size in sizes]
               for name in dict.fromkeys(row.get("transport") for row in found)}
    lines = []
    for name, ours in samples.items():
        lines.append([name] + [three_digits(one.value) for one in ours])
        spreads = [one.spread() for one in ours]
        if any(spreads):
            lines.append(["range"] + [f"{three_digits(one[0])} - {three_digits(one[1])}" if one else "-" for one in spreads])
    ours = samples.get("shm arena")
    for name in samples:
        if ours and "ucx" in str(name):
            pairs = zip(samples[name], ours) if key.endswith("_ns") else zip(ours, samples[name])
            lines.append([f"shm arena beside {name}, times better"] +
                         [three_digits(figures.ratio(over, under).value) for over, under in pairs])
    return Table(title, ["transport"] + [size_name(size) for size in sizes], lines)


def tables(results):
    """A table for each operation and measure."""
    said = []
    for operation, measure, key, title, scale in FIGURES:
        found = figures.pick(figures.rows(results.get("rdma")), operation=operation, measure=measure)
        if found:
            said.append(_pivot(found, key, title, scale))
    return {"rdma": said} if said else {}

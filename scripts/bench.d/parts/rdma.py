"""RDMA writes and reads between two processes, beside UCX's put."""
from program import JSON, Command

NAME = "rdma"
TITLE = "RDMA between two processes"
ABOUT = ("`rdma_bench --compare`: RDMA between two processes out of the provider's memory. Write latency is a one-sided "
         "ping-pong (either end watches the memory that the other writes into), read latency lasts from the post to the "
         "completion, bandwidth has a window of operations posted ahead. Beside it UCX's put and get, by `ucx_perftest`, in "
         "turn in each round.")


def commands(plan):
    size = ["--moved", "64", "--count", "5000"] if plan.quick else []
    return [Command("rdma", ["rdma_bench", "--compare", *size, *plan.round_arguments(2, 9), "--json", JSON],
                    plan.pick(25, 180))]

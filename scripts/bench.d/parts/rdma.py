"""RDMA writes and reads between two processes, beside UCX's put."""
from program import JSON, Command

NAME = "rdma"
TITLE = "RDMA between two processes"
ABOUT = ("`rdma_bench`: RDMA writes between shareable arenas and between ordinary memory, one-sided round trips (either "
         "end watches the memory that the other writes into) and streams, beside UCX's put in the same run.")


def commands(plan):
    quick = ["--quick"] if plan.quick else []
    return [Command("rdma", ["rdma_bench", *quick, *plan.round_arguments(), "--json", JSON], plan.pick(25, 120))]

"""The tail of paced load, and the machine's own noise."""
from program import JSON, Command

NAME = "tail"
TITLE = "Tail of paced load"
ABOUT = ("`tail_bench`: messages sent at fixed moments, at 10 %, 50 % and 90 % of the peak rate. Latency counts from the "
         "moment when a message should have been sent, so that a stall is not hidden by what it delayed (corrected for "
         "coordinated omission). Beside it the machine's own noise: what a core that only spins loses.")


def commands(plan):
    quick = ["--quick"] if plan.quick else []
    return [Command("tail", ["tail_bench", *quick, *plan.round_arguments(), "--json", JSON], plan.pick(25, 100))]

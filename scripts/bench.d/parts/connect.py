"""Opening and closing connections, beside kernel TCP."""
from program import JSON, Command

NAME = "connect"
TITLE = "Connect, accept, close"
ABOUT = ("`connect_bench`: connections opened, accepted and closed, one after another and sixteen under way, beside "
         "kernel TCP over loopback in the same run.")


def commands(plan):
    quick = ["--quick"] if plan.quick else []
    return [Command("connect", ["connect_bench", *quick, *plan.round_arguments(), "--json", JSON], plan.pick(6, 10))]

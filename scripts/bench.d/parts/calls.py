"""Instructions of the interface's calls, counted."""
from program import JSON, Command

NAME = "calls"
TITLE = "Cost of each call"
ABOUT = ("`call_cost`: the instructions of each `WSP*` call, counted by callgrind, so that they are the same in every run, "
         "and the time that the call takes without it. Both ends in one thread.")


def commands(plan):
    counted = ["--counted-rounds", "50"] if plan.quick else []
    return [Command("calls", ["call_cost", *counted, "--json", JSON], 5)]

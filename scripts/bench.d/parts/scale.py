"""Many connections, many threads."""
from program import JSON, Command

NAME = "scale"
TITLE = "Scale"
ABOUT = ("`scale_bench`: one busy connection among idle ones, many busy ones, several application threads on one polling "
         "core, several polling cores, 64 clients of one server, memory per connection.")


def commands(plan):
    quick = ["--quick"] if plan.quick else []
    return [Command("scale", ["scale_bench", *quick, *plan.round_arguments(), "--json", JSON], plan.pick(40, 60))]

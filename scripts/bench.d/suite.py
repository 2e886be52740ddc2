"""Runs the parts and gathers what they measured into one object, which is all that the report and plots are made of."""
import time

import machine
import parts
import peers
import program
import targets
from progress import Progress

FORMAT = 1


def commands_of(names, plan):
    return [(parts.named(name), parts.named(name).commands(plan)) for name in names]


def run_part(part, commands, folder, progress, label, interrupted=False):
    """The part's entry, and whether the user has interrupted the suite; then nothing more is run."""
    entry = {"name": part.NAME, "title": part.TITLE, "about": part.ABOUT, "commands": []}
    for command in commands:
        if interrupted:
            outcome = program.not_run(command, "the user had interrupted the suite")
        else:
            progress.begin(f"{label} {part.NAME}: {command.name}", command.seconds)
            try:
                outcome = program.run(command, folder, progress.tick)
            except KeyboardInterrupt:
                interrupted = True
                outcome = program.not_run(command, "the user interrupted it")
            progress.end(outcome.why or "done")
        entry["commands"].append(outcome.json())
    return entry, interrupted


def missing(run):
    """[(part, command, why)] of what was not run or failed."""
    return [(part["name"], command["name"], command["why_not"])
            for part in run["parts"] for command in part["commands"] if command["why_not"]]


def results_of(run):
    """{part: {command: result}} of what there is."""
    return {part["name"]: {command["name"]: command["result"] for command in part["commands"] if command["result"]}
            for part in run["parts"]}


def judged(run):
    """The run with its targets' verdicts, by today's targets."""
    run["targets"] = targets.evaluate(results_of(run), missing(run))
    return run


def run(root, folder, names, plan, out, arguments=()):
    """The whole run; whatever fails is named in it. `arguments` are the user's, for the record."""
    planned = commands_of(names, plan)
    progress = Progress(sum(command.seconds for _, commands in planned for command in commands), out)
    start = time.monotonic()
    whole = {"format": FORMAT, "arguments": list(arguments), "quick": plan.quick, "rounds": plan.rounds,
             "machine": machine.describe(root), "peers": peers.installed(), "parts": [], "interrupted": False}
    for number, (part, commands) in enumerate(planned, 1):
        entry, whole["interrupted"] = run_part(part, commands, folder, progress, f"{number}/{len(planned)}",
                                               whole["interrupted"])
        whole["parts"].append(entry)
    whole["not_asked_for"] = [name for name in parts.NAMES if name not in names]
    whole["load_average_after"] = machine.load_average()
    whole["seconds"] = round(time.monotonic() - start, 1)
    return judged(whole)

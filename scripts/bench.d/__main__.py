"""scripts/bench, which starts this with the right interpreter. README.md tells how the files go together."""
import json
import os
import subprocess
import sys
import tempfile
import time

import command_line
import parts
import plots
import report
import suite

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def fail(text):
    sys.stderr.write(f"scripts/bench: {text}\n")
    return 1


def listing():
    for part in parts.ALL:
        quick, full = (sum(command.seconds for command in part.commands(parts.Plan(quick))) for quick in (True, False))
        print(f"{part.NAME:<10} {part.TITLE}; about {quick:.0f} s with --quick, {full:.0f} s without")
    return 0


def succeeds(*command):
    return subprocess.run(command, check=False).returncode == 0


def prepare(options):
    """Installs and builds as the options say; whether there is something to measure with."""
    setup = f"{ROOT}/scripts/setup"
    if options.setup and not succeeds(setup, "--peers"):
        if not succeeds(setup):
            return False
        fail("peers cannot be installed: what is lacking is left out and named")
    return not options.build or succeeds(f"{ROOT}/scripts/build", "release")


def write(run, folder):
    """bench.json first: the report and plots are made of it, and can be made again."""
    with open(os.path.join(folder, "bench.json"), "w", encoding="utf-8") as file:
        json.dump(run, file, indent=1)
        file.write("\n")
    drawn, why = plots.draw(suite.results_of(run), folder)
    with open(os.path.join(folder, "report.md"), "w", encoding="utf-8") as file:
        file.write(report.markdown(run, drawn, why))
    return why


def summary(run, folder, why_no_plots):
    entries = run["targets"]
    for entry in entries:
        if entry["met"] is False:
            print(f"missed: {entry['name']}: {entry['value']:.3g}, wanted {entry['comparison']} {entry['target']:g}")
    for part, command, why in suite.missing(run):
        print(f"not run: {part}, {command}: {why}")
    if why_no_plots:
        print(why_no_plots)
    met = sum(entry["met"] is True for entry in entries)
    missed = sum(entry["met"] is False for entry in entries)
    print(f"{met} of {len(entries)} targets met, {missed} missed, {len(entries) - met - missed} not measured")
    print(f"{folder}/report.md")


def again(folder):
    """The report and plots of an earlier run, with today's targets."""
    try:
        with open(os.path.join(folder, "bench.json"), encoding="utf-8") as file:
            run = json.load(file)
        if run.get("format") != suite.FORMAT:
            return fail(f"--report: {folder}/bench.json is not of a run of this version")
        suite.judged(run)
        summary(run, folder, write(run, folder))
    except (OSError, ValueError) as fault:
        return fail(f"--report: {folder}/bench.json: {fault}")
    return 0


def main(arguments):
    options = command_line.parse(arguments)
    if options.listing:
        return listing()
    if options.report:
        return again(options.report)
    folder = options.output or os.path.join(ROOT, "build", "bench", time.strftime("%Y%m%d-%H%M%S"))
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as fault:
        return fail(f"--output: cannot write into {folder}: {fault.strerror}")
    if not prepare(options):
        return 1
    programs = options.programs or os.path.join(ROOT, "build", "release", "bin")
    run = suite.run(ROOT, programs, options.names, parts.Plan(options.quick, options.rounds), sys.stderr,
                    arguments)
    summary(run, folder, write(run, folder))
    return 1 if suite.missing(run) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

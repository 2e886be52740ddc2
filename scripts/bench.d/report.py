"""The report: Markdown for a reader who believes nothing that is not shown."""
import shlex

import figures
import machine as machines
import parts
import suite
import tables
from progress import clock
from tables import Table, three_digits

METHOD = """\
- **Peers run beside ours.** A ratio is made of two figures of one program's one run. In each round every candidate has its
  turn, so that what the machine does meets all of them. Where a ratio has a spread, it is that of the rounds' own ratios,
  and the value is their median (of the figures' own medians with fewer than three rounds).
- **Sentinels.** Between samples the raw hand-off of a cache line between the two CPUs is measured, and what it costs to
  overwrite a line that the other CPU has read. A host that moves its virtual CPUs changes every latency by a factor of up
  to four. A sample whose sentinels differ from each other or from the run's first is repeated, a few times at most; how
  often is said with the program. `rdma_bench` only shows its sentinels, and what is counted or runs in one thread has none.
- **Median and spread.** A figure is the median of its rounds; the range is the least and the greatest round, not an error bar.
- **Half round trip** is half of what one end sees from its send to the answer's completion; reading the clock is taken off.
- **Pinned.** Measuring threads are pinned, each end to a CPU of its own. No program runs beside another.
- **A verdict is arithmetic.** `bench.json` has every raw figure, and under `targets` how each value was computed.
"""


def _verdict(entry):
    return {True: "met", False: "**missed**", None: "not measured"}[entry["met"]]


def _spread(entry):
    return f"{three_digits(entry['spread'][0])} - {three_digits(entry['spread'][1])}" if entry["spread"] else "-"


def targets_table(entries):
    lines = []
    for entry in entries:
        remark = entry.get("why_not_measured") or entry["detail"]
        lines.append([entry["name"], three_digits(entry["value"]), f"{entry['comparison']} {three_digits(entry['target'])} "
                      f"{entry['unit']}", _verdict(entry), _spread(entry), remark or "-"])
    return Table("", ["target", "value", "wanted", "verdict", "spread of the rounds", "remark"], lines)


def _machine_table(machine):
    cpu, isolation = machine["cpu"], machine["isolation"]
    caches = ", ".join(f"{name} {one['size']}" for name, one in cpu["caches"].items()) or "unknown"
    pools = ", ".join(f"{pool['free']} of {pool['total']} free, {pool['kib']} KiB"
                      for pool in machine["hugepages"]["pools"])
    line = isolation["command_line"]
    lines = [
        ["processor", cpu["model"]],
        ["CPUs", f"{cpu['cpus']}, of which this run may use {len(cpu['allowed'])}; threads a core: {cpu['threads_per_core']}; "
                 f"sockets: {cpu['sockets']}; NUMA nodes: {cpu['numa_nodes']}"],
        ["caches (of CPU 0)", caches],
        ["hypervisor", cpu["hypervisor"]],
        ["memory", f"{machine['memory_mib']} MiB"],
        ["hugepages", f"{pools or 'none'}; transparent: {machine['hugepages']['transparent']}"],
        ["kernel", f"{machine['kernel']}, clock {machine['clocksource']}"],
        ["frequency governor", machine["frequency"]["governor"]],
        ["isolated CPUs", isolation["isolated_cpus"] or "none"],
        ["kernel command line", ", ".join(f"{name}={value}" for name, value in line.items() if value) or
         "nothing of isolcpus, nohz_full, rcu_nocbs, irqaffinity, mitigations"],
        ["mitigations", _mitigations(machine["mitigations"])],
        ["compiler, C library", f"{machine['compiler']}, {machine['libc']}"],
        ["load average before", " ".join(f"{one:.2f}" for one in machine["load_average"])],
        ["date", machine["date"]],
        ["sanpoll", _revision(machine["sanpoll"])],
    ]
    return Table("", ["", ""], lines)


def _mitigations(found):
    active = [name for name, state in found.items() if state and state.startswith("Mitigation")]
    open_ = [name for name, state in found.items() if state and state.startswith("Vulnerable")]
    return f"active: {', '.join(active) or 'none'}; vulnerable: {', '.join(open_) or 'none'}"


def _revision(revision):
    if not revision["commit"]:
        return "not a git tree"
    return revision["commit"] + (", with changes that are not committed" if revision["dirty"] else ", clean")


def _left_out(said):
    """[(name, why or "")] of {name: why}, of [{"name", "why"}] or of [name]."""
    if isinstance(said, dict):
        return list(said.items())
    return [(one.get("name", "?"), one.get("why", "")) if isinstance(one, dict) else (str(one), "") for one in said or []]


def skipped_peers(run):
    """[(who, why)] of peers that are not installed or that a program left out."""
    skipped = [(peer["name"], "not installed") for peer in run["peers"] if not peer["version"]]
    for part in run["parts"]:
        for command in part["commands"]:
            result = command["result"] or {}
            skipped += [(f"{name} ({part['name']})", why or "the build did not find it")
                        for key in ("skipped", "missing") for name, why in _left_out(result.get(key))]
    return skipped


def configurations(run):
    """[(who, words)]: how each peer is set up, as the programs say."""
    said = {}
    for part in run["parts"]:
        for command in part["commands"]:
            result = command["result"] or {}
            if isinstance(result.get("configuration"), dict):
                said.update(result["configuration"])
            for row in figures.rows(result):
                if isinstance(row.get("configuration"), str):
                    said.setdefault(row.get("name") or row.get("transport") or row.get("ring"), row["configuration"])
    return sorted((str(name), words) for name, words in said.items())


def _sentinels_of(result):
    """The program's list of them, or those around its rounds."""
    taken = figures.rows(result, "sentinels")
    if not taken:
        taken = [one[side] for row in figures.rows(result) for one in figures.rows(row, "rounds")
                 for side in ("before", "after") if isinstance(one.get(side), dict)]
    return [one for one in taken if figures.number(one.get("round_trip_ns"))]


def _sentinels(result):
    taken = _sentinels_of(result)
    if not taken:
        return None
    trips = sorted(one["round_trip_ns"] for one in taken)
    places = sorted({str(one.get("placement") or one.get("class")) for one in taken})
    words = (f"{len(taken)} sentinels: raw round trip of a cache line {three_digits(trips[len(trips) // 2])} ns "
             f"({three_digits(trips[0])} - {three_digits(trips[-1])}), placement {', '.join(places)}")
    counts = {**(result.get("placement") if isinstance(result.get("placement"), dict) else {}), **result}
    for keys, what in ((("samples_repeated", "rounds_repeated", "repeated"), "repeated because the host moved the CPUs"),
                       (("samples_moved", "rounds_moved", "moved"), "counted although it did")):
        for key in keys:
            if figures.number(counts.get(key)):
                words += f"; {counts[key]} samples {what}"
    return words


def _part(entry):
    text = [f"## {entry['title']}\n", entry["about"] + "\n"]
    module = parts.named(entry["name"])
    own = getattr(module, "tables", None)
    results = {command["name"]: command["result"] for command in entry["commands"] if command["result"]}
    said = own(results) if own else {}
    for command in entry["commands"]:
        text.append(f"`{command['command']}`, {command['seconds']:.0f} s")
        if command["why_not"]:
            text.append(f"\n**Not run: {command['why_not']}.**\n")
            continue
        sentinels = _sentinels(command["result"])
        text.append(f"  \n{sentinels}\n" if sentinels else "")
        found = said.get(command["name"])
        for table in found if found is not None else tables.of_result(command["name"], command["result"]):
            text.append(tables.markdown(table))
    return "\n".join(text)


def _list(title, pairs, otherwise):
    text = [f"### {title}\n"]
    text += [f"- {name}: {words}" for name, words in pairs] or [otherwise]
    return "\n".join(text) + "\n"


def markdown(run, plots=(), why_no_plots=None):
    machine, targets = run["machine"], run["targets"]
    count = {state: sum(entry["met"] is state for entry in targets) for state in (True, False, None)}
    command = " ".join(["scripts/bench", *(shlex.quote(one) for one in run["arguments"])])
    text = [
        "# sanpoll beside its peers\n",
        f"Made by `{command}` on {machine['date']} in {clock(run['seconds'])} min, revision "
        f"{_revision(machine['sanpoll'])}." + (" The user interrupted it." if run["interrupted"] else "") + "\n",
        f"**{count[True]} of {len(targets)} targets met, {count[False]} missed, {count[None]} not measured.**\n",
    ]
    text += [f"> {remark}" if index == 0 else f">\n> {remark}" for index, remark in enumerate(machines.remarks(machine))]
    text.append("\n## Targets\n")
    text.append(tables.markdown(targets_table(targets)))
    failed = suite.missing(run)
    if failed or run["not_asked_for"]:
        text.append("### Not run\n")
        text += [f"- {part}, {command}: {why}" for part, command, why in failed]
        text += [f"- {name}: not asked for" for name in run["not_asked_for"]]
        text.append("")
    text.append("## Machine\n")
    text.append(tables.markdown(_machine_table(machine)))
    noise = [row for result in suite.results_of(run).get("tail", {}).values() for row in figures.rows(result, "noise")]
    if noise:
        text.append("### Its noise floor: what cores that only spin lose\n")
        text.append(tables.markdown(tables.of_rows("", noise)))
    text.append("## Peers\n")
    text.append(tables.markdown(Table("", ["peer", "version", "from"], [
        [peer["name"], peer["version"] or "not installed", peer["source"] or "-"] for peer in run["peers"]])))
    text.append(_list("Skipped", skipped_peers(run), "None."))
    text.append(_list("How each is configured", configurations(run), "The programs that ran say nothing about it."))
    text.append("## Method\n")
    text.append(METHOD)
    text += [_part(entry) for entry in run["parts"]]
    text.append("\n## Plots\n")
    text += [f"![{title}]({name})" for title, name in plots] or [why_no_plots or "Nothing to draw."]
    text.append("\n## How the targets' values are computed\n")
    text += [f"- {entry['name']}: {entry['how']}." for entry in targets]
    return "\n".join(text) + "\n"

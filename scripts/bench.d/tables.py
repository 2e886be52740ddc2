"""Tables of the report, as data and as Markdown."""
import re
from typing import List, NamedTuple

import figures

# Keys that no column shows: rounds become a range, the others are for plots.
HIDDEN = ("rounds", "histogram", "configuration")


class Table(NamedTuple):
    title: str
    columns: List[str]
    rows: List[list]
    notes: List[str] = []


def three_digits(value):
    """A number for people: three significant digits, no exponent."""
    value = figures.number(value)
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    size = abs(value)
    for limit, digits in ((0.995, 3), (9.995, 2), (99.95, 1)):
        if size < limit:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def rate(value):
    """Something a second: M, k."""
    value = figures.number(value)
    if value is None:
        return "-"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{three_digits(value / factor)} {letter}"
    return three_digits(value)


def size_name(size):
    for factor, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def cell(key, value):
    """A value of a program's JSON under that key, for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if key.endswith("per_second"):
        return rate(value)
    return three_digits(value)


def _scalars(row):
    """The columns of one row. A nested object of numbers (such as quantiles) gives one column for each."""
    shown = {}
    for key, value in row.items():
        if key in HIDDEN or isinstance(value, list):
            continue
        if isinstance(value, dict):
            shown.update({f"{key} {name}": inner for name, inner in value.items()
                          if not isinstance(inner, (dict, list))})
        else:
            shown[key] = value
    return shown


# How keys of figures end; what has none of these describes the row.
UNITS = ("_ns", "_us", "_ms", "per_second", "_kib", "per_connection", "per_message", "instructions", "ratio", "to_handoff",
         "to_alone", "to_plain_copy")


def _is_figure(key, value):
    return figures.number(value) is not None and (key == "ns" or key.endswith(UNITS))


def _ranges(row):
    """{figure: (least, most) of its rounds}"""
    found = {}
    for key, value in _scalars(row).items():
        if _is_figure(key, value):
            spread = figures.sample(row, key).spread()
            if spread and spread[0] <= value <= spread[1]:
                found[key] = spread
    # A plain list of rounds belongs to one figure, the first that lies within it.
    if isinstance(row.get("rounds"), list) and any(figures.number(one) is not None for one in row["rounds"]):
        plain = [key for key in found if key + "_rounds" not in row]
        found = {key: spread for key, spread in found.items() if key not in plain[1:]}
    return found


def _in_order(keys):
    """Figures as they come, but those that differ only in their quantile together, the median first and the greatest last."""
    def base_and_share(key):
        found = re.search(r"(?:^|_)(p\d+|max)(?=_)", key)
        if not found:
            return key, 0.0
        return key.replace(found[1], "", 1), 1.0 if found[1] == "max" else float("0." + found[1][1:])
    bases = [base_and_share(key)[0] for key in keys]
    return sorted(keys, key=lambda key: (bases.index(base_and_share(key)[0]), base_and_share(key)[1]))


def of_rows(title, all_rows):
    """Any array of flat results as a table, one column a key: what describes the row, figures, ranges of their rounds."""
    columns = {}
    for row in all_rows:
        for key, value in _scalars(row).items():
            columns[key] = columns.get(key, False) or _is_figure(key, value)
    columns = {key: kind for key, kind in columns.items() if any(_scalars(row).get(key) is not None for row in all_rows)}
    ranges = [_ranges(row) for row in all_rows]
    header, getters = [], []
    for is_figure in (False, True):
        words = [key for key in columns if columns[key] is is_figure]
        if not is_figure:  # names before numbers
            words.sort(key=lambda key: not any(isinstance(row.get(key), str) for row in all_rows))
        else:
            words = _in_order(words)
        for key in words:
            header.append(key.replace("_", " "))
            getters.append(lambda row, _, key=key: cell(key, _scalars(row).get(key)))
            if any(key in one for one in ranges):
                header.append("range")
                getters.append(lambda _, spreads, key=key: f"{cell(key, spreads[key][0])} - {cell(key, spreads[key][1])}"
                               if key in spreads else "-")
    return Table(title, header, [[getter(row, spreads) for getter in getters] for row, spreads in zip(all_rows, ranges)])


def of_result(command, result):
    """A table for every array of objects in a program's JSON, the results first. Not for the sentinels, which are told in
    words, nor for a program's own targets: the suite judges."""
    tables = []
    for key, value in sorted(result.items(), key=lambda item: item[0] != "results"):
        if key in ("sentinels", "targets", "skipped", "missing") or not isinstance(value, list) or not value:
            continue
        if all(isinstance(row, dict) for row in value) and any(_scalars(row) for row in value):
            tables.append(of_rows(f"{command}: {key.replace('_', ' ')}" if key != "results" else command, value))
    return tables


def escape(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def markdown(table):
    lines = [f"**{escape(table.title)}**", ""] if table.title else []
    lines.append("| " + " | ".join(escape(column) for column in table.columns) + " |")
    lines.append("|" + "---|" * len(table.columns))
    lines += ["| " + " | ".join(escape(one) for one in row) + " |" for row in table.rows]
    if table.notes:
        lines += [""] + [note for note in table.notes]
    return "\n".join(lines) + "\n"

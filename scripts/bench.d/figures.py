"""Arithmetic over what programs measured: medians, spreads, ratios, and rows picked out of their JSON.

Nothing here makes a figure up: what was not measured is None, and None goes through everything.
"""
from statistics import median


def number(value):
    """The value if it is a finite number, else None. JSON's true is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if value == value and abs(value) != float("inf") else None


def rows(result, name="results"):
    """The array of that name in a program's JSON; [] without one."""
    found = result.get(name) if isinstance(result, dict) else None
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def pick(all_rows, **wanted):
    """Rows whose keys have the wanted values. A tuple or set allows any of its values."""
    def fits(row):
        for key, value in wanted.items():
            allowed = value if isinstance(value, (tuple, set, frozenset)) else (value,)
            if row.get(key) not in allowed:
                return False
        return True
    return [row for row in all_rows if fits(row)]


def first(all_rows, **wanted):
    """The first such row, or {}."""
    found = pick(all_rows, **wanted)
    return found[0] if found else {}


def per_round(row, key):
    """The rounds' values of a figure, None where the host moved the CPUs meanwhile, unless it always did.

    They are in row[KEY_rounds] or row[rounds_KEY], or in row["rounds"]: numbers, or objects that have the key.
    """
    rounds = row.get("rounds") if isinstance(row.get("rounds"), list) else []
    moved = [isinstance(one, dict) and one.get("moved") is True for one in rounds]
    own = row.get(key + "_rounds") or row.get("rounds_" + key)
    if isinstance(own, list):
        values = [number(one) for one in own]
    else:
        values = [number(one.get(key)) if isinstance(one, dict) else number(one) for one in rounds]
    if len(moved) != len(values) or all(moved):
        return values
    return [None if gone else value for value, gone in zip(values, moved)]


class Sample:
    """One figure: its median over the rounds, and the rounds' values as far as the program tells them."""

    def __init__(self, value, rounds=()):
        self.rounds = [number(one) for one in rounds]
        there = [one for one in self.rounds if one is not None]
        self.value = number(value)
        if self.value is None and there:
            self.value = median(there)

    def __bool__(self):
        return self.value is not None

    def spread(self):
        """(least, most) of the rounds, or None if there is one at most."""
        there = [one for one in self.rounds if one is not None]
        return (min(there), max(there)) if len(there) > 1 else None

    def scaled(self, factor):
        if not self:
            return self
        return Sample(self.value * factor, [None if one is None else one * factor for one in self.rounds])


def sample(row, key, round_key=None):
    """The figure `key` of a row with its rounds, which may call it otherwise."""
    return Sample(row.get(key), per_round(row, round_key or key))


def ratio(over, under):
    """over / under. Where both were measured in the same rounds, three or more, the median of the rounds' ratios: fewer
    have no middle that a stalled round could not shift."""
    if not over or not under or under.value <= 0:
        return Sample(None)
    each = []
    if len(over.rounds) == len(under.rounds):
        each = [a / b for a, b in zip(over.rounds, under.rounds) if a is not None and b]
    return Sample(median(each) if len(each) > 2 else over.value / under.value, each)


def best(named, least):
    """(name, sample) of the best one: the least or else the greatest; None if there is none."""
    there = [(name, one) for name, one in named if one]
    if not there:
        return None
    choose = min if least else max
    return choose(there, key=lambda pair: pair[1].value)


def quantile(histogram, share):
    """The value that a share of [[upper end, count], ...] does not exceed; None of nothing."""
    total = sum(count for _, count in histogram)
    if total == 0:
        return None
    wanted, seen = share * total, 0
    for upper, count in histogram:
        seen += count
        if seen >= wanted:
            return upper
    return histogram[-1][0]

"""The parts of the suite, in the order in which they run.

A part is a module with NAME, TITLE, ABOUT (what it measures, in words) and commands(plan), the list of programs that it
runs. One that says more than the tables which every array of results gets has tables(results) as well, where `results`
maps the names of its commands to their JSON.
"""
from typing import NamedTuple, Optional

from . import calls, connect, memory, messages, rdma, rings, scale, tail

ALL = (rings, messages, rdma, memory, scale, connect, tail, calls)
NAMES = tuple(part.NAME for part in ALL)


class Plan(NamedTuple):
    """How much is measured. `rounds` overrides what each program would take."""
    quick: bool = False
    rounds: Optional[int] = None

    def pick(self, quick, full):
        return quick if self.quick else full

    def round_arguments(self, quick=None, full=None):
        """["--rounds", N], or nothing where the program's own number is to hold."""
        number = self.rounds or self.pick(quick, full)
        return ["--rounds", str(number)] if number else []


def named(name):
    return ALL[NAMES.index(name)]

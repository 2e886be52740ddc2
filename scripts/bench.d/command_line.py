"""The command line of scripts/bench."""
import argparse
import os
import sys
from typing import NamedTuple, Optional, Tuple

import parts


class Options(NamedTuple):
    output: str
    names: Tuple[str, ...]  # of the parts to run, in the suite's order
    quick: bool
    rounds: Optional[int]
    setup: bool
    build: bool
    programs: Optional[str]  # folder; None: the release build's
    listing: bool
    report: Optional[str]  # folder of a run whose report is made anew


class _Parser(argparse.ArgumentParser):
    """Refuses in one line."""

    def error(self, message):
        sys.stderr.write(f"scripts/bench: {message} (--help lists the options)\n")
        raise SystemExit(2)


def _part(text):
    if text not in parts.NAMES:
        raise argparse.ArgumentTypeError(f"unknown part '{text}'; there are {', '.join(parts.NAMES)}")
    return text


def _rounds(text):
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 1000")
    return int(text)


def parse(arguments):
    parser = _Parser(
        prog="scripts/bench", allow_abbrev=False,
        description="Measures sanpoll on this machine beside its peers. Writes bench.json, report.md and plots.",
        epilog="Exit status: 0; 1 if a part could not be run in full (the report says which and why); 2 for a wrong option. "
               "A target that was missed is no failure: the report says so.")
    parser.add_argument("--quick", action="store_true",
                        help="fewer samples: under five minutes without the build, instead of some ten minutes")
    parser.add_argument("--output", metavar="DIR", default=None,
                        help="where results go; made if it is not there (default: build/bench/DATE-TIME)")
    parser.add_argument("--only", metavar="PART", type=_part, action="append", default=[],
                        help="run this part; may be given several times (default: all)")
    parser.add_argument("--list", action="store_true", dest="listing", help="list the parts and stop")
    parser.add_argument("--rounds", metavar="N", type=_rounds, default=None,
                        help="rounds of each measurement, instead of each program's own number")
    parser.add_argument("--no-setup", action="store_true", help="install no packages")
    parser.add_argument("--no-build", action="store_true", help="take build/release as it is")
    parser.add_argument("--programs", metavar="DIR", default=None,
                        help="measure with the programs of this folder instead of building them")
    parser.add_argument("--report", metavar="DIR", default=None,
                        help="measure nothing: judge DIR/bench.json again, and write its report and plots anew")
    given = parser.parse_args(arguments)
    names = tuple(name for name in parts.NAMES if not given.only or name in given.only)
    return Options(os.path.abspath(given.output) if given.output else "", names, given.quick, given.rounds,
                   not given.no_setup, not given.no_build and not given.programs, given.programs, given.listing,
                   given.report)

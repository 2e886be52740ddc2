"""One program of a part: how it is called, run, and what came of it."""
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from typing import Callable, Dict, NamedTuple, Optional, Sequence

SHORTEST_LIMIT = 60  # seconds that any program may take
JSON = "{json}"  # in a command's arguments: the file that the program writes its JSON into


class Command(NamedTuple):
    """`argv[0]` is a program of build/release/bin, a path, or one found in PATH.

    `seconds` is about how long it takes; four times that, and a minute at least, is how long it may take.
    `read` turns what the program wrote into the result: the JSON as it is, unless given.
    """
    name: str
    argv: Sequence[str]
    seconds: float
    environment: Dict[str, str] = {}
    read: Optional[Callable[[dict], dict]] = None


class Outcome(NamedTuple):
    """`why` is None if there is a result."""
    command: Command
    result: Optional[dict]
    why: Optional[str]
    seconds: float
    shown: str  # the command line, for the reader

    def json(self):
        return {"name": self.command.name, "command": self.shown, "seconds": round(self.seconds, 1),
                "why_not": self.why, "result": self.result}


def find(name, folder):
    """The path of a program, or None."""
    if os.sep in name:
        return name if os.access(name, os.X_OK) else None
    for place in [folder] + os.environ.get("PATH", "").split(os.pathsep):
        path = os.path.join(place, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def _last_line(text):
    """What it said last, without the advice that option parsers add."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Run with --help")]
    return lines[-1].rstrip(".") if lines else "it said nothing"


def _kill(process):
    """The program and everything that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _why(status, said):
    if status is None:
        return f"it was killed after its time limit; its last words: {_last_line(said)}"
    if status < 0:
        return f"it ended by signal {signal.Signals(-status).name}: {_last_line(said)}"
    return f"it ended with status {status}: {_last_line(said)}"


def _shown(command):
    words = [f"{name}={shlex.quote(value)}" for name, value in sorted(command.environment.items())]
    return " ".join(words + [shlex.quote(one.replace(JSON, "FILE")) for one in command.argv])


def not_run(command, why):
    return Outcome(command, None, why, 0, _shown(command))


def run(command, folder, wait=None):
    """Runs it. `wait(process)` is called again and again until the program ends, and may take a second each time.

    KeyboardInterrupt kills the program and goes on its way.
    """
    shown = _shown(command)
    path = find(command.argv[0], folder)
    if path is None:
        return not_run(command, f"the program {command.argv[0]} is not there")
    with tempfile.TemporaryDirectory(prefix="sanpoll-bench-") as scratch:
        output = os.path.join(scratch, "result.json")
        argv = [path] + [argument.replace(JSON, output) for argument in command.argv[1:]]
        start = time.monotonic()
        limit = max(SHORTEST_LIMIT, 4 * command.seconds)
        with open(os.path.join(scratch, "said"), "w+", encoding="utf-8", errors="replace") as said:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                       env={**os.environ, **command.environment}, start_new_session=True)
            status = None
            try:
                while status is None and time.monotonic() - start < limit:
                    if wait:
                        wait(process)
                    try:
                        status = process.wait(timeout=0.5)
                    except subprocess.TimeoutExpired:
                        pass
            finally:
                _kill(process)
            said.seek(0)
            words = said.read()
        seconds = time.monotonic() - start
        if status != 0:
            return Outcome(command, None, _why(status, words), seconds, shown)
        try:
            with open(output, encoding="utf-8") as file:
                result = json.load(file)
            result = command.read(result) if command.read else result
        except (OSError, ValueError, KeyError, TypeError) as fault:
            return Outcome(command, None, f"its JSON cannot be read: {fault}", seconds, shown)
    return Outcome(command, result, None, seconds, shown)

"""Says how far the suite is: on a terminal one line that changes, elsewhere a line at each beginning and end."""
import sys
import time


def clock(seconds):
    seconds = max(0, int(seconds + 0.5))
    return f"{seconds // 60}:{seconds % 60:02d}"


class Progress:
    """`total` is the estimate of all commands together, in seconds."""

    def __init__(self, total, out=sys.stderr):
        self._out = out
        self._live = out.isatty()
        self._start = time.monotonic()
        self._left = total
        self._label = ""
        self._estimate = 0
        self._began = self._start

    def begin(self, label, estimate):
        self._label, self._estimate, self._began = label, estimate, time.monotonic()
        if not self._live:
            self._line(f"{label} ...")

    def tick(self, _process=None):
        if self._live:
            self._out.write("\r\x1b[K" + self._words(self._label))
            self._out.flush()

    def end(self, word):
        self._left = max(0, self._left - self._estimate)
        taken = clock(time.monotonic() - self._began)
        self._estimate = 0
        if self._live:
            self._out.write("\r\x1b[K")
        self._line(f"{self._label}: {word}, {taken}")

    def _words(self, text):
        now = time.monotonic()
        spent = min(self._estimate, now - self._began)
        return f"[{clock(now - self._start)}, about {clock(self._left - spent)} left] {text}"

    def _line(self, text):
        self._out.write(self._words(text) + "\n")
        self._out.flush()

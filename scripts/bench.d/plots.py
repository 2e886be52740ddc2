"""Plots as SVG. Needs matplotlib; without it there are none, and draw() says so."""
import os

import figures
import readings
from tables import size_name

try:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
except ImportError:
    matplotlib = None

WHY_NOT = "matplotlib is not installed (Debian: python3-matplotlib): no plots."

# Ours stand out; each peer keeps its colour in all plots.
COLOURS = ("#7f7f7f", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#ff7f0e")
OUR_COLOURS = {"shm": "#d62728", "shm-arena": "#7b0f10"}

# Shares on the axis of quantile_points().
QUANTILE_TICKS = [(2, "50 %"), (10, "90 %"), (100, "99 %"), (1000, "99.9 %"), (10000, "99.99 %")]


def _style(names):
    """{name: arguments of a line}"""
    style, others = {}, sorted(name for name in names if name not in OUR_COLOURS)
    for name in names:
        if name in OUR_COLOURS:
            style[name] = {"color": OUR_COLOURS[name], "linewidth": 2.2, "zorder": 5}
        else:
            number = others.index(name)
            style[name] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.2,
                           "linestyle": "-" if number < len(COLOURS) else "--"}
    return style


def _lines(series, path, title, across, up, logs, ticks=None):
    """series: {name: [(x, y)]}. Saves one plot; nothing where there is no point. Distributions have no markers."""
    series = {name: points for name, points in series.items() if points}
    if not series:
        return False
    figure, axes = pyplot.subplots(figsize=(8, 4.8))
    style = _style(list(series))
    for name, points in series.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=name,
                  marker=None if ticks is QUANTILE_TICKS else "o", markersize=3.5, **style[name])
    for axis, logarithmic in zip("xy", logs):
        if logarithmic:
            getattr(axes, f"set_{axis}scale")("log")
    if not logs[1]:
        # From zero: a difference is not to look larger than it is.
        axes.set_ylim(0, 1.1 * max(y for points in series.values() for _, y in points))
    if ticks:
        axes.set_xticks([at for at, _ in ticks], [words for _, words in ticks])
        axes.minorticks_off()
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.grid(True, which="major", linewidth=0.4)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    return True



def quantile_points(histogram, scale=1.0):
    """[(1 / (1 - share), value)] of [[upper end, count], ...]: on a logarithmic axis each decade is another nine."""
    total = sum(count for _, count in histogram)
    points, seen = [], 0
    for upper, count in histogram:
        seen += count
        left = total - seen
        share = 1 / (left / total) if left else float(total)
        if share <= 20000:
            points.append((share, upper * scale))
    return points


def _by_size(results, key, scale):
    """{transport: [(size, figure)]}, spinning and inline. Size 0 cannot stand on a logarithmic axis."""
    series = {}
    names = sorted({row.get("transport") for row in readings.message_rows(results)} - {None})
    for name in names:
        for size in sorted({row["size"] for row in figures.pick(readings.message_rows(results), transport=name)
                            if row.get("size")}):
            found = readings.message_figure(readings.message_row(results, name, size), key)
            if found:
                series.setdefault(name, []).append((size, found.value * scale))
    return series


def _size_ticks(series):
    return [(size, size_name(size)) for size in sorted({x for points in series.values() for x, _ in points})]


def _latency(results, path):
    series = {}
    for name in sorted({row.get("transport") for row in readings.message_rows(results)} - {None}):
        row = readings.message_row(results, name, 64)
        if row.get("histogram"):
            series[name] = quantile_points(row["histogram"], 0.5)
    return _lines(series, path, "Half round trip of 64 B: distribution", "share of the messages that took no longer",
                  "ns", (True, True), QUANTILE_TICKS)


def _over_size(key, scale, title, up, results, path):
    series = _by_size(results, key, scale)
    return _lines(series, path, title, "message", up, (True, True), _size_ticks(series))


def _connections(results, path):
    series = {name: sorted((max(1, connections), value) for connections, value in readings.idle_rows(results, key))
              for name, key in (("shm", "idle"), ("dedicated mode", "idle_dedicated"))}
    return _lines(series, path, "Half round trip of 64 B of one busy connection among idle ones",
                  "idle connections", "ns", (True, False))


def _busy(results, path):
    found = readings.busy_rows(results)
    return _lines({"shm": [(count, value / 1e6) for count, value in sorted(found)]}, path,
                  "Messages a second over busy connections, round robin", "busy connections", "million messages a second",
                  (True, False))


def _tail(results, path):
    series = {}
    for row in figures.rows(readings.result_of(results, "tail", "tail")):
        if row.get("bytes") == 64 and row.get("histogram"):
            series[f"{row.get('load_percent')} % of the peak rate"] = quantile_points(row["histogram"])
    noise = readings.machine_histogram(results, 50)
    if noise:
        series["the machine alone, 50 %"] = quantile_points(noise)
    return _lines(series, path, "Paced messages of 64 B: round trip from the moment when each was due",
                  "share of the messages that took no longer", "ns", (True, True), QUANTILE_TICKS)


# File, title for the report, what draws it.
PLOTS = (
    ("latency_distribution.svg", "Half round trip of 64 B, distribution", _latency),
    ("latency_over_size.svg", "Half round trip over message size",
     lambda *given: _over_size("half_p50_ns", 1, "Median half round trip", "ns", *given)),
    ("message_rate.svg", "Message rate over message size",
     lambda *given: _over_size("messages_per_second", 1e-6, "Message rate", "million messages a second", *given)),
    ("bandwidth.svg", "Bandwidth over message size",
     lambda *given: _over_size("bytes_per_second", 1e-9, "Bandwidth", "GB/s", *given)),
    ("idle_connections.svg", "One busy connection among idle ones", _connections),
    ("busy_connections.svg", "Message rate over busy connections", _busy),
    ("paced_tail.svg", "Tail of paced load", _tail),
)


def draw(results, folder):
    """([(title, file)] of what was drawn, why nothing could be). What was not measured is not drawn."""
    if matplotlib is None:
        return [], WHY_NOT
    matplotlib.rcParams["svg.hashsalt"] = "sanpoll"
    drawn = [(title, name) for name, title, plot in PLOTS if plot(results, os.path.join(folder, name))]
    return drawn, None if drawn else "Nothing that a plot is made of was measured."

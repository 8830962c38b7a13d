"""The report's charts as SVG: every mark tells its numbers, and grey is enough to read them."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lab.results import USERS, Estimate, Load, Point
from lab.text import count, digits, ms, users

SVG = "http://www.w3.org/2000/svg"
WIDTH = 8.65  # inches: 830 CSS pixels, as wide as GitHub shows a README
INK, REFUSED = "#1b2a41", "#c8553d"
# Neighbours differ in grey, too.
COLOURS = (INK, "#5b8fb9", "#d9a441", "#e8e4d8", "#3f6f5f", "#8f8f8f", REFUSED, "#ffffff")
SERIES = (INK, "#5b8fb9", "#d9a441", "#3f6f5f")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
# No dots: each would be a curve of its own, 60 KB in a chart.
HATCHES = ("", "--", "", "xx", "++", "\\\\", "////", "")
LEGEND = 120  # letters in a line of a legend
FINER = re.compile(r"( \d+\.\d\d)\d+")  # coordinates with more than a hundredth of a pixel
MOST_TIPS = 120  # of a series; more would be narrower than a pixel or two

mpl.rcParams |= {
    "svg.fonttype": "none",  # text stays text: small files, and the reader's own font
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": "#666666",
    "grid.color": "#e4e4e4",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
}
_thousands = FuncFormatter(lambda value, _: f"{value:,.6g}")

for prefix, uri in (("", SVG), ("xlink", "http://www.w3.org/1999/xlink")):
    ElementTree.register_namespace(prefix, uri)


class Chart:
    """A figure with tooltips: SVG's <title>, which matplotlib does not write itself."""

    def __init__(
        self, rows: int = 1, columns: int = 1, height: float = 3.0, **shared: str | bool
    ) -> None:
        self._figure = Figure(figsize=(WIDTH, height), layout="constrained")
        self.axes = self._figure.subplots(rows, columns, squeeze=False, **shared)
        self._tips: dict[str, Sequence[str]] = {}

    def tip(self, artist: Artist, texts: Sequence[str]) -> None:
        """Give each mark of an artist (one for a bar, as many as points for a line) its text."""
        gid = f"tip-{len(self._tips)}"
        artist.set_gid(gid)
        self._tips[gid] = texts

    def legend(self, *axes: Axes) -> None:
        entries = [axis.get_legend_handles_labels() for axis in axes]
        handles, labels = (list(chain(*lists)) for lists in zip(*entries, strict=True))
        rows = -(-sum(len(label) + 8 for label in labels) // LEGEND)
        columns = -(-len(labels) // rows)
        self._figure.legend(handles, labels, loc="outside upper left", ncols=columns)

    def save(self, path: Path, title: str) -> None:
        """Write an SVG whose title is what a screen reader says of it."""
        for axis in self.axes.flat:
            if not axis.has_data():
                axis.remove()
        buffer = io.StringIO()
        # Several charts stand in one page, so each has ids of its own, the same ones every time.
        with mpl.rc_context({"svg.hashsalt": path.stem}):
            self._figure.savefig(buffer, format="svg")
        root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - our own text
        root.remove(root.find(f"{{{SVG}}}metadata"))
        root.set("role", "img")
        root.set("aria-label", title)
        for group in root.iter(f"{{{SVG}}}g"):
            texts = self._tips.get(group.attrib.pop("id", ""))
            if texts:
                for mark, text in zip(_marks(group)[-len(texts) :], texts, strict=True):
                    ElementTree.SubElement(mark, f"{{{SVG}}}title").text = text
        text = ElementTree.tostring(root, encoding="unicode")
        path.write_text(FINER.sub(r"\1", text) + "\n")


def _marks(group: ElementTree.Element) -> list[ElementTree.Element]:
    """What is drawn, a line before its points; shapes with an id are only definitions."""
    shapes = {f"{{{SVG}}}use", f"{{{SVG}}}path"}
    return [mark for mark in group.iter() if mark.tag in shapes and mark.get("id") is None]


def capacity(
    path: Path, panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]], title: str
) -> None:
    """Users with their intervals, by panel, lever and series; an arrow says "at least"."""
    levers = list(dict.fromkeys(lever for rows in panels.values() for lever in rows))
    series = list(
        dict.fromkeys(name for rows in panels.values() for row in rows.values() for name in row)
    )
    several = len(series) > 1
    height = 1.0 + len(levers) * (0.11 * len(series) + 0.1)
    chart = Chart(1, len(panels), height=height, sharey=True, sharex=True)
    for axis, rows in zip(chart.axes[0], panels.values(), strict=True):
        for index, one in enumerate(series):
            shift = (index - (len(series) - 1) / 2) * 0.72 / len(series)
            marks = {
                levers.index(lever) + shift: (f"{lever}, {one}" if several else lever, row[one])
                for lever, row in rows.items()
                if one in row
            }
            _intervals(chart, axis, marks, one, index)
    _lever_axes(chart.axes[0], panels, levers, "users")
    if several:
        chart.legend(chart.axes[0, 0])
    chart.save(path, title)


def _intervals(
    chart: Chart, axis: Axes, marks: Mapping[float, tuple[str, Estimate]], series: str, index: int
) -> None:
    colour = SERIES[index % len(SERIES)]
    for y, (_, estimate) in marks.items():
        if estimate.low is not None and not estimate.at_least:
            axis.hlines(y, estimate.low, estimate.high, color=colour, linewidth=1.6)
            axis.plot([estimate.low, estimate.high], [y, y], "|", color=colour, markersize=5)
        if estimate.at_least:
            axis.annotate(
                "",
                (estimate.mean, y),
                (18, 0),
                textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": colour},
            )
    (points,) = axis.plot(
        [estimate.mean for _, estimate in marks.values()],
        list(marks),
        MARKERS[index % len(MARKERS)],
        color=colour,
        markerfacecolor="white" if index % 2 else colour,
        markersize=5.5,
        label=series,
    )
    chart.tip(points, [f"{lever}: {users(e)} users" for lever, e in marks.values()])


def over_users(path: Path, panels: Mapping[str, Load], title: str) -> None:
    """Goodput against users, what was refused on top of it, and the model's curve."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    chart = Chart(rows, columns, height=2.4 * rows + 0.4)
    for axis, (name, load) in zip(chart.axes.flat, panels.items(), strict=False):
        numbers = [point["users"] for point in load.curve]
        goodput = [point["goodput"] for point in load.curve]
        sent = [point["goodput"] + point["failed"] for point in load.curve]
        _refused(axis, numbers, goodput, sent)
        (line,) = axis.plot(numbers, goodput, "o-", color=INK, markersize=4, label="goodput")
        chart.tip(
            line,
            [
                f"{count(p['users'])} users: goodput {count(p['goodput'])}/s, "
                f"failed {count(p['failed'])}/s, p95 {ms(p['p95_ms'])}"
                for p in load.curve
            ],
        )
        if load.law:
            steps = [max(numbers) * step / 60 for step in range(1, 61)]
            predicted = [load.law.predict(step / USERS) for step in steps]
            axis.plot(steps, predicted, "--", color="#666666", label="model")
        if load.capacity:
            axis.axvline(load.capacity, color=INK, linestyle=":", label="capacity")
        axis.set_title(name)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_formatter(_thousands)
        axis.yaxis.set_major_formatter(_thousands)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_xlabel("users")
        axis.set_ylabel("requests/s")
    chart.legend(chart.axes[0, 0])
    chart.save(path, title)


def over_time(path: Path, panels: Mapping[str, Point], title: str) -> None:
    """Goodput, failures and percentiles of cells second by second; the window is grey."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    chart = Chart(2 * rows, columns, height=4.6 * rows)
    for index, (name, cell) in enumerate(panels.items()):
        row, column = divmod(index, columns)
        rates, times = chart.axes[2 * row : 2 * row + 2, column]
        rates.set_title(name)
        rates.set_ylabel("requests/s")
        times.set_ylabel("response time, ms")
        _second_by_second(chart, rates, times, cell)
    chart.legend(chart.axes[0, 0], chart.axes[1, 0])
    chart.save(path, title)


def _second_by_second(chart: Chart, rates: Axes, times: Axes, cell: Point) -> None:
    series = [point for point in cell["series"] if point["t"] <= cell["window_ends"]]
    seconds = [point["t"] for point in series]
    goodput = [point["goodput"] for point in series]
    failed = _per_second([point["failed"] for point in series], seconds)
    sent = [good + bad for good, bad in zip(goodput, failed, strict=True)]
    _refused(rates, seconds, goodput, sent)
    rates.plot(seconds, goodput, color=INK, label="goodput")
    for order, percent in enumerate((50, 95, 99)):
        values = [_or_nan(point[f"p{percent}_ms"]) for point in series]
        times.plot(seconds, values, DASHES[order], color=COLOURS[order], label=f"p{percent}")
    _log_times(times)
    for axis in (rates, times):
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    rates.yaxis.set_major_formatter(_thousands)
    rates.set_ylim(bottom=0)
    times.set_xlabel("seconds since the start")
    _phases(rates, times, cell, series)
    tips = [
        f"{point['t']:.0f} s: {count(point['users'])} users, goodput {count(good)}/s, failed "
        f"{count(bad)}/s, p50 {ms(point['p50_ms'])}, p95 {ms(point['p95_ms'])}, "
        f"p99 {ms(point['p99_ms'])}"
        for point, good, bad in zip(series, goodput, failed, strict=True)
    ]
    for axis in (rates, times):
        _tips_along(chart, axis, seconds, tips)


def shares(
    path: Path,
    panels: Mapping[str, Mapping[str, Mapping[str, float]]],
    title: str,
    label: str,
    unit: str = "%",
) -> None:
    """Stacked bars by panel, lever and part."""
    levers = list(dict.fromkeys(lever for rows in panels.values() for lever in rows))
    every = [row for rows in panels.values() for row in rows.values()]
    parts = list(dict.fromkeys(name for row in every for name in row))
    chart = Chart(1, len(panels), height=1.2 + 0.26 * len(levers), sharey=True, sharex=True)
    for axis, (name, rows) in zip(chart.axes[0], panels.items(), strict=True):
        for lever, row in rows.items():
            left = 0.0
            for index, part in enumerate(parts):
                width = row.get(part, 0.0)
                if width > 0:
                    bar = _bar(axis, levers.index(lever), left, width, index)
                    chart.tip(bar, [f"{lever}, {name}: {part} {digits(width)} {unit}"])
                left += width
    _lever_axes(chart.axes[0], panels, levers, label)
    for index, part in enumerate(parts):
        if any(row.get(part) for row in every):
            _bar(chart.axes[0, 0], 0, 0, 0, index, label=part)  # for the legend
    chart.legend(chart.axes[0, 0])
    chart.save(path, title)


def _bar(
    axis: Axes, y: float, left: float, width: float, index: int, label: str | None = None
) -> Artist:
    (bar,) = axis.barh(
        *(y, width),
        height=0.7,
        left=left,
        color=COLOURS[index % len(COLOURS)],
        hatch=HATCHES[index % len(HATCHES)],
        edgecolor=INK,
        linewidth=0.5,
        label=label,
    )
    return bar


def open_loop(path: Path, panels: Mapping[str, Point], title: str) -> None:
    """p99 of response and service time of open loops, second by second."""
    chart = Chart(1, len(panels), height=2.8, sharey=True)
    for axis, (name, cell) in zip(chart.axes[0], panels.items(), strict=True):
        seconds = [point["t"] for point in cell["series"]]
        kinds = {"p99_ms": "response time, from when it was due"}
        kinds["service_p99_ms"] = "service time, from when it was sent"
        for index, (field, label) in enumerate(kinds.items()):
            values = [_or_nan(point[field]) for point in cell["series"]]
            axis.plot(seconds, values, DASHES[index], color=COLOURS[2 * index], label=label)
        tips = [
            f"{point['t']:.0f} s: response {ms(point['p99_ms'])}, "
            f"service {ms(point['service_p99_ms'])}"
            for point in cell["series"]
        ]
        _tips_along(chart, axis, seconds, tips)
        axis.set_title(name)
        axis.set_xlabel("seconds since the start")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _log_times(axis)
    chart.axes[0, 0].set_ylabel("p99, ms")
    chart.legend(chart.axes[0, 0])
    chart.save(path, title)


def _log_times(axis: Axes) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.yaxis.set_major_formatter(_thousands)
    axis.yaxis.set_minor_formatter(NullFormatter())


def _lever_axes(
    axes: Iterable[Axes], titles: Iterable[str], levers: Sequence[str], label: str
) -> None:
    """Panels with a line for each lever; call it when everything is drawn: it ends autoscaling."""
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
        axis.set_xlabel(label)
        axis.set_yticks(range(len(levers)), levers)
        axis.set_ylim(len(levers) - 0.5, -0.5)
        axis.margins(x=0.06)
        axis.set_xlim(left=0)
        axis.xaxis.set_major_formatter(_thousands)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        for border in range(1, len(levers)):
            axis.axhline(border - 0.5, color="#cccccc", linewidth=0.6)


def _refused(
    axis: Axes, x: Sequence[float], goodput: Sequence[float], sent: Sequence[float]
) -> None:
    """What was asked for and not answered right, on top of the goodput."""
    axis.fill_between(
        *(x, goodput, sent),
        facecolor="#f3d3c9",
        edgecolor=REFUSED,
        hatch="////",
        linewidth=0.5,
        label="refused or failed",
    )


def _phases(rates: Axes, times: Axes, cell: Point, series: Sequence[Point]) -> None:
    start, end = cell["window_starts"], cell["window_ends"]
    most = max(point["users"] for point in series)
    arrived = next(point["t"] for point in series if point["users"] == most)
    for axis in (rates, times):
        axis.axvspan(start, end, color="#efefef", zorder=0)
        axis.axvline(arrived, color="#666666", linestyle=":", linewidth=1)
    # One line lower: of a short warm-up the name is wider than the time.
    for x, name, line in ((0, "arrival", 1), (arrived, "warm-up", 2), (start, "window", 1)):
        rates.annotate(
            *(name, (x, 1)),
            xycoords=("data", "axes fraction"),
            xytext=(2, -9 * line),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
        )
    rates.set_ylim(top=1.25 * max(rates.get_ylim()[1], 1))  # room for these names


def _tips_along(chart: Chart, axis: Axes, x: Sequence[float], texts: Sequence[str]) -> None:
    """An unseen column at each x that tells its numbers wherever the pointer is in it."""
    step = -(-len(x) // MOST_TIPS)
    columns = axis.bar(
        x[::step], 1, width=1.0 * step, transform=axis.get_xaxis_transform(), alpha=0
    )
    for column, text in zip(columns, texts[::step], strict=True):
        chart.tip(column, [text])


def _per_second(counts: Sequence[float], times: Sequence[float]) -> list[float]:
    starts = [0.0, *times[:-1]]
    return [n / (end - start) for n, start, end in zip(counts, starts, times, strict=True)]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value

"""The report's charts: lines differ by dash and marker, bars by hatch, so that grey is enough."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

Result = Mapping[str, Any]

# From dark to light; neighbours differ in grey, too.
COLOURS = ("#1b2a41", "#c8553d", "#7a9e9f", "#e0c068", "#d9d9d9", "#6b4e71", "#a3b18a", "#f2e9e4")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--", "oo")
PANEL = (4.2, 3.0)  # inches
MAX_CONNECTIONS = 100  # PostgreSQL's, in the stack

mpl.rcParams |= {
    "svg.hashsalt": "weather",  # the same data make the same file
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}
_thousands = FuncFormatter(lambda value, _: f"{value:,.6g}")


def over_time(path: Path, results: Mapping[str, Result]) -> None:
    """Users, requests/s and response times of each pattern, second by second."""
    figure, axes = _panels(3, len(results), sharey="row", height=2.1)
    for column, (pattern, result) in enumerate(results.items()):
        users, rate, times = axes[:, column]
        start = result["window_starts"]
        end = start + result["window"]["seconds"]
        series = [point for point in result["series"] if point["t"] <= end]
        seconds = [point["t"] for point in series]
        users.plot(seconds, [point["users"] for point in series], color=COLOURS[0])
        rate.plot(seconds, [point["requests_per_second"] for point in series], color=COLOURS[0])
        for index, percent in enumerate((50, 95, 99)):
            values = [point[f"p{percent}_ms"] for point in series]
            times.plot(seconds, values, DASHES[index], color=COLOURS[index], label=f"p{percent}")
        for panel in (users, rate, times):
            panel.axvspan(start, end, color="#f0f0f0", zorder=0)
            panel.yaxis.set_major_formatter(_thousands)
        users.set_title(pattern)
        _log_milliseconds(times)
        times.set_xlabel("seconds since the start")
    for row, label in enumerate(("users", "requests/s", "response time, ms")):
        axes[row, 0].set_ylabel(label)
    _legend(figure, axes[2, 0])
    _save(figure, path)


def over_users(path: Path, curves: Mapping[str, Sequence[Result]]) -> None:
    """Requests/s and percentiles against the number of users, a line for each pattern."""
    figure, axes = _panels(1, 4, sharey=False)
    panels = [("requests_per_second", "requests/s")]
    panels += [(f"p{percent}_ms", f"p{percent}, ms") for percent in (50, 95, 99)]
    for axis, (field, label) in zip(axes[0], panels, strict=True):
        for index, (pattern, results) in enumerate(curves.items()):
            axis.plot(
                [result["cell"]["users"] for result in results],
                [result["window"][field] for result in results],
                DASHES[index % len(DASHES)],
                marker=MARKERS[index % len(MARKERS)],
                color=COLOURS[index],
                label=pattern,
            )
        axis.set_ylabel(label)
        axis.set_xlabel("users")
        axis.xaxis.set_major_formatter(_thousands)
        axis.yaxis.set_major_formatter(_thousands)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.margins(0.1)
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    _legend(figure, axes[0, 0])
    _save(figure, path)


def bars(
    path: Path,
    groups: Mapping[str, Mapping[str, Result]],
    value: Callable[[Result], float],
    label: str,
    limit: float | None = None,
) -> None:
    """One bar for each setting of the stack, a panel for each pattern; ``limit`` is a line."""
    figure, axes = _panels(1, len(groups), sharex="row")
    longest = max(value(result) for results in groups.values() for result in results.values())
    for axis, (pattern, results) in zip(axes[0], groups.items(), strict=True):
        values = [value(result) for result in results.values()]
        drawn = axis.barh(list(results), values, color=COLOURS[2], edgecolor="black", linewidth=0.6)
        axis.bar_label(drawn, [f"{number:,.0f}" for number in values], padding=2, fontsize=8)
        if limit is not None:
            axis.axvline(limit, color="black", linestyle="--", linewidth=1)
        _horizontal(axis, pattern, label)
    axes[0][0].set_xlim(0, 1.15 * max(longest, limit or 0, 1))  # room for the numbers
    _save(figure, path)


def shares(
    path: Path,
    groups: Mapping[str, Mapping[str, Result]],
    parts: Callable[[Result], Mapping[str, float]],
    label: str,
) -> None:
    """Stacked bars: what each part contributes, for each setting of the stack and pattern."""
    figure, axes = _panels(1, len(groups), sharex="row")
    split = {
        pattern: {name: parts(result) for name, result in results.items()}
        for pattern, results in groups.items()
    }
    names = list(
        dict.fromkeys(name for bars in split.values() for part in bars.values() for name in part)
    )
    for axis, (pattern, stacked) in zip(axes[0], split.items(), strict=True):
        left = [0.0] * len(stacked)
        for index, name in enumerate(names):
            widths = [part.get(name, 0.0) for part in stacked.values()]
            axis.barh(
                list(stacked),
                widths,
                left=left,
                color=COLOURS[index % len(COLOURS)],
                hatch=HATCHES[index % len(HATCHES)],
                edgecolor="black",
                linewidth=0.6,
                label=name,
            )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        _horizontal(axis, pattern, label)
    _legend(figure, axes[0, 0])
    _save(figure, path)


def open_loop(path: Path, results: Mapping[str, Result]) -> None:
    """Response and service time of each open loop, second by second: p99."""
    figure, axes = _panels(1, len(results))
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        seconds = [point["t"] for point in result["series"]]
        kinds = (("p99_ms", "response time (from when it was due)"),)
        kinds += (("service_p99_ms", "service time (from when it was sent)"),)
        for index, (field, label) in enumerate(kinds):
            values = [point[field] for point in result["series"]]
            axis.plot(seconds, values, DASHES[index], color=COLOURS[index], label=label)
        axis.set_title(name)
        axis.set_xlabel("seconds since the start")
        _log_milliseconds(axis)
    axes[0, 0].set_ylabel("p99, ms")
    _legend(figure, axes[0, 0])
    _save(figure, path)


def _panels(
    rows: int,
    columns: int,
    sharex: str | bool = False,
    sharey: str | bool = "row",
    height: float = PANEL[1],
) -> tuple[Figure, Any]:
    figure = Figure(figsize=(PANEL[0] * columns, height * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


def _horizontal(axis: Axes, title: str, label: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(label)
    axis.xaxis.set_major_formatter(_thousands)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.margins(x=0.15)
    axis.set_xlim(left=0)
    axis.grid(visible=False, axis="y")
    if not axis.yaxis_inverted():  # shared axes are inverted together
        axis.invert_yaxis()


def _log_milliseconds(axis: Axes) -> None:
    """0 ms (less than half a millisecond) has a place on the axis, too."""
    axis.set_yscale("symlog", linthresh=1)
    axis.set_ylim(bottom=0, auto=None)  # panels share it: one that follows may need a higher top
    axis.yaxis.set_major_formatter(_thousands)


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))


def _save(figure: Figure, path: Path) -> None:
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, metadata=metadata)

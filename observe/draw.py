"""Draws a dashboard's panels from a running Prometheus, where there is no Grafana to show them.

PYTHONPATH=simulate python observe/draw.py overview docs/observe.svg [--minutes 5]
"""

import argparse
import re
import time
from pathlib import Path
from typing import Any

from dashboards import FOLDER, Prometheus, load, queries
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lab.charts import DASHES, Chart

COLUMNS = 2
STEP = 5  # seconds; one scrape
UNITS = {
    "Bps": "bytes/s",
    "bytes": "bytes",
    "ops": "per second",
    "percentunit": "share",
    "reqps": "requests/s",
    "s": "seconds",
    "short": "",
}


def draw(prometheus: Prometheus, name: str, minutes: float, path: Path) -> None:
    """Write the dashboard's last minutes as SVG; KeyError for a unit that has no name here."""
    dashboard = load(name)
    variables = prometheus.variables(dashboard)
    panels = [panel for panel in dashboard["panels"] if panel["type"] == "timeseries"]
    rows = -(-len(panels) // COLUMNS)
    chart = Chart(rows, COLUMNS, height=2.1 * rows)
    end = time.time()
    for axis, panel in zip(chart.axes.flat, panels, strict=False):
        axis.set_title(panel["title"])
        axis.set_xlabel("seconds")
        axis.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]])
        right = _named_on_the_right(panel)
        lines, scales = [], [axis]
        for query in queries({"panels": [panel]}, variables):
            start = end - 60 * minutes
            answer = prometheus.get(
                "query_range", query=query.expr, start=start, end=end, step=STEP
            )
            scale = axis
            if query.legend in right:
                scale = axis.twinx()
                scale.set_ylabel(query.legend)
                scale.grid(visible=False)
                scales.append(scale)
            for series in answer["result"]:
                lines.append(_line(scale, query.legend, series, start, len(lines)))
                chart.tip(lines[-1], [lines[-1].get_label()])
        for scale in scales:
            scale.set_ylim(bottom=0)  # ends autoscaling, so after the last line
        axis.legend(handles=lines, fontsize=7, loc="upper left")
    chart.save(path, f"{dashboard['title']}: {dashboard['description']}")


def _named_on_the_right(panel: dict[str, Any]) -> set[str]:
    """Legends of the series that have the right-hand axis."""
    return {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}


def _line(axis: Axes, legend: str, series: dict[str, Any], start: float, index: int) -> Line2D:
    label = re.sub(r"{{(\w+)}}", lambda match: series["metric"].get(match[1], ""), legend)
    seconds = [at - start for at, _ in series["values"]]
    values = [float(value) for _, value in series["values"]]
    dash = DASHES[index % len(DASHES)]
    (line,) = axis.plot(seconds, values, dash, color=f"C{index}", label=label, linewidth=1.3)
    return line


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dashboard", choices=sorted(path.stem for path in FOLDER.glob("*.json")))
    parser.add_argument("path", type=Path, help="the SVG to write")
    parser.add_argument("--minutes", type=float, default=5, help="how far back (5)")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    options = parser.parse_args()
    draw(Prometheus(options.prometheus), options.dashboard, options.minutes, options.path)

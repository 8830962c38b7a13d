"""The dashboards' queries without Grafana: what stands in their files, what Prometheus answers."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
RATE_INTERVAL = "20s"  # what Grafana makes of $__rate_interval: four scrapes
LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Query:
    """One line, or set of lines, of a panel."""

    panel: str
    legend: str
    expr: str


def load(name: str) -> dict[str, Any]:
    """The dashboard in FOLDER/name.json."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def queries(dashboard: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Query]:
    """Every query with its variables resolved; KeyError for one that has no value."""
    values = {"__rate_interval": RATE_INTERVAL, **variables}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expr = re.sub(r"\$(\w+)", lambda match: values[match[1]], target["expr"])
            yield Query(panel["title"], target["legendFormat"], expr)


class Prometheus:
    """A Prometheus by its HTTP API (prometheus.io); OSError where it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: object) -> Any:
        """The data of an answer."""
        query = urlencode(parameters, doseq=True)
        with urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=10) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def variables(self, dashboard: Mapping[str, Any]) -> dict[str, str]:
        """Each variable of a dashboard as Grafana puts "All" into a query: a regular expression."""
        found = {}
        for variable in dashboard["templating"]["list"]:
            selector, label = LABEL_VALUES.fullmatch(variable["query"]["query"]).groups()
            values = self.get(f"label/{label}/values", **{"match[]": selector})
            found[variable["name"]] = "|".join(values)
        return found

"""When a run counts, and what is expected of one that does: all limits stand here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lab.plan import DEFAULTS, Cell

# A run is INVALID beyond these: its numbers would tell of the generator, not of the stack.
GENERATOR_CPU = 90.0  # percent of one CPU, mean over the window, of any process of the generator
COUNTS_APART = 0.005  # Locust's and nginx's numbers of requests, relative
WINDOW_SHORT = 0.9  # of the planned seconds


@dataclass(frozen=True)
class ServiceLevel:
    """What users may expect where ``applies`` says so."""

    name: str
    applies: Callable[[Cell], bool]
    p95_ms: float
    failures: int = 0


# What --find-limit looks for.
LIMIT = ServiceLevel("default settings", lambda cell: cell.levers == DEFAULTS.levers, p95_ms=250)
EDGE_OFF = ServiceLevel(
    "default settings, up to 1,000 users",
    lambda cell: LIMIT.applies(cell) and 0 < cell.users <= 1000,
    p95_ms=LIMIT.p95_ms,
)
EDGE_ON = ServiceLevel(
    "edge cache on, up to 10,000 users",
    lambda cell: cell.levers == replace(DEFAULTS, edge=True).levers and 0 < cell.users <= 10_000,
    p95_ms=100,
)
SERVICE_LEVELS = (EDGE_OFF, EDGE_ON)


def invalid(result: Mapping[str, Any]) -> list[str]:
    """Reasons why the numbers of a run are not to be used; none for a good run."""
    cell, plan, window = result["cell"], result["plan"], result["window"]
    reasons = []
    if not window["requests"]:
        return ["no request was measured"]
    for name, cpu in result["cpu"].items():
        if name.startswith("generator") and cpu["mean"] > GENERATOR_CPU:
            reasons.append(f"{name} used {cpu['mean']:.0f} % CPU, more than {GENERATOR_CPU:.0f} %")
    workers = 1 if cell["rate"] else plan["processes"]
    if window["fewest_workers"] < workers:
        reasons.append(f"{window['fewest_workers']} of {workers} workers were left")
    if window["fewest_users"] < cell["users"]:
        reasons.append(f"{window['fewest_users']} of {cell['users']} users were there")
    if window["seconds"] < WINDOW_SHORT * plan["seconds"]:
        reasons.append(f"{window['seconds']:.0f} s of {plan['seconds']} s were measured")
    total, logged = result["total"], result["nginx"]["requests"]
    sent = total["requests"] + total["cut_off"]
    if abs(sent - logged) > COUNTS_APART * max(sent, logged):
        reasons.append(f"the generator sent {sent} requests, nginx logged {logged}")
    wrong = [error for error in result["errors"] if "wrong answer" in error["error"]]
    reasons += [f"{error['count']} times: {error['error']}" for error in wrong]
    return reasons


def missed(result: Mapping[str, Any], levels: tuple[ServiceLevel, ...]) -> list[str]:
    """Service levels that apply to the cell and were not kept, each with the number."""
    cell, window = Cell(**result["cell"]), result["window"]
    problems = []
    for level in levels:
        if not level.applies(cell):
            continue
        if window["p95_ms"] > level.p95_ms:
            problems.append(f"{level.name}: p95 {window['p95_ms']:.0f} ms > {level.p95_ms:.0f} ms")
        if window["failures"] > level.failures:
            problems.append(f"{level.name}: {window['failures']} failures > {level.failures}")
    return problems

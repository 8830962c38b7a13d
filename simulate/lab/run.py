"""Runs the cells that are not measured yet, each on its own stack, and keeps the results."""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from processes import StackError

from lab import judge
from lab.machine import describe
from lab.measure import measure
from lab.plan import Cell, Plan, PlanError
from lab.stacks import MeasuredStack
from users.api import ApiError

FIRST_PROBE = 200  # users
PRECISION = 0.05  # of the limit, relative
SETTINGS = ("POOL_MINCONN", "POOL_MAXCONN", "CACHE_EXPIRY", "MEMORY_CACHE", "WEB_CONCURRENCY")


class Run:
    """Measures cells that are not measured yet, and keeps what came out of each."""

    def __init__(
        self, folder: Path, plan: Plan, make_stack: Callable[[Cell], MeasuredStack]
    ) -> None:
        self._cells = folder / "cells"
        self._cells.mkdir(parents=True, exist_ok=True)
        self._plan = plan
        self._make_stack = make_stack

    def known(self, cell: Cell) -> dict[str, Any] | None:
        """The result of a cell if it is there and valid; raises PlanError for another plan."""
        path = self._path(cell)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        if result["plan"] != asdict(self._plan):
            raise PlanError(f"{path} was measured with another plan: choose another --out")
        return None if result["invalid"] else result

    def result(self, cell: Cell) -> dict[str, Any]:
        """Measure a cell unless it is known."""
        return self.known(cell) or self._measure(cell)

    def _measure(self, cell: Cell) -> dict[str, Any]:
        started = time.time()
        with self._make_stack(cell) as stack:
            result = measure(cell, self._plan, stack)
            result["versions"] = stack.versions()
        result["machine"] = describe()
        result["settings"] = {name: os.environ[name] for name in SETTINGS if name in os.environ}
        result["took"] = time.time() - started
        path = self._path(cell)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(result, indent=1) + "\n")
        unfinished.rename(path)
        return result

    def _path(self, cell: Cell) -> Path:
        return self._cells / f"{cell.name}.json"


def run_all(run: Run, cells: Sequence[Cell], seed: int) -> bool:
    """Measure the cells in an order shuffled by the seed; whether all are good."""
    order = sorted(cells)
    random.Random(seed).shuffle(order)
    known = [result for cell in order if (result := run.known(cell))]
    missing = [cell for cell in order if not run.known(cell)]
    print(f"{len(order)} cells, {len(missing)} to measure", flush=True)
    good = not [result for result in known if not report_problems(result)]
    started = time.monotonic()
    for number, cell in enumerate(missing, 1):
        try:
            result = run.result(cell)
        except (StackError, ApiError) as error:
            print(f"{cell.name}: {error}", file=sys.stderr)
            good = False
            continue
        left = (time.monotonic() - started) / number * (len(missing) - number)
        print(f"[{number}/{len(missing)}, {_minutes(left)} left] {summary(result)}", flush=True)
        good = report_problems(result) and good
    return good


def report_problems(result: dict[str, Any]) -> bool:
    """Print why a run does not count or which service levels it missed; whether it is good."""
    problems = [f"INVALID: {reason}" for reason in result["invalid"]]
    problems = problems or judge.missed(result, judge.SERVICE_LEVELS)
    for problem in problems:
        print(f"    {Cell(**result['cell']).name}: {problem}", flush=True)
    return not problems


def summary(result: dict[str, Any]) -> str:
    """A line with the numbers of a run."""
    window = result["window"]
    return (
        f"{Cell(**result['cell']).name}: {window['requests_per_second']:,.0f} requests/s, "
        f"p50 {window['p50_ms'] or 0:.0f} ms, p95 {window['p95_ms'] or 0:.0f} ms, "
        f"{window['failures']} failures"
    )


def find_limit(holds: Callable[[int], bool]) -> int:
    """The highest number of users for which the service level holds, 0 if there is none.

    Doubles the users until it does not hold, then halves the distance until it is PRECISION.
    """
    good, bad = 0, FIRST_PROBE
    while holds(bad):
        good, bad = bad, bad * 2
    while bad - good > max(PRECISION * good, 10):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def search(run: Run, cell: Cell, level: judge.ServiceLevel, path: Path) -> int:
    """find_limit() by measuring; writes the probes and the limit to a file."""
    probes = []

    def holds(users: int) -> bool:
        result = run.result(replace(cell, users=users))
        reasons = result["invalid"] or judge.missed(result, (level,))
        probes.append({"users": users, "reasons": reasons, "p95_ms": result["window"]["p95_ms"]})
        print(f"{users:,} users: {summary(result)}; {'; '.join(reasons) or 'holds'}", flush=True)
        return not reasons

    limit = find_limit(holds)
    found = {"cell": asdict(cell), "limit": limit, "p95_ms": level.p95_ms, "probes": probes}
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{cell.pattern}: {limit:,} users keep p95 <= {level.p95_ms} ms without a failure")
    return limit


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"

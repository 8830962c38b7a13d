"""Runs the experiments, every cell on a stack of its own settings, and writes their report."""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from environment import ConfigError
from processes import StackError

from lab import judge, report
from lab.cells import PATTERNS, Cell, CellError, Plan, matrix, open_loop, quick, select
from lab.compose_stack import ComposeStack
from lab.machine import describe
from lab.measure import LOCUST_FILES, measure
from lab.targets import LocalStack
from users.stack_client import WeatherError

ROOM = Path(__file__).resolve().parents[1]
FIRST_PROBE = 200  # users
PRECISION = 0.05  # of the limit, relative
SETTINGS = ("POOL_MINCONN", "POOL_MAXCONN", "CACHE_EXPIRY", "MEMORY_CACHE", "WEB_CONCURRENCY")


class Run:
    """Measures cells that are not measured yet, and keeps what came out of each."""

    def __init__(
        self, folder: Path, plan: Plan, make_stack: Callable[[Cell], LocalStack | ComposeStack]
    ) -> None:
        self._cells = folder / "cells"
        self._cells.mkdir(parents=True, exist_ok=True)
        self._plan = plan
        self._make_stack = make_stack

    def known(self, cell: Cell) -> dict[str, Any] | None:
        """The result of a cell if it is there and valid; raises CellError for another plan."""
        path = self._path(cell)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        if result["plan"] != asdict(self._plan):
            raise CellError(f"{path} was measured with another plan: choose another --out")
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
        except (StackError, WeatherError) as error:
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


def _conditions(texts: Iterable[str], parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    conditions = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (equals and values):
            parser.error(f"--only {text}: expected FIELD=VALUE[,VALUE...]")
        conditions[name] = values.split(",")
    return conditions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="18 cells, within 10 minutes")
    what.add_argument(
        "--open-loop", type=int, nargs="+", metavar="RATE", help="fixed arrival rates, requests/s"
    )
    what.add_argument(
        "--find-limit", action="store_true", help="search the highest number of users instead"
    )
    parser.add_argument("--patterns", nargs="+", choices=LOCUST_FILES, default=PATTERNS)
    parser.add_argument("--users", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--starts", nargs="+", choices=("warm", "cold"), default=["warm"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="cells with these values: replicas=3 pooling=on,off ...",
    )
    parser.add_argument("--list", action="store_true", help="print the cells and stop")
    parser.add_argument("--rows", type=int, default=int(os.environ.get("TOTAL_RECORDS") or 10**7))
    parser.add_argument("--spawn-rate", type=int, help="users/s (100; quick: 250)")
    parser.add_argument("--warm-up", type=int, help="seconds under full load (10; quick: 3)")
    parser.add_argument("--seconds", type=int, help="measured seconds (60; quick: 6)")
    parser.add_argument("--processes", type=int, default=1, help="of Locust (1)")
    parser.add_argument("--seed", type=int, default=42, help="of the order of the cells (42)")
    parser.add_argument(
        "--target", choices=("local", "compose"), default="local", help="plain processes, or Docker"
    )
    parser.add_argument("--data-dir", type=Path, default=ROOM.parent / ".local")
    parser.add_argument("--out", type=Path, default=ROOM / "results" / "experiments")
    return parser


def main() -> int:
    """0: all cells valid, all service levels kept; 1: not so; 2: a bad option."""
    parser = _parser()
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(
        target=options.target,
        rows=options.rows,
        spawn_rate=options.spawn_rate or (250 if options.quick else 100),
        warm_up=options.warm_up or (3 if options.quick else 10),
        seconds=options.seconds or (6 if options.quick else 60),
        processes=options.processes,
        seed=options.seed,
    )
    if options.quick:
        cells = quick(options.patterns)
    elif options.open_loop:
        cells = open_loop(options.patterns, options.open_loop, options.repeats)
    else:
        cells = matrix(options.patterns, options.users, options.starts, options.repeats)
    try:
        if options.find_limit:
            good = True
            _find_limits(options, plan)
        else:
            cells = select(cells, _conditions(options.only, parser))
            if options.list:
                print("\n".join(cell.name for cell in cells))
                return 0
            good = run_all(_run(options, plan), cells, plan.seed)
    except (CellError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    report.write(options.out)
    print(f"report: {options.out / 'report.html'}")
    return 0 if good else 1


def _run(options: argparse.Namespace, plan: Plan) -> Run:
    def make_stack(cell: Cell) -> LocalStack | ComposeStack:
        if plan.target == "compose":
            return ComposeStack(cell, plan.rows)
        return LocalStack(cell, options.data_dir, plan.rows)

    return Run(options.out, plan, make_stack)


def _find_limits(options: argparse.Namespace, plan: Plan) -> None:
    run = _run(options, plan)
    for pattern in options.patterns:
        search(run, Cell(pattern), judge.LIMIT, options.out / f"limit-{pattern}.json")


if __name__ == "__main__":
    sys.exit(main())

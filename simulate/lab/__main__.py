"""Runs experiments and writes their report: `make experiments`."""

import argparse
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from environment import ConfigError

from lab import judge, report
from lab.machine import ROOT
from lab.plan import DEFAULT_PATTERNS, Cell, Plan, PlanError, matrix, open_loop, quick, select
from lab.run import Run, run_all, search
from lab.stacks import ComposeStack, LocalStack, MeasuredStack
from users.patterns import PATTERNS


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
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=DEFAULT_PATTERNS)
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
    parser.add_argument("--data-dir", type=Path, default=ROOT / ".local")
    parser.add_argument("--out", type=Path, default=ROOT / "simulate" / "results" / "experiments")
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
    except (PlanError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    report.write(options.out)
    print(f"report: {options.out / 'report.html'}")
    return 0 if good else 1


def _run(options: argparse.Namespace, plan: Plan) -> Run:
    def make_stack(cell: Cell) -> MeasuredStack:
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

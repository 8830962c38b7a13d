"""Measures how many users each setting of the stack carries: `make experiments`.

Without one of --quick, --cells and --open-loop: the capacity of every lever under random users, and
of the default settings under every pattern.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from environment import ConfigError

from lab import report
from lab.kept import Results
from lab.machine import ROOT, hardware, revision
from lab.plan import (
    DEFAULT,
    LEVERS,
    Cell,
    Plan,
    PlanError,
    Session,
    Setting,
    cells,
    sessions,
    shuffle,
)
from lab.run import MakeStack, run_cells, run_searches
from lab.stacks import ComposeStack, LocalStack, MeasuredStack
from users.patterns import PATTERNS

SETTINGS = ("CACHE_EXPIRY",)  # variables that change numbers and that no lever sets
LONG = {"CACHE_EXPIRY": "20"}  # seconds; --long measures for more than two of them
LONG_SECONDS = 45


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--quick", action="store_true", help="a coarse capacity of every lever, in 7 minutes"
    )
    what.add_argument(
        "--cells", type=_count, nargs="+", metavar="USERS", help="measure at these numbers of users"
    )
    what.add_argument(
        "--open-loop",
        type=_count,
        nargs="+",
        metavar="RATE",
        help="fixed arrival rates, requests/s",
    )
    parser.add_argument(
        "--levers",
        nargs="+",
        choices=LEVERS,
        metavar="LEVER",
        help=f"some of: {'; '.join(LEVERS)} (all; --open-loop: the first)",
    )
    parser.add_argument(
        "--patterns",
        nargs="+",
        choices=(*PATTERNS, "all"),
        help="of all levers (random; without it a capacity of the default settings: all)",
    )
    parser.add_argument("--repeats", type=_count, help="of each (5; other than capacities: 1)")
    parser.add_argument(
        "--starts", nargs="+", choices=("warm", "cold"), default=["warm"], help="of cells (warm)"
    )
    parser.add_argument("--list", action="store_true", help="print what would be measured and stop")
    parser.add_argument("--seconds", type=_count, help="measured seconds (4; quick: 3; cells: 60)")
    parser.add_argument("--warm-up", type=_count, default=10, help="seconds before, in cells (10)")
    parser.add_argument("--spawn-rate", type=_count, default=100, help="users/s, in cells (100)")
    parser.add_argument(
        "--long",
        action="store_true",
        help=f"cells longer than two CACHE_EXPIRY, which is {LONG['CACHE_EXPIRY']} s then",
    )
    parser.add_argument(
        "--most-users", type=_count, default=20_000, help="that a search tries (20000)"
    )
    parser.add_argument("--processes", type=_count, default=1, help="of Locust (1)")
    parser.add_argument("--seed", type=int, default=42, help="of the order (42)")
    parser.add_argument(
        "--rows", type=_count, default=int(os.environ.get("TOTAL_RECORDS") or 10**7)
    )
    parser.add_argument(
        "--target", choices=("local", "compose"), default="local", help="plain processes, or Docker"
    )
    parser.add_argument("--data-dir", type=Path, default=ROOT / ".local")
    parser.add_argument("--out", type=Path, default=ROOT / "simulate" / "results" / "experiments")
    return parser


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")
    return value


def main() -> int:
    """0: all measured, valid and no service level missed; 1: not so; 2: a bad option."""
    parser = _parser()
    options = parser.parse_args()
    if options.long and not options.cells:
        parser.error("--long: only with --cells")
    _complete(options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    order = shuffle(sessions(options.rows_of_table, options.repeats), options.seed)
    wanted = [
        cell
        for session in order
        for cell in cells(session, options.cells or (), options.open_loop or (), options.starts)
    ]
    if options.list:
        print("\n".join(each.name for each in wanted or order))
        return 0
    try:
        good = _measure(options, order, wanted)
    except (PlanError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    report.write(options.out)
    print(f"report: {options.out / 'report.html'}")
    return 0 if good else 1


def _complete(options: argparse.Namespace) -> None:
    """Set what the kind of measurement decides unless it is given."""
    options.kind = "quick" if options.quick else "cells" if options.cells else "capacity"
    options.kind = "open-loop" if options.open_loop else options.kind
    capacity = options.kind == "capacity"
    options.repeats = options.repeats or (5 if capacity else 1)
    options.levers = options.levers or ([DEFAULT] if options.open_loop else list(LEVERS))
    patterns = list(PATTERNS) if "all" in (options.patterns or ()) else options.patterns
    options.rows_of_table = [
        (lever, pattern)
        for lever in options.levers
        for pattern in patterns or (PATTERNS if capacity and lever == DEFAULT else ["random"])
    ]
    seconds = LONG_SECONDS if options.long else {"capacity": 4, "quick": 3}.get(options.kind, 60)
    options.seconds = options.seconds or seconds


def _measure(options: argparse.Namespace, order: Sequence[Session], wanted: Sequence[Cell]) -> bool:
    plan = _plan(options)
    results = Results(options.out, plan, _command())
    make_stack = _stacks(plan, options.data_dir)
    if wanted:
        return run_cells(results, order, wanted, make_stack)
    return run_searches(results, order, make_stack)


def _plan(options: argparse.Namespace) -> Plan:
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    return Plan(
        kind=options.kind,
        target=options.target,
        rows=options.rows,
        seed=options.seed,
        processes=options.processes,
        spawn_rate=options.spawn_rate,
        warm_up=options.warm_up,
        seconds=options.seconds,
        precision=0.08 if options.quick else 0.05,
        most_users=options.most_users,
        settings=settings | (LONG if options.long else {}),
        revision=revision(),
        machine=hardware(),
    )


def _stacks(plan: Plan, data_dir: Path) -> MakeStack:
    def make_stack(setting: Setting) -> MeasuredStack:
        settings = plan.settings | setting.environ
        if plan.target == "compose":
            return ComposeStack(settings, plan.rows)
        return LocalStack(settings, plan.rows, data_dir)

    return make_stack


def _command() -> str:
    """What makes the results again."""
    options = shlex.join(sys.argv[1:])
    return f"make experiments ARGS={shlex.quote(options)}" if options else "make experiments"


if __name__ == "__main__":
    sys.exit(main())

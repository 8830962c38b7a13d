"""Says whether B is faster than A, each a git revision, `.` (the working tree) or SETTING=VALUE.

Both stacks are up all the time; pair by pair, in a random order, each is loaded by itself by users
who do not think. What a machine does meanwhile meets both sides of a pair alike. For the second
half of the pairs both start anew, in the other order, as the one that starts last is 1 to 2 %
faster.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean

from environment import ConfigError
from processes import StackError

from lab.machine import ROOT
from lab.measure import FOLDER, ClosedLoop, GeneratorError
from lab.plan import PlanError, Setting
from lab.recording import between, summary
from lab.sampling import cpu_seconds
from lab.stacks import LocalStack, MeasuredStack
from lab.statistics import ratio_interval, verdict
from lab.warm import fill
from users.api import ApiError

USERS = 32  # enough to keep two cores busy; nginx and the replicas refuse none of so few
RAMP_UP = 1.0  # seconds
# Of the intervals: with 95 % one comparison in 20 of equal sides would find a difference.
LEVEL = 0.99
MEASURES = {
    "good answers/s": f"with {USERS} users who do not think",
    "good answers per CPU second": "of all processes of the stack",
}  # the last one decides: it hardly depends on what else the machine does

Pair = dict[str, dict[str, float]]  # by side, a value for each of MEASURES


class Side:
    """A running stack and its users."""

    def __init__(self, stack: MeasuredStack, loop: ClosedLoop) -> None:
        self._stack = stack
        self._loop = loop

    def turn(self, seconds: float) -> dict[str, float]:
        """Load the stack for so long; a value for each of MEASURES.

        CPU time is read while nobody asks, so it is that of the answers that are counted.
        """
        before = self._cpu_seconds()
        began = self._loop.last_time
        stretch = self._loop.hold(USERS, ramp_up=RAMP_UP, settle=0, warm_up=0, seconds=seconds)
        self._loop.move(0, ramp_up=1.0, settle=0)  # who goes has got the answer asked for
        spent = self._cpu_seconds() - before
        lines = self._loop.lines
        all_of_it = summary(between(lines, began, self._loop.last_time))
        window = summary(between(lines, stretch.starts, stretch.ends))
        if not window["good"]:
            raise GeneratorError(f"no good answer; failures: {window['failures']}")
        return dict(zip(MEASURES, (window["goodput"], all_of_it["good"] / spent), strict=True))

    def _cpu_seconds(self) -> float:
        return sum(cpu_seconds(self._stack.processes()).values())


def main() -> int:
    """0: measured; 1: a stack or the generator failed; 2: a bad option."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="of load on each side of a pair")
    parser.add_argument("--rows", type=int, default=200_000, help="in each stack's table")
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: expected at least 2")
    try:
        pairs = _measure(options)
    except (PlanError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    except (StackError, ApiError, GeneratorError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(report(options.a, options.b, pairs)))
    return 0


def report(a: str, b: str, pairs: list[Pair]) -> list[str]:
    """Lines with both sides' means and the verdict for each of MEASURES; the last one decides."""
    lines = [f"A is {a}, B is {b}"]
    for measure, words in MEASURES.items():
        values = {side: [pair[side][measure] for pair in pairs] for side in ("A", "B")}
        found = verdict(ratio_interval(values["A"], values["B"], LEVEL))
        means = ", ".join(f"{side} {fmean(numbers):,.0f}" for side, numbers in values.items())
        lines.append(f"{measure} {words}: {means}: {found}")
    return [*lines, found]


def _measure(options: argparse.Namespace) -> list[Pair]:
    half = options.pairs // 2
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, nginx and PostgreSQL run as another user
        first = _measure_half("AB", range(1, half + 1), folder, options)
        return first + _measure_half("BA", range(half + 1, options.pairs + 1), folder, options)


def _measure_half(
    starts: str, numbers: Sequence[int], folder: Path, options: argparse.Namespace
) -> list[Pair]:
    """The pairs of these numbers, by stacks that start in this order; told as they come."""
    texts = {"A": options.a, "B": options.b}
    measured = []
    with ExitStack() as running:
        sides = {
            side: running.enter_context(_side(texts[side], folder / side, options.rows))
            for side in starts
        }
        for number in numbers:
            order = random.sample(sorted(sides), len(sides))
            measured.append({side: sides[side].turn(options.seconds) for side in order})
            print(f"pair {number} of {options.pairs}: {_words(measured[-1])}", flush=True)
    return measured


def _words(pair: Pair) -> str:
    return ", ".join(
        f"{name} {' and '.join(f'{value:,.0f}' for value in pair[name].values())}"
        for name in sorted(pair)
    )


@contextmanager
def _side(text: str, folder: Path, rows: int) -> Iterator[Side]:
    """A warm stack of what ``text`` names; raises PlanError, StackError, ApiError."""
    with ExitStack() as running:
        folder.mkdir(exist_ok=True)
        setting, equals, value = text.partition("=")
        if equals:
            _check_setting(setting)
            served, settings = ROOT, {setting: value}
        else:
            served, settings = running.enter_context(_checkout(text, folder / "code")), {}
        stack = running.enter_context(LocalStack(settings, rows, folder / "data", served))
        averages = stack.expected_averages()
        fill(stack, Setting(edge=True), sorted(averages))  # whatever caches the side has
        loop = running.enter_context(ClosedLoop(stack, averages, FOLDER / "lab" / "busy_users.py"))
        yield Side(stack, loop)


def _check_setting(name: str) -> None:
    sample = (ROOT / ".env.sample").read_text()
    known = re.findall(r"^(?:# )?([A-Z_]+)=", sample, re.M)
    if name not in known:
        raise PlanError(f"{name}: expected a setting of .env.sample, one of {', '.join(known)}")


@contextmanager
def _checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A folder with a revision's code, removed afterwards; raises PlanError if there is none."""
    if revision == ".":
        yield ROOT
        return
    _git("worktree", "add", "--detach", "--force", str(folder), revision)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*command: str) -> None:
    result = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise PlanError(f"git {' '.join(command)}: {result.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    sys.exit(main())

"""Says whether B is faster than A, each a git revision, `.` (the working tree) or SETTING=VALUE.

Pair by pair, in a random order, each stack is started, warmed, loaded by users who do not think,
and stopped. What a machine does meanwhile meets both sides of a pair alike. Each turn has a start
of its own, as two starts of the same code differ by 2 to 3 % for as long as they run: only many
starts tell a difference of code from one of luck (T. Mytkowicz et al., "Producing Wrong Data
Without Doing Anything Obviously Wrong!", ASPLOS 2009).
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
from lab.statistics import differs, ratio_interval, verdict
from lab.warm import fill
from users.api import ApiError

USERS = 32  # enough to keep two cores busy; nginx and the replicas refuse none of so few
RAMP_UP = 1.0  # seconds
LOCATIONS = 1000  # that are asked for; the caches of a stack are full of them within a second
# Of the intervals: with 95 % each measure would find a difference in 1 of 20 comparisons of equal
# sides, this way both together in 1 of 100.
LEVEL = 0.995
MEASURES = {
    "good answers/s": f"with {USERS} users who do not think",
    "good answers per CPU second": "of all processes of the stack",
}

BUSY_USERS = FOLDER / "lab" / "busy_users.py"

Pair = dict[str, dict[str, float]]  # by side, a value for each of MEASURES


@dataclass(frozen=True)
class Side:
    """What is compared: a checkout that is served with settings; its data stay below ``folder``."""

    served: Path
    settings: Mapping[str, str]
    folder: Path
    rows: int

    def turn(self, seconds: float) -> dict[str, float]:
        """Start the stack, load it for so long and stop it; a value for each of MEASURES.

        Raises ApiError, GeneratorError, StackError.
        """
        with self.stack() as stack:
            averages = dict(sorted(stack.expected_averages().items())[:LOCATIONS])
            with ClosedLoop(stack, averages, BUSY_USERS) as loop:
                loop.start()  # takes seconds, in which the caches are filled
                fill(stack, self._setting, list(averages))
                return _load(stack, loop, seconds)

    def stack(self) -> LocalStack:
        """Raises ConfigError for settings that no stack starts with."""
        return LocalStack(self.settings, self.rows, self.folder, self.served)

    @property
    def _setting(self) -> Setting:
        """Whatever caches the side has are filled, those of each of its workers too."""
        workers = (os.environ | self.settings).get("WEB_CONCURRENCY") or "1"
        return Setting(edge=True, workers=int(workers))


def _load(stack: MeasuredStack, loop: ClosedLoop, seconds: float) -> dict[str, float]:
    """CPU time is read while nobody asks, so it is that of the answers that are counted."""
    loop.move(0, ramp_up=1.0, settle=0)
    before, began = _cpu_seconds(stack), loop.last_time
    stretch = loop.hold(USERS, ramp_up=RAMP_UP, settle=0, warm_up=0, seconds=seconds)
    loop.move(0, ramp_up=1.0, settle=0)  # who goes has got the answer asked for
    spent = _cpu_seconds(stack) - before
    all_of_it = summary(between(loop.lines, began, loop.last_time))
    window = summary(between(loop.lines, stretch.starts, stretch.ends))
    if not window["good"]:
        raise GeneratorError(f"no good answer; failures: {window['failures']}")
    return dict(zip(MEASURES, (window["goodput"], all_of_it["good"] / spent), strict=True))


def _cpu_seconds(stack: MeasuredStack) -> float:
    return sum(cpu_seconds(stack.processes()).values())


def main() -> int:
    """0: measured; 1: a stack or the generator failed; 2: a bad option; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="of load on each side of a pair")
    parser.add_argument("--rows", type=int, default=200_000, help="in each stack's table")
    options = parser.parse_args()
    if options.pairs < 2:
        parser.error("--pairs: expected at least 2")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
    """Lines with both sides' means and the verdict for each of MEASURES; the last one sums up."""
    lines, different = [f"A is {a}, B is {b}"], []
    for measure, words in MEASURES.items():
        values = {side: [pair[side][measure] for pair in pairs] for side in ("A", "B")}
        ratio = ratio_interval(values["A"], values["B"], LEVEL)
        found = verdict(ratio)
        means = ", ".join(f"{side} {fmean(numbers):,.0f}" for side, numbers in values.items())
        lines.append(f"{measure} {words}: {means}: {found}")
        if differs(ratio):
            different.append(f"{found} in {measure}")
    return [*lines, "; ".join(different) or found]


def _measure(options: argparse.Namespace) -> list[Pair]:
    texts = {"A": options.a, "B": options.b}
    with tempfile.TemporaryDirectory(prefix="compare-") as name, ExitStack() as checkouts:
        folder = Path(name)
        folder.chmod(0o755)  # as root, nginx and PostgreSQL run as another user
        sides = {
            side: checkouts.enter_context(_side(text, folder / side, options.rows))
            for side, text in texts.items()
        }
        measured = []
        for number in range(1, options.pairs + 1):
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
    """What ``text`` names; raises ConfigError, PlanError."""
    folder.mkdir()
    setting, equals, value = text.partition("=")
    if equals:
        _check_setting(setting)
    with _checkout("." if equals else text, folder / "code") as served:
        side = Side(served, {setting: value} if equals else {}, folder / "data", rows)
        side.stack()  # a bad value is told before anything starts
        yield side


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

"""Measures a stack under load: starts the generator, looks at the stack beside it, sums up."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from processes import Child, free_ports

from lab import recording, sampling
from lab.cell import RAMP_SLACK, Lines, Stretch, cell
from lab.sampling import TICK
from lab.stacks import MeasuredStack
from users.patterns import PATTERNS

FOLDER = Path(__file__).parents[1]
CLOSEST = 0.3  # seconds between two samples at least; CPU times have steps of 10 ms
POLL = 0.2  # seconds between two looks at the recording
STOP_TIMEOUT = 10  # seconds for requests under way at the end


class GeneratorError(Exception):
    """The load generator ended or recorded nothing; the text is one line for the user."""


class Generator:
    """A process that sends requests and records them, and samples of the stack beside it."""

    def __init__(
        self,
        stack: MeasuredStack,
        averages: Mapping[str, Sequence[float]],
        command: Sequence[str | os.PathLike],
    ) -> None:
        """``averages`` are the right answers."""
        self._stack = stack
        self._averages = averages
        self._command = command
        self._samples: list[sampling.Sample] = []

    def __enter__(self) -> "Generator":
        with ExitStack() as starting:
            folder = Path(starting.enter_context(tempfile.TemporaryDirectory(prefix="simulate-")))
            averages = folder / "averages.json"
            averages.write_text(json.dumps(self._averages))
            self._load = folder / "load.json"
            path = folder / "recording.jsonl"
            self._recording = recording.Recording(path)
            variables = {
                "PYTHONPATH": str(FOLDER),
                "EXPECTED_AVERAGES": str(averages),
                "LOAD": str(self._load),
                "RECORDING": str(path),
            }
            self.process = Child(
                "generator",
                self._command,
                folder / "generator.log",
                environ=os.environ | variables,
                grace=30,
            )
            starting.callback(self.process.stop)
            self._running = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def lines(self) -> Lines:
        """What is recorded so far."""
        return self._recording.lines()

    @property
    def last_time(self) -> float:
        """Unix time when the last recorded second ends; 0 if there is none."""
        return _last(self.lines)

    @property
    def samples(self) -> list[sampling.Sample]:
        """What was sampled so far."""
        return self._samples

    def wait(self, condition: Callable[[Lines], bool], seconds: float) -> bool:
        """Look at the stack until the recording is as wanted; False if time is up.

        Raises GeneratorError if the generator ends before.
        """
        deadline = time.monotonic() + seconds
        self._sample()
        while not condition(self.lines):
            if not self.process.running and not condition(self.lines):
                raise GeneratorError(self.process.obituary())
            if time.monotonic() > deadline:
                return False
            if time.time() >= self._samples[-1]["time"] + TICK:
                self._sample()
            time.sleep(POLL)
        self._sample()
        return True

    def _sample(self) -> None:
        if not self._samples or time.time() >= self._samples[-1]["time"] + CLOSEST:
            self._samples.append(
                sampling.sample(self._stack.processes(), self._stack.look, self.process.pid)
            )


class ClosedLoop(Generator):
    """A running Locust whose number of users is moved up and down."""

    def __init__(
        self,
        stack: MeasuredStack,
        averages: Mapping[str, Sequence[float]],
        locust_file: Path,
        processes: int = 1,
    ) -> None:
        files = f"{locust_file},{FOLDER / 'lab' / 'record_locust.py'}"
        command = [sys.executable, "-m", "locust", "-f", files, "--host", stack.url, "--headless"]
        command += ["--stop-timeout", str(STOP_TIMEOUT), "--only-summary"]
        super().__init__(stack, averages, [*command, *_workers(processes)])
        self.users = 0
        self._counted = 0.0  # Unix time until which nginx's log was compared

    def start(self) -> None:
        """Start Locust without a user, and return at once."""
        self._ask_for(0, 1.0)
        self.process.start()

    def hold(
        self,
        users: int,
        *,
        ramp_up: float,
        settle: float,
        warm_up: float,
        seconds: float,
        hopeless: Callable[[Lines], bool] = lambda _: False,
    ) -> Stretch:
        """Let so many users come or go in ``ramp_up`` seconds, and measure them.

        The arrival ends ``settle`` seconds after all are there. The window ends early when its
        lines are ``hopeless``. If not all users come, those who are there are measured.
        """
        begins = self.last_time
        settled = self.move(users, ramp_up, settle)
        starts = self._after(settled, warm_up)
        self.wait(
            lambda lines: (
                _last(lines) >= starts + seconds - TICK / 2
                or hopeless(recording.between(lines, starts, _last(lines)))
            ),
            seconds + RAMP_SLACK,
        )
        return Stretch(begins, settled, starts, self.last_time)

    def drain(self) -> dict[str, Any]:
        """Let all users go: nginx's log since the last call, and how many requests it must have."""
        last = self.move(0, 1.0, TICK)
        lines = recording.between(self.lines, self._counted, last)
        self._counted = last
        return _read_log(self._stack, lines)

    def move(self, users: int, ramp_up: float, settle: float) -> float:
        """Let so many users come or go; returns when they have settled, as Unix time."""
        self._ask_for(users, max(1.0, abs(users - self.users) / ramp_up))
        if not self.process.wanted:
            self.process.start()
        self.wait(lambda lines: bool(lines) and lines[-1]["users"] == users, ramp_up + RAMP_SLACK)
        return self._after(self.last_time, settle)

    def _ask_for(self, users: int, spawn_rate: float) -> None:
        self.users = users
        unfinished = self._load.with_suffix(".part")
        unfinished.write_text(json.dumps({"users": users, "spawn_rate": spawn_rate}))
        unfinished.rename(self._load)

    def _after(self, moment: float, seconds: float) -> float:
        """Wait until a line ends so much later; its time."""
        if seconds:
            self.wait(lambda lines: _last(lines) >= moment + seconds - TICK / 2, RAMP_SLACK)
        return self.last_time


def closed_loop_file(pattern: str) -> Path:
    """The Locust file with a pattern's users."""
    return FOLDER / PATTERNS[pattern].locust_file


def closed_cell(
    loop: ClosedLoop, users: int, ramp_up: float, warm_up: float, seconds: float
) -> dict[str, Any]:
    """What a cell of a closed loop measured; afterwards no user is left."""
    stretch = loop.hold(users, ramp_up=ramp_up, settle=0, warm_up=warm_up, seconds=seconds)
    return cell(loop.lines, loop.samples, stretch) | {"nginx": loop.drain()}


def open_cell(
    stack: MeasuredStack,
    averages: Mapping[str, Sequence[float]],
    pattern: str,
    rate: int,
    warm_up: float,
    seconds: float,
) -> dict[str, Any]:
    """What a cell of an open loop measured."""
    command = [sys.executable, "-m", "lab.record_open_loop", "--host", stack.url]
    command += ["--pattern", pattern, "--rate", str(rate), "--seconds", str(warm_up + seconds)]
    with Generator(stack, averages, command) as generator:
        generator.process.start()
        generator.wait(lambda _: not generator.process.running, warm_up + seconds + RAMP_SLACK)
        lines = generator.lines
        if generator.process.running or not lines:
            raise GeneratorError(f"the open loop of {rate} requests/s did not end in time")
        begins = lines[0]["time"] - lines[0]["seconds"]
        starts = begins + warm_up
        stretch = Stretch(begins, begins, starts, starts + seconds)
        return cell(lines, generator.samples, stretch) | {
            "nginx": _read_log(stack, lines),
            "real_time": lines[0]["real_time"],
        }


def _read_log(stack: MeasuredStack, lines: Lines) -> dict[str, Any]:
    """What nginx logged, and what the generator says; a network failure may be in either."""
    whole = recording.summary(lines)
    sent = whole["sent"] + whole["cut_off"] - whole.get("unsent", 0)
    network = whole["failures"].get("network", 0) - whole.get("unsent", 0)
    return stack.read_log(sent) | {"sent": sent, "network": network}


def _last(lines: Lines) -> float:
    """When the last line ends; 0 if there is none."""
    return lines[-1]["time"] if lines else 0.0


def _workers(processes: int) -> list[str]:
    """Locust's own master would listen on port 5557, which another Locust may have."""
    if processes == 1:
        return []
    port = str(free_ports(1)[0])
    return ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]

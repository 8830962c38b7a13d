"""Runs flood.py beside a fault, and reads what became of its requests."""

import json
import os
import socket
import statistics
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NamedTuple

from drill import Row
from scheduled_load import percentile

from users.tally import PATIENCE

PROGRAM = Path(__file__).with_name("flood.py")
SIMULATE = Path(__file__).parents[2] / "simulate"  # its users are the generator's
BATCH = 100  # connections; a small burst
ARRIVAL = 2  # seconds in which users come
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s
LAST_ANSWERS = 60  # seconds for the answers that are still under way, and to write all down


class Answer(NamedTuple):
    """What became of one request; times are seconds of time.monotonic()."""

    due: float
    sent: float
    ended: float
    status: int  # 0 where there was no answer
    problem: str  # empty where the answer is right, or a refusal as it should be

    @property
    def response_time(self) -> float:
        """Seconds from when the request was due."""
        return self.ended - self.due


class Flood:
    """The generator from enter to exit, which waits for the end of its ``seconds``."""

    def __init__(self, url: str, averages: Path, seconds: float, **options: object) -> None:
        self.seconds = seconds
        self.answers: list[Answer] = []  # in the order in which they were due
        self.cpu = 0.0  # cores
        self._result = averages.with_name("result.json")
        self._command = [sys.executable, PROGRAM, url, averages, self._result]
        for name, value in {"seconds": seconds, **options}.items():
            self._command += [f"--{name}"] if value is True else [f"--{name}", str(value)]

    def __enter__(self) -> "Flood":
        environ = os.environ | {"PYTHONPATH": str(SIMULATE)}
        self._process = subprocess.Popen(self._command, env=environ, stdout=subprocess.PIPE)
        self._process.stdout.readline()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                assert self._process.wait(self.seconds + LAST_ANSWERS) == 0
                self._read()
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def run(self) -> "Flood":
        """Returns when it has ended."""
        with self:
            return self

    def _read(self) -> None:
        """Raises AssertionError where an answer is wrong, or a failure no proper refusal."""
        result = json.loads(self._result.read_text())
        self.answers = sorted(Answer(*parts) for parts in result["answers"])
        begin, end = self.answers[0].due, max(answer.ended for answer in self.answers)
        self.cpu = result["cpu"] / (end - begin)
        problems = Counter(answer.problem for answer in self.answers if answer.problem)
        assert not problems, problems

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    @property
    def p99(self) -> float:
        """Seconds."""
        return percentile([answer.response_time for answer in self.answers], 99)

    @property
    def slowest_refusal(self) -> float:
        """Seconds from sending a request to its refusal."""
        return max((answer.ended - answer.sent for answer in self.failed), default=0.0)

    def goodput(self) -> list[int]:
        """Right answers while somebody waited for them, for each second in which they were sent."""
        begin = self.answers[0].due
        good = Counter(
            int(answer.sent - begin)
            for answer in self.answers
            if answer.status == 200 and answer.ended - answer.sent <= PATIENCE
        )
        return [good[second] for second in range(int(self.seconds))]

    def row(self, fault: str, over_at: float | None = None) -> Row:
        """Its line of the table; recovery counts from ``over_at``."""
        last = max((answer.ended for answer in self.failed), default=0.0)
        recovery = max(0.0, last - over_at) if over_at else 0.0
        return Row(fault, len(self.answers), len(self.failed), 0, self.p99, recovery)


def flood_maker(
    url: str, averages: Mapping[str, tuple[Decimal, int]], folder: Path
) -> Callable[..., Flood]:
    """Makes generators of heavy load from their seconds and the options of flood.py."""
    file = folder / "averages.json"
    file.write_text(json.dumps({name: (float(a), n) for name, (a, n) in averages.items()}))
    return partial(Flood, url, file)


def thinking_users(flood: Callable[..., Flood], number: int, seconds: float, hot: float) -> Flood:
    """Users who come within ARRIVAL and think; ``seconds`` is what they stay after that."""
    return flood(ARRIVAL + seconds, connections=number, think=True, arrival=ARRIVAL, hot=hot)


def burst(flood: Callable[..., Flood], connections: int, seconds: float, hot: float) -> Flood:
    """Each connection opens and asks once, all within these seconds."""
    rate = connections / seconds
    return flood(seconds, connections=connections, rate=rate, hot=hot).run()


@contextmanager
def held(address: tuple[str, int], number: int) -> Iterator[None]:
    """Connections that have been asked once: nginx keeps them for 65 s.

    They end by a reset. Closed, each would hold its port for a minute, and the next load would
    spend 8 s on finding free ones.
    """
    with ExitStack() as exits:
        for _ in range(number // BATCH):
            batch = [
                exits.enter_context(socket.create_connection(address, timeout=5))
                for _ in range(BATCH)
            ]
            for client in batch:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.sendall(b"GET /health-check HTTP/1.1\r\nHost: x\r\n\r\n")
            for client in batch:
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        yield


def capacity(*loads: Flood) -> float:
    """Right answers of the median second: other programs slow some seconds down."""
    return statistics.median(second for load in loads for second in load.goodput())


class Share(NamedTuple):
    """What a load got of the peak, which two closed loops around it tell."""

    peak: float  # right answers/s
    of_peak: float
    per_core: float  # the same for each core that its generator left, as the closed loops' did

    def __str__(self) -> str:
        return f"{self.of_peak:.0%} of {self.peak:.0f}/s, {self.per_core:.0%} per core"


def share(load: Flood, goodput: float, before: Flood, after: Flood) -> Share:
    """The generator shares the cores with the stack; ``goodput`` is right answers/s of the load."""
    cores = len(os.sched_getaffinity(0))
    peak = capacity(before, after)
    of_peak = goodput / peak
    return Share(peak, of_peak, of_peak * (cores - before.cpu) / (cores - load.cpu))

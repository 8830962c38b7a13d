"""Measures one cell: starts the load generator, samples the stack beside it, sums up."""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from processes import Child, free_ports

from lab import judge, recording
from lab.plan import Cell, Plan
from lab.stacks import MeasuredStack
from users.api import ApiError, Client
from users.patterns import PATTERNS

FOLDER = Path(__file__).parents[1]
TICK = 1.0  # seconds between samples
WARMERS = 8  # connections that fill the caches
RAMP_SLACK = 30  # seconds more than planned until all users are there
STOP_TIMEOUT = 10  # seconds for requests under way at the end


def measure(cell: Cell, plan: Plan, stack: MeasuredStack) -> dict[str, Any]:
    """The result of a cell on a stack that runs with its settings."""
    averages = stack.expected_averages()
    if cell.start == "warm":
        _fill_caches(cell, stack, sorted(averages))
    with tempfile.TemporaryDirectory(prefix="simulate-") as folder:
        expected = Path(folder, "averages.json")
        expected.write_text(json.dumps(averages))
        recorded = Path(folder, "recording.jsonl")
        environ = os.environ | {"EXPECTED_AVERAGES": str(expected), "RECORDING": str(recorded)}
        log_path = Path(folder, "generator.log")
        generator = Child(
            "generator", _command(cell, plan, stack.url), log_path, environ=environ, grace=30
        )
        try:
            generator.start()
            samples, start, end = _watch(cell, plan, stack, generator, recorded)
        finally:
            generator.stop()
        lines = recording.read(recorded)
        if not lines:
            raise ApiError(f"the generator recorded nothing: {log_path.read_text()[-1000:]}")
    return _result(cell, plan, stack, lines, samples, start, end)


def _fill_caches(cell: Cell, stack: MeasuredStack, locations: Sequence[str]) -> None:
    """Ask once for every location: the load itself would take minutes to do so.

    Users with the patterns fixed and weighted ask for so few that the warm-up is enough.
    """
    if cell.pattern in ("fixed", "weighted") or not (cell.cache or cell.edge):
        return

    def ask(part: Sequence[str]) -> None:
        with Client(stack.url) as client:
            for location in part:
                client.query(location)

    with ThreadPoolExecutor(WARMERS) as executor:
        list(executor.map(ask, [locations[number::WARMERS] for number in range(WARMERS)]))
    stack.read_log(len(locations))


def _command(cell: Cell, plan: Plan, url: str) -> list[str]:
    if cell.rate:
        seconds = str(plan.warm_up + plan.seconds)
        options = ["--host", url, "--pattern", cell.pattern, "--rate", str(cell.rate)]
        options += ["--seconds", seconds]
        return [sys.executable, "-m", "lab.record_open_loop", *options]
    locust_file = FOLDER / PATTERNS[cell.pattern].locust_file
    files = f"{locust_file},{FOLDER / 'lab' / 'record_locust.py'}"
    return [
        *(sys.executable, "-m", "locust", "-f", files, "--host", url, "--headless"),
        *("--users", str(cell.users), "--spawn-rate", str(plan.spawn_rate)),
        *("--stop-timeout", str(STOP_TIMEOUT), "--only-summary"),
        *(_worker_options(plan.processes) if plan.processes > 1 else ()),
    ]


def _worker_options(processes: int) -> list[str]:
    """Locust's own master would listen on port 5557, which another Locust may have."""
    port = str(free_ports(1)[0])
    return ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]


def _watch(
    cell: Cell, plan: Plan, stack: MeasuredStack, generator: Child, recorded: Path
) -> tuple[list[dict[str, Any]], float, float]:
    """Sample until the measured seconds are over: the samples, and the window in Unix time."""
    samples = []
    start = 0.0
    give_up = time.time() + cell.users / plan.spawn_rate + RAMP_SLACK
    while generator.running:
        now = time.time()
        samples.append(_sample(stack, generator))
        lines = recording.read(recorded)
        if not start and not cell.rate:
            if now > give_up or (lines and lines[-1]["users"] >= cell.users):
                start = now + plan.warm_up
        elif start and now >= start + plan.seconds + TICK:
            break
        time.sleep(max(0.0, now + TICK - time.time()))
    generator.stop()
    if cell.rate:
        lines = recording.read(recorded)
        start = lines[0]["time"] + plan.warm_up if lines else 0.0
    return samples, start, start + plan.seconds


def _sample(stack: MeasuredStack, generator: Child) -> dict[str, Any]:
    roots = stack.processes()
    if generator.pid:
        roots["generator"] = generator.pid
        with_children = psutil.Process(generator.pid).children()
        roots |= {f"generator {n}": child.pid for n, child in enumerate(with_children, 1)}
    opened, active = stack.connections()
    return {
        "time": time.time(),
        "cpu_seconds": ProcessTimes(roots).read(),
        "connections": opened,
        "active": active,
    }


def _result(
    cell: Cell,
    plan: Plan,
    stack: MeasuredStack,
    lines: list[recording.Line],
    samples: list[dict[str, Any]],
    start: float,
    end: float,
) -> dict[str, Any]:
    inside = [sample for sample in samples if start <= sample["time"] <= end + TICK]
    connections = [sample["connections"] for sample in inside] or [0]
    result = {
        "cell": asdict(cell),
        "plan": asdict(plan),
        "total": {name: lines[-1][name] for name in ("requests", "failures", "cut_off")},
        "window": recording.window(lines, start, end),
        "window_starts": start - lines[0]["time"],
        "series": recording.series(lines),
        "errors": lines[-1].get("errors", []),
        "nginx": stack.read_log(lines[-1]["requests"] + lines[-1]["cut_off"]),
        "cpu": _cpu(inside),
        "connections": {
            "mean": sum(connections) / len(connections),
            "max": max(connections),
            "max_active": max((sample["active"] for sample in inside), default=0),
        },
    }
    result["invalid"] = judge.invalid(result)
    return result


def _cpu(samples: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Percent of one CPU for each group of processes: mean, and the busiest second."""
    usage = {}
    for name in samples[0]["cpu_seconds"] if samples else ():
        points = [
            (sample["time"], sample["cpu_seconds"][name])
            for sample in samples
            if name in sample["cpu_seconds"]
        ]
        rates = [100 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
        if rates:
            mean = 100 * (points[-1][1] - points[0][1]) / (points[-1][0] - points[0][0])
            usage[name] = {"mean": mean, "max": max(rates)}
    return usage


class ProcessTimes:
    """CPU seconds of groups of processes, each a root and its descendants."""

    def __init__(self, roots: dict[str, int]) -> None:
        self._roots = {pid: name for name, pid in roots.items()}

    def read(self) -> dict[str, float]:
        """CPU seconds so far, those of children that have ended included."""
        parents, seconds = {}, {}
        for process in psutil.process_iter(["ppid", "cpu_times"]):
            times = process.info["cpu_times"]
            if times:
                parents[process.pid] = process.info["ppid"]
                seconds[process.pid] = sum(times[:4])  # user, system, and the same of children
        totals: dict[str, float] = dict.fromkeys(self._roots.values(), 0.0)
        for pid, spent in seconds.items():
            ancestor = pid
            while ancestor and ancestor not in self._roots:
                ancestor = parents.get(ancestor, 0)
            if ancestor:
                totals[self._roots[ancestor]] += spent
        return totals

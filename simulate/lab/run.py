"""Runs what is not measured yet, a stack and a generator for each session; keeps the results."""

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from processes import StackError

from lab import judge, recording, sampling
from lab.cell import Lines, window
from lab.kept import Results
from lab.measure import ClosedLoop, GeneratorError, closed_cell, closed_loop_file, open_cell
from lab.plan import Cell, Plan, Session, Setting
from lab.search import FIRST_PROBE, GROWTH, Outcome, Search
from lab.stacks import MeasuredStack
from lab.warm import fill
from users.api import ApiError

FAILURES = (StackError, ApiError, GeneratorError)  # of one session; the others go on
RAMP_UP = 2.0  # seconds in which a probe's users come or go; half of it for a quarter of them
# Users/s that come at most: 17,000 within 2 s made Locust late by 3 s, half of the cores idle.
FASTEST = 2500
SETTLE = 2.0  # seconds, the budget of a request: then all that were sent before are answered
# Of a probe's users, who are there when the others come to a stack that was overloaded: it stays
# so, as what refuses has less time to answer.
RESTED = 0.75
REST = 1.0  # seconds that it has to recover
NEAR = 1.1  # from probe to probe, where an earlier search says where to look
LIKE = 1.3  # ... and where that was under another pattern, or the kept one of another machine
KEPT = Path(__file__).parents[1] / "results" / "capacity"
FILES_KEPT = 100  # open files that a process of Locust needs for other things than its users

MakeStack = Callable[[Setting], MeasuredStack]


class Progress:
    """Prints a line for each thing that is done, with the time that is left."""

    def __init__(self, total: int, all_of_them: int, what: str) -> None:
        self._total, self._done = total, 0
        self._started = time.monotonic()
        print(f"{all_of_them} {what}, {total} to measure", flush=True)

    def done(self, text: str) -> None:
        self._done += 1
        left = (time.monotonic() - self._started) / self._done * (self._total - self._done)
        print(f"[{self._done}/{self._total}, {left / 60:.0f} min left] {text}", flush=True)


def run_searches(results: Results, sessions: Sequence[Session], make_stack: MakeStack) -> bool:
    """Search the capacity of each session that is not known; whether all went well."""
    missing = [session for session in sessions if not results.known("searches", session.name)]
    progress = Progress(len(missing), len(sessions), "searches")
    good = True
    for session in missing:
        try:
            result = _search(results, session, make_stack, _begin(results, session))
        except FAILURES as error:
            good = False
            progress.done(f"{session.name}: {error}")
            continue
        results.keep("searches", session.name, session.facts, result)
        good = good and not result["invalid"]
        problems = "".join(f"; INVALID: {reason}" for reason in result["invalid"])
        progress.done(f"{session.name}: {_capacity(result)} users{problems}")
    return good


def _search(
    results: Results, session: Session, make_stack: MakeStack, begin: tuple[int, float]
) -> dict[str, Any]:
    plan, started = results.plan, time.time()
    probes = []
    with make_stack(session.setting) as stack, ExitStack() as running:
        results.start(stack.versions())
        averages = stack.expected_averages()
        locust_file = closed_loop_file(session.pattern)
        loop = running.enter_context(ClosedLoop(stack, averages, locust_file, plan.processes))
        loop.start()  # takes seconds, in which the caches are filled
        fill(stack, session.setting, sorted(averages))

        def probe(users: int) -> Outcome:
            found, outcome = _probe(loop, users, plan, bool(probes) and not probes[-1]["holds"])
            probes.append(found)
            answers = f"{found['window']['goodput']:,.0f} good answers/s"
            reasons = "; ".join(found["reasons"]) or "holds"
            print(f"    {users:,} users: {answers}; {reasons}", flush=True)
            return outcome

        first, growth = begin
        most, bound = most_users(plan)
        capacity = Search(
            probe, precision=plan.precision, most=most, first=first, growth=growth
        ).run()
        nginx = loop.drain()
    wrong = sum(found["window"]["failures"].get("wrong", 0) for found in probes)
    return {
        "capacity": capacity.users,
        "censored": capacity.censored,
        "bound": _bound(probes, bound) if capacity.censored else "",
        "probes": probes,
        "nginx": nginx,
        "invalid": judge.counts_apart(nginx) + ([f"{wrong} wrong answers"] if wrong else []),
        "took": time.time() - started,
    }


def most_users(plan: Plan) -> tuple[int, str]:
    """That a search may try, and what says so."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_at_most = plan.processes * (files - FILES_KEPT)
    if open_at_most < plan.most_users:
        return open_at_most, f"open files: ulimit -Hn is {files:,}, and each user is one"
    return plan.most_users, f"--most-users {plan.most_users}"


def _bound(probes: Sequence[dict[str, Any]], most: str) -> str:
    """What ended a search before the stack did: the generator, or the most users."""
    limits = [limit for probe in probes for limit in probe["limits"]]
    return limits[-1] if limits else most


def _probe(
    loop: ClosedLoop, users: int, plan: Plan, overloaded: bool
) -> tuple[dict[str, Any], Outcome]:
    def hopeless(lines: Lines) -> bool:
        return judge.hopeless(recording.summary(lines), users, plan.seconds)

    if overloaded and loop.users > RESTED * users:
        loop.move(round(RESTED * users), RAMP_UP / 2, REST)
    stretch = loop.hold(
        users,
        ramp_up=_ramp_up(loop.users, users),
        settle=SETTLE,
        warm_up=0,
        seconds=plan.seconds,
        hopeless=hopeless,
    )
    arrival = recording.between(loop.lines, stretch.begins, stretch.arrived)
    found = {"users": users, **window(loop.lines, loop.samples, stretch.starts, stretch.ends)}
    summary = recording.summary(arrival)
    found["arrival"] = {name: summary[name] for name in ("sent", "failed", "failures")}
    present = found["window"]["fewest_users"]
    absent = [f"{present} of {users} users were there"] if present < users else []
    missed = judge.missed(found["window"])
    whole = sampling.cpu(sampling.between(loop.samples, stretch.begins, stretch.ends))
    limits = judge.generator_limits(whole, of="max") + absent
    found["holds"] = not (missed or absent)
    found["limits"] = [] if found["holds"] else limits
    found["reasons"] = [] if found["holds"] else missed + limits
    if found["holds"]:
        return found, Outcome.HOLDS
    return found, Outcome.GENERATOR if limits else Outcome.MISSED


def _ramp_up(present: int, users: int) -> float:
    """Seconds in which the users that are present become so many."""
    moved = abs(users - present)
    seconds = RAMP_UP / 2 if moved <= (1 - RESTED) * users else RAMP_UP
    return max(seconds, moved / FASTEST)


def _begin(results: Results, session: Session) -> tuple[int, float]:
    """The first number of users to probe, and how far from it the next one is."""
    here = _capacities(results.folder, session.lever)
    same = [capacity for pattern, capacity in here if pattern == session.pattern]
    if same:
        return round(statistics.fmean(same)), NEAR
    like = here or _capacities(KEPT, session.lever)
    if like:
        return round(statistics.fmean(capacity for _, capacity in like)), LIKE
    return FIRST_PROBE, GROWTH


def _capacities(folder: Path, lever: str) -> list[tuple[str, int]]:
    """Patterns and what the searches of a folder found for a lever, in users."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("searches/*.json"))]
    ours = [one for one in found if one["lever"] == lever and one["capacity"]]
    return [(one["pattern"], one["capacity"]) for one in ours]


def run_cells(
    results: Results, sessions: Sequence[Session], cells: Sequence[Cell], make_stack: MakeStack
) -> bool:
    """Measure the cells that are not known, session by session; whether all are good."""
    known = {cell: found for cell in cells if (found := results.known("cells", cell.name))}
    missing = [cell for cell in cells if cell not in known]
    progress = Progress(len(missing), len(cells), "cells")
    good = not [cell for cell, result in known.items() if not report_problems(cell, result)]
    for session in sessions:
        warm = [cell for cell in missing if cell.session == session and cell.start == "warm"]
        cold = [cell for cell in missing if cell.session == session and cell.start == "cold"]
        for part in [warm, *([cell] for cell in cold)]:
            good = _run_part(results, session, part, make_stack, progress) and good
    return good


def _run_part(
    results: Results,
    session: Session,
    cells: Sequence[Cell],
    make_stack: MakeStack,
    progress: Progress,
) -> bool:
    """Measure cells on one stack; whether all are good."""
    if not cells:
        return True
    good, left = True, list(cells)
    try:
        with make_stack(session.setting) as stack, ExitStack() as running:
            averages = _warm(results, session, stack, cells[0].start)
            loop = ClosedLoop(
                stack, averages, closed_loop_file(session.pattern), results.plan.processes
            )
            if not cells[0].rate:
                running.enter_context(loop)
            for cell in cells:
                result = _cell(results.plan, cell, stack, averages, loop)
                results.keep("cells", cell.name, session.facts, result)
                left.remove(cell)
                progress.done(f"{cell.name}: {recording.in_words(result['window'])}")
                good = report_problems(cell, result) and good
    except FAILURES as error:
        for cell in left:
            progress.done(f"{cell.name}: {error}")
        return False
    return good


def _cell(
    plan: Plan,
    cell: Cell,
    stack: MeasuredStack,
    averages: dict[str, tuple[float, int]],
    loop: ClosedLoop,
) -> dict[str, Any]:
    started = time.time()
    result: dict[str, Any] = {"users": cell.users, "rate": cell.rate, "start": cell.start}
    if cell.rate:
        pattern = cell.session.pattern
        result |= open_cell(stack, averages, pattern, cell.rate, plan.warm_up, plan.seconds)
    else:
        ramp_up = cell.users / plan.spawn_rate
        result |= closed_cell(loop, cell.users, ramp_up, plan.warm_up, plan.seconds)
    result["flags"] = judge.flags(result)
    result["invalid"] = judge.invalid(result, plan.processes, plan.seconds)
    result["took"] = time.time() - started
    return result


def _warm(
    results: Results, session: Session, stack: MeasuredStack, start: str = "warm"
) -> dict[str, tuple[float, int]]:
    """The right answers, which the stack's caches hold afterwards."""
    results.start(stack.versions())
    averages = stack.expected_averages()
    if start == "warm":
        fill(stack, session.setting, sorted(averages))
    return averages


def report_problems(cell: Cell, result: dict[str, Any]) -> bool:
    """Print why a cell does not count, what it misses and its flags; whether it is good."""
    problems = judge.complaints(result)
    for problem in [*problems, *result["flags"]]:
        print(f"    {cell.name}: {problem}", flush=True)
    return not problems


def _capacity(result: dict[str, Any]) -> str:
    return f"{'at least ' if result['censored'] else ''}{result['capacity']:,}"

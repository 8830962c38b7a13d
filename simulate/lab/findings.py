"""What the numbers of a run say, in sentences: the verdict, what each lever buys, what it takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab import judge, model, results, words
from lab.plan import Setting
from lab.results import Capacity, Load, Pair, Point, Run
from lab.tables import Table
from lab.text import count, digits, factor, ms, percent, users

# What the project promises: this many users of any pattern within the service level.
PROMISED = {"default settings": 1000, "edge cache on": 10_000}
THINK = 1.5  # seconds a user thinks between requests, on average
PLANS = (1000, 3000, 10_000)  # users that the model is asked about
COARSE = "quick"  # a plan's kind
REPLICAS_ALONE = {name: value for name, value in asdict(Setting()).items() if name != "replicas"}


@dataclass(frozen=True)
class Verdict:
    word: str  # kept, MISSED, not judged
    reasons: Sequence[str]


def verdict(run: Run) -> Verdict:
    """Whether the promised numbers of users are carried, as far as the run can tell."""
    judged = [*_of_searches(run), *_of_cells(run)]
    missed, kept, unclear = (
        [reason for result, reason in judged if result is wanted] for wanted in (False, True, None)
    )
    reasons = [*missed, *unclear] if missed else [*kept, *unclear]
    nothing = "no valid cell and no search has settings and a load that something is promised for"
    word = "MISSED" if missed else "kept" if kept else "not judged"
    return Verdict(word, [*(reasons or [nothing]), *_reservations(run)])


def _reservations(run: Run) -> list[str]:
    reservations = []
    if run.plan["kind"] == COARSE:
        reservations.append(words.COARSE)
    for what, measured, valid in (
        ("cells", run.cells, run.valid_cells),
        ("searches", run.searches, run.valid_searches),
    ):
        if invalid := len(measured) - len(valid):
            many = f"{invalid} of {len(measured)} {what} are INVALID"
            reservations.append(f"{many}: no chart and no verdict uses them")
    return reservations


def compared(pairs: Sequence[Pair], runs: Sequence[Run]) -> Verdict:
    """Where the second carries more or fewer users than the first, and where none can be told."""
    first, second = (run.name for run in runs)
    sides: dict[str, list[str]] = {"more": [], "fewer": [], "as many, or no interval": []}
    for pair in pairs:
        low = pair.ratio.low if pair.ratio else None
        told = low is not None and not pair.ratio.undecided
        side = ("more" if low > 1 else "fewer") if told else "as many, or no interval"
        sides[side].append(f"{pair.lever}, {pair.pattern} ({factor(pair.ratio)})")
    reasons = [f"{side}: {'; '.join(found)}" for side, found in sides.items() if found]
    if any(run.plan["kind"] == COARSE for run in runs):
        reasons.append(words.COARSE)
    return Verdict(f"Users of {second} against {first}", reasons)


def _of_searches(run: Run) -> list[tuple[bool | None, str]]:
    judged = []
    for lever, row in results.capacities(run.valid_searches).items():
        for pattern, capacity in row.items():
            promised = PROMISED.get(lever)
            if promised is None:
                continue
            low, high = capacity.users.low, capacity.users.high
            low, high = (capacity.users.mean if end is None else end for end in (low, high))
            kept = True if low >= promised else False if high < promised else None
            text = f"{lever}, {pattern}: {users(capacity.users)} users, promised {count(promised)}"
            judged.append((kept, text + ("" if kept is not None else ": too close to tell")))
    return judged


def _of_cells(run: Run) -> list[tuple[bool | None, str]]:
    judged = []
    for cell in run.valid_cells:
        if not 0 < cell["users"] <= PROMISED.get(cell["lever"], 0):
            continue
        word = judge.verdict(cell)
        if word != "not judged":
            said = "; ".join(judge.problems(cell)) or f"p95 {ms(cell['window']['p95_ms'])}"
            what = f"{cell['lever']}, {cell['pattern']}, {count(cell['users'])} users"
            judged.append((word == "kept", f"{what}: {said}"))
    return judged


def lever(capacities: Mapping[str, Capacity], points: Mapping[str, Point]) -> str:
    """Sentences on one lever: what it buys, where the time went, and what ended it."""
    first = next(iter(capacities.values()))
    sentences = []
    if first.lever != first.reference:
        buys = [f"{_change(one)} ({one.pattern})" for one in capacities.values() if one.factor]
        if buys:
            sentences.append(f"Against {first.reference}: {', '.join(buys)}.")
    if first.pattern in points:
        sentences.append(_where_the_time_went(points[first.pattern], first.pattern))
    if first.beyond:
        sentences.append(_what_ended_it(first.beyond))
    elif first.users.at_least:
        sentences.append("No search found its end: the generator or the plan was at its limit.")
    return " ".join(sentences)


def _change(capacity: Capacity) -> str:
    if capacity.factor.undecided:
        return f"no difference found, {factor(capacity.factor)}"
    return f"{factor(capacity.factor)} the users"


def _where_the_time_went(point: Point, pattern: str) -> str:
    demands = results.demands(point)
    parts = sorted(demands.items(), key=lambda item: -item[1])
    spent = ", ".join(f"{part} {digits(value)}" for part, value in parts if value >= 0.001)
    answered = sorted(results.tiers(point["window"]).items(), key=lambda item: -item[1])
    who = ", ".join(f"{name} {percent(share)}" for name, share in answered if share >= 0.05)
    idle = point["machine_load"]["idle_mean"]
    saturated = idle is not None and idle < judge.LEAST_IDLE
    busy = " (SATURATED: its times are no result)" if saturated else ""
    return (
        f"At {count(point['users'])} {pattern} users a right answer takes "
        f"{ms(sum(demands.values()))} of CPU ({spent}), {percent(idle)} of the cores are "
        f"idle{busy}, and {digits(point['connections']['max'])} connections to PostgreSQL are "
        f"open. Answered by: {who}."
    )


def _what_ended_it(probe: Point) -> str:
    window = probe["window"]
    text = f"With {count(probe['users'])} users it ends: {'; '.join(probe['reasons'])}"
    failed = sorted(results.failures(window).items(), key=lambda item: -item[1])
    who = ", ".join(f"{name} {percent(share)}" for name, share in failed if share)
    return f"{text}. Of all requests failed: {who}." if who else f"{text}. No request failed."


def over_users(loads: Mapping[str, Load]) -> list[Table]:
    """The model of goodput over users, by pattern; no table without one."""
    rows = []
    for name, load in loads.items():
        if load.law:
            checks = model.check(results.law_points(load.curve))
            worst = max(checks, key=lambda check: abs(check.error_percent))
            rows.append(
                [
                    *(name, digits(load.law.lambda_), digits(load.law.sigma)),
                    *(digits(load.law.kappa), _peak(load.law, results.USERS)),
                    f"{count(worst.n * results.USERS)} users: {_error(worst, '/s')}",
                ]
            )
    header = ["", "lambda, 1/s", "sigma", "kappa", "point of return, users"]
    header.append("worst prediction of a point that was left out")
    return [Table(header, rows)] if rows else []


def over_replicas(searches: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The model of capacity over replicas, how it was checked, and the replicas that users need."""
    points: dict[str, list[model.Point]] = {}
    for search in searches:
        others = {name: value for name, value in search["setting"].items() if name != "replicas"}
        if others == REPLICAS_ALONE and search["capacity"] and not search["censored"]:
            point = (search["setting"]["replicas"], search["capacity"])
            points.setdefault(search["pattern"], []).append(point)
    fits = {name: found for name, found in points.items() if len({n for n, _ in found}) > 1}
    if not fits:
        return []
    laws = {pattern: model.fit(found) for pattern, found in fits.items()}
    parameters = [
        [name, digits(law.lambda_), digits(law.sigma), digits(law.kappa), _peak(law)]
        for name, law in laws.items()
    ]
    checks = [
        [pattern, count(check.n), count(check.predicted), count(check.measured), _percent(check)]
        for pattern, found in fits.items()
        for check in model.check(found)
    ]
    needs = [[count(wanted), *(_needed(law, wanted) for law in laws.values())] for wanted in PLANS]
    found = [
        Table(["", "lambda, users", "sigma", "kappa", "point of return, replicas"], parameters),
        Table(["left out: pattern", "replicas", "predicted", "measured", "error"], checks),
        Table(["users", *(f"replicas ({name})" for name in laws)], needs),
    ]
    return [table for table in found if table.rows]


def cores_needed(points: Mapping[str, Point]) -> list[Table]:
    """Cores that each part is busy with for so many users, by lever: the utilization law.

    U = X D: rate times service demand. Source: Denning and Buzen, "The Operational Analysis of
    Queueing Network Models", ACM Computing Surveys 10 (3), 1978.
    """
    rows = []
    for name, point in points.items():
        demands = results.demands(point)
        for wanted in PLANS:
            cores = {part: wanted / THINK * spent / 1000 for part, spent in demands.items()}
            parts = [digits(cores[part]) for part in results.PARTS]
            stack = sum(cores.values()) - cores["generator"]
            rows.append([name, count(wanted), *parts, str(math.ceil(stack))])
    header = ["lever", "users", *(f"{part}, cores" for part in results.PARTS)]
    return [Table([*header, "cores of the stack at least"], rows)] if rows else []


def _needed(law: model.Model, wanted: int) -> str:
    found = law.least(wanted)
    return str(found) if found else "more than the law's highest point"


def _peak(law: model.Model, unit: int = 1) -> str:
    return "none" if law.peak == math.inf else digits(law.peak * unit)


def _error(check: model.Check, unit: str) -> str:
    predicted, measured = count(check.predicted), count(check.measured)
    return f"{predicted}{unit}, measured {measured}{unit} ({_percent(check)})"


def _percent(check: model.Check) -> str:
    return f"{check.error_percent:+.1f} %"

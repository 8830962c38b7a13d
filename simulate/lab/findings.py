"""What the numbers of a run say, in sentences: the verdict, what each lever buys, what it takes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab import judge, model, results, words
from lab.plan import DEFAULT, EDGE, Setting
from lab.results import Capacity, Load, Pair, Point, Run
from lab.tables import Table
from lab.text import count, digits, factor, ms, percent, users
from users.patterns import PATTERNS

# What the project promises: this many users within the service level, with the default settings of
# any pattern.
PROMISED = {DEFAULT: 1000, EDGE: 10_000}
MANY = 10_000  # users, as in the project's name
PLANS = (1000, 3000, MANY)  # users that the model is asked about
MOST_ERROR = 25  # percent, of a model's prediction
COARSE = "quick"  # a plan's kind
COMPARED = ("target", "revision", "machine", "rows", "seconds")  # that two runs may differ in
REPLICAS_ALONE = {name: value for name, value in asdict(Setting()).items() if name != "replicas"}


@dataclass(frozen=True)
class Verdict:
    word: str  # kept, kept as far as measured, MISSED, not judged
    reasons: Sequence[str]
    about: str = ""


@dataclass(frozen=True)
class Judged:
    """What a search or a cell says of a promise; ``kept`` is None where that can't be told."""

    kept: bool | None
    lever: str
    pattern: str
    reason: str


def verdict(run: Run) -> Verdict:
    """Whether the promised numbers of users are carried, as far as the run can tell."""
    judged = [*_of_searches(run), *_of_cells(run)]
    missed, kept, unclear = (
        _by_lever([one for one in judged if one.kept is wanted], sign)
        for wanted, sign in ((False, "missed"), (True, "kept"), (None, "not known"))
    )
    gaps = [] if run.from_outside else _not_measured(judged)
    word = "MISSED" if missed else "kept" if kept else "not judged"
    if word == "kept" and (unclear or gaps):
        word = "kept as far as measured"
    about = words.PROMISE_ON_AWS if run.from_outside else words.PROMISE
    return Verdict(word, [*missed, *unclear, *kept, *gaps, *_reservations(run)], about)


def _not_measured(judged: Sequence[Judged]) -> list[str]:
    """What is promised, and nothing in the run tells of."""
    measured = {(one.lever, one.pattern) for one in judged}
    patterns = [pattern for pattern in PATTERNS if (DEFAULT, pattern) not in measured]
    gaps = [f"not measured: {DEFAULT}: {', '.join(patterns)} users"] if patterns else []
    if not any(lever == EDGE for lever, _ in measured):
        gaps.append(f"not measured: {EDGE}")
    return gaps


def _by_lever(judged: Sequence[Judged], sign: str) -> list[str]:
    """One line for each lever."""
    levers: dict[str, list[str]] = {}
    for one in judged:
        levers.setdefault(one.lever, []).append(one.reason)
    return [f"{sign}: {lever}: {', '.join(reasons)}" for lever, reasons in levers.items()]


def _reservations(run: Run) -> list[str]:
    reservations = []
    if run.plan["kind"] == COARSE:
        reservations.append(words.COARSE)
    if run.from_outside:
        reservations.append(words.FROM_OUTSIDE)
    for what, measured, valid in (
        ("cells", run.cells, run.valid_cells),
        ("searches", run.searches, run.valid_searches),
    ):
        if invalid := len(measured) - len(valid):
            many = f"{invalid} of {len(measured)} {what} are INVALID"
            reservations.append(f"{many}: no chart and no verdict uses them")
    return reservations


def compared(pairs: Sequence[Pair], runs: Sequence[Run]) -> Verdict:
    """Of how many settings the second carries more or fewer users than the first."""
    sides = dict.fromkeys(("more", "fewer", "no difference found", "not known"), 0)
    for pair in pairs:
        ratio, low = pair.ratio, pair.ratio.low if pair.ratio else None
        if low is None or (ratio.at_least and low <= 1):
            side = "not known"
        elif ratio.undecided:
            side = "no difference found"
        else:
            side = "more" if low > 1 else "fewer"
        sides[side] += 1
    many = [f"{side}: {number} of {len(pairs)}" for side, number in sides.items() if number]
    stock = [f"{pair.pattern} {factor(pair.ratio)}" for pair in pairs if pair.lever == DEFAULT]
    reasons = [f"{DEFAULT}: {', '.join(stock)}"] if stock else []
    reasons.append(f"settings and patterns: {', '.join(many)}")
    if other := [name for name in COMPARED if runs[0].plan[name] != runs[1].plan[name]]:
        reasons.append(f"they differ in {', '.join(other)} too")
    if any(run.plan["kind"] == COARSE for run in runs):
        reasons.append(words.COARSE)
    return Verdict(f"Users that {runs[1].name} carries against {runs[0].name}", reasons)


def _of_searches(run: Run) -> list[Judged]:
    judged = []
    for lever, row in run.capacities.items():
        promised = PROMISED.get(lever)
        for pattern, capacity in row.items() if promised else ():
            found = capacity.users
            low, high = (found.mean if end is None else end for end in (found.low, found.high))
            high = math.inf if found.at_least else high
            kept = True if low >= promised else False if high < promised else None
            judged.append(Judged(kept, lever, pattern, f"{pattern} {users(found)} users"))
    return judged


def _of_cells(run: Run) -> list[Judged]:
    """With fewer users than promised a cell can only miss; on AWS any number is promised."""
    judged = []
    for cell in run.valid_cells:
        promised = cell["users"] if run.from_outside else PROMISED.get(cell["lever"], 0)
        word = judge.verdict(cell)
        if not 0 < cell["users"] <= promised or word == "not judged":
            continue
        if word == "missed" or cell["users"] == promised:
            said = "; ".join(judge.problems(cell)) or f"p95 {ms(cell['window']['p95_ms'])}"
            reason = f"{count(cell['users'])} {cell['pattern']} users ({said})"
            judged.append(Judged(word == "kept", cell["lever"], cell["pattern"], reason))
    return judged


def lever(capacities: Mapping[str, Capacity], points: Mapping[str, Point]) -> str:
    """Sentences on one lever: what it buys, where the time went, and what ended it."""
    first = next(iter(capacities.values()))
    sentences = [_what_it_buys(list(capacities.values()))]
    if first.pattern in points:
        sentences.append(_where_the_time_went(points[first.pattern], first.pattern))
    if first.beyond:
        sentences.append(_what_ended_it(first.beyond))
    elif first.users.at_least:
        sentences.append(f"No search found its end, because of {first.bound}.")
    return " ".join(filter(None, sentences))


def _what_it_buys(capacities: Sequence[Capacity]) -> str:
    """By how much, over the patterns, and of which none can be told."""
    found = [one for one in capacities if one.factor and not one.factor.undecided]
    same = [one.pattern for one in capacities if one.factor and one.factor.undecided]
    reference = capacities[0].reference
    nothing = f"No difference to {reference} was found ({', '.join(same)} users)." if same else ""
    if not found:
        return nothing
    factors = sorted(one.factor.mean for one in found)
    span = " to ".join(dict.fromkeys(f"{one:.2f}" for one in (factors[0], factors[-1])))
    least = "at least " if any(one.factor.at_least for one in found) else ""
    names = ", ".join(one.pattern for one in found)
    return f"Carries {least}{span} times the {names} users of {reference}. {nothing}".strip()


def _where_the_time_went(point: Point, pattern: str) -> str:
    demands = results.demands(point)
    parts = sorted(demands.items(), key=lambda item: -item[1])
    spent = ", ".join(f"{part} {digits(value)}" for part, value in parts if value >= 0.001)
    answered = sorted(results.tiers(point).items(), key=lambda item: -item[1])
    who = ", ".join(f"{name} {percent(share)}" for name, share in answered if share >= 0.05)
    idle = point["machine_load"]["idle_mean"]
    busy = f" ({judge.SATURATED}: its times are no result)" if judge.saturated(point) else ""
    return (
        f"At {count(point['users'])} {pattern} users a right answer takes "
        f"{ms(sum(demands.values()))} of CPU ({spent}), {percent(idle)} of the cores are "
        f"idle{busy}. Answered by: {who}. {_at_the_database(point['replicas'])}"
    )


def _at_the_database(replicas: Mapping[str, Any]) -> str:
    """How full the pools were, as the replicas count it, or how many connections they opened."""
    pool = replicas["pool"]
    if pool["limit"] is None:
        return "No replica told of its connections."
    if not pool["limit"]["max"]:
        return f"{digits(replicas['opened_per_second'])} connections to PostgreSQL a second."
    if not replicas["waits"]:
        return "PostgreSQL is not asked."
    waiting = pool["waiting"]["max"]
    return (
        f"Of {count(pool['limit']['max'])} connections to PostgreSQL at most "
        f"{count(pool['in_use']['max'])} are in use, and "
        f"{f'up to {count(waiting)} requests wait' if waiting else 'no request waits'} for one."
    )


def _what_ended_it(probe: Point) -> str:
    window = probe["window"]
    text = f"With {count(probe['users'])} users it ends: {'; '.join(probe['reasons'])}"
    failed = sorted(results.failures(window).items(), key=lambda item: -item[1])
    who = ", ".join(f"{name} {percent(share)}" for name, share in failed if share)
    return f"{text}. Of all requests failed: {who}." if who else f"{text}. No request failed."


def over_users(loads: Mapping[str, Load]) -> list[Table]:
    """The model of goodput over users, by pattern; no table without one."""
    laws = {pattern: load.law for pattern, load in loads.items() if load.law}
    points = [results.law_points(loads[pattern].curve) for pattern in laws]
    checks = [model.check(found, results.USERS_ALONE) for found in points]
    worst = [max(found, key=lambda check: abs(check.error_percent)) for found in checks]
    rows = [
        *_parameters(laws.values(), "lambda, 1/s", results.USERS, "users", points),
        ["worst prediction of a point left out", *(_error(check) for check in worst)],
        ["... at users", *(count(check.n * results.USERS) for check in worst)],
        ["holds there", *(_holds(check) for check in worst)],
    ]
    return [Table(["", *laws], rows)] if laws else []


def over_replicas(searches: Sequence[Mapping[str, Any]]) -> list[Table]:
    """The model of capacity over replicas, how it was checked, and the replicas users need."""
    points: dict[str, list[model.Point]] = {}
    for search in searches:
        others = {name: value for name, value in search["setting"].items() if name != "replicas"}
        if others == REPLICAS_ALONE and search["capacity"] and not search["censored"]:
            point = (search["setting"]["replicas"], search["capacity"])
            points.setdefault(search["pattern"], []).append(point)
    points = {name: found for name, found in points.items() if len({n for n, _ in found}) > 1}
    laws = {pattern: model.fit(found) for pattern, found in points.items()}
    checks = {pattern: model.check(found) for pattern, found in points.items()}
    numbers = sorted({check.n for found in checks.values() for check in found})
    rows = _parameters(laws.values(), "lambda, users", 1, "replicas", points.values())
    for n in numbers:
        predicted = [next((c for c in found if c.n == n), None) for found in checks.values()]
        rows.append([f"users with {n}, predicted from the others", *map(_error, predicted)])
    for wanted in PLANS:
        needed = [_needed(law, wanted) for law in laws.values()]
        rows.append([f"replicas for {count(wanted)} users", *needed])
    return [Table(["", *laws], rows)] if laws else []


def cores_needed(points: Mapping[str, Point]) -> list[Table]:
    """Cores that each part is busy with for MANY users, by lever: the utilization law.

    U = X D: rate times service demand. Source: Denning and Buzen, "The Operational Analysis of
    Queueing Network Models", ACM Computing Surveys 10 (3), 1978.
    """
    rows = []
    for name, point in points.items():
        demands = results.demands(point)
        cores = {part: MANY / results.THINK * spent / 1000 for part, spent in demands.items()}
        stack = sum(cores.get(part, 0.0) for part in results.STACK)
        rows.append([name, *(digits(cores.get(part)) for part in results.PARTS), digits(stack)])
    header = [f"{count(MANY)} users, cores", *results.PARTS, "the stack, at least"]
    return [Table(header, rows)] if rows else []


def _parameters(
    laws: Iterable[model.Model],
    first: str,
    unit: int,
    what: str,
    points: Iterable[Sequence[model.Point]],
) -> list[Sequence[str]]:
    """``points`` are those that each law was fitted to."""
    laws = list(laws)
    most = [max(n for n, _ in found) for found in points]
    return [
        [first, *(digits(law.lambda_) for law in laws)],
        ["sigma", *(digits(law.sigma) for law in laws)],
        ["kappa", *(digits(law.kappa) for law in laws)],
        [f"point of return, {what}", *(_peak(*one, unit) for one in zip(laws, most, strict=True))],
    ]


def _needed(law: model.Model, wanted: int) -> str:
    found = law.least(wanted)
    return str(found) if found else f"none: at most {count(law.highest)} users"


def _peak(law: model.Model, most: float, unit: int) -> str:
    """Beyond what was measured it would be made up, but for one more of it."""
    return digits(law.peak * unit) if law.peak <= most + 1 else f"none up to {count(most * unit)}"


def _holds(worst: model.Check) -> str:
    return "yes" if abs(worst.error_percent) <= MOST_ERROR else f"no: more than {MOST_ERROR} % off"


def _error(check: model.Check | None) -> str:
    if check is None:
        return "-"
    predicted, measured = count(check.predicted), count(check.measured)
    return f"{predicted}, measured {measured}\n({check.error_percent:+.1f} %)"

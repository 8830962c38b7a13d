"""When a measurement counts, what it must not be called, and what users may expect.

All limits stand here.
"""

from collections.abc import Mapping
from typing import Any

# The service level: what users may expect from the end of the arrival on.
P95_MS = 250.0  # of right answers
GOOD_SHARE = 0.999  # of all requests: answered right within 2 s

# A cell is INVALID beyond these: its numbers would tell of the generator, not of the stack.
GENERATOR_CPU = 90.0  # percent of one core, mean over the window, of any process of the generator
COUNTS_APART = 0.005  # the generator's and nginx's numbers of requests, relative
WINDOW_SHORT = 0.9  # of the planned seconds

# A cell beyond these is kept and flagged.
LEAST_IDLE = 5.0  # percent of all cores; with less, times tell of the queue for a core
SUSTAINED = 0.99  # of an open loop's rate
SEND_LAG_MS = 1.0  # p99
UNSTEADY_TIERS = 2.0  # percentage points between the halves of the window

SATURATED, UNSUSTAINED = "SATURATED", "UNSUSTAINED"  # begin a flag

Result = Mapping[str, Any]


def missed(summary: Result) -> list[str]:
    """How a stretch misses the service level, each with the number."""
    if not summary["sent"]:
        return ["no request was sent"]
    problems = []
    p95 = summary["p95_ms"]
    if p95 is not None and p95 > P95_MS:
        problems.append(f"p95 {p95:,.0f} ms > {P95_MS:.0f} ms")
    if summary["good_share"] < GOOD_SHARE:
        share = f"{100 * summary['good_share']:.2f} %"
        problems.append(f"{share} good answers < {100 * GOOD_SHARE:.1f} %")
    return problems


def saturated(point: Result) -> bool:
    """Whether its times tell of the queue for a core."""
    idle = point["machine_load"]["idle_mean"]
    return idle is not None and idle < LEAST_IDLE


def hopeless(summary: Result, users: int, seconds: float) -> bool:
    """Whether a window misses the level already, whatever its other seconds bring.

    A user sends one request a second at most.
    """
    return summary["failed"] > (1 - GOOD_SHARE) * users * seconds


def verdict(cell: Result) -> str:
    """kept, missed or not judged: a cell that does not count, or that began with cold caches."""
    if cell["invalid"] or cell["start"] == "cold":
        return "not judged"
    if unsustained(cell):
        return "not judged"
    return "missed" if problems(cell) else "kept"


def unsustained(point: Result) -> bool:
    """Whether the rate of an open loop was not kept: only its goodput is a result."""
    return any(flag.startswith(UNSUSTAINED) for flag in point.get("flags", ()))


def problems(cell: Result) -> list[str]:
    """How a cell misses the service level in its warm-up or window."""
    phases = [(name, cell["phases"][name]) for name in ("warm-up", "window")]
    return [
        f"{name}: {problem}"
        for name, summary in phases
        if summary["seconds"]
        for problem in missed(summary)
    ]


def complaints(cell: Result) -> list[str]:
    """Why a cell does not count, or how it misses the service level; none for a good one."""
    invalid = [f"INVALID: {reason}" for reason in cell["invalid"]]
    return invalid + (problems(cell) if verdict(cell) == "missed" else [])


def generator_limits(usage: Mapping[str, Result], of: str = "mean") -> list[str]:
    """Processes of the generator that were at the end of their core.

    On the whole, or in the busiest second (``of``: max), when what is late stays so for longer.
    """
    return [
        f"{name} used {cpu[of]:.0f} % CPU, more than {GENERATOR_CPU:.0f} %"
        for name, cpu in usage.items()
        if name.startswith("generator") and cpu[of] > GENERATOR_CPU
    ]


def invalid(cell: Result, processes: int, seconds: float) -> list[str]:
    """Reasons why a cell's numbers are not to be used; none for a good one.

    ``processes`` and ``seconds`` are what was planned.
    """
    window = cell["window"]
    if not window["sent"]:
        return ["no request was measured"]
    reasons = generator_limits(cell["cpu"])
    workers = 1 if cell["rate"] else processes
    if window["fewest_workers"] < workers:
        reasons.append(f"{window['fewest_workers']} of {workers} workers were left")
    if window["fewest_users"] < cell["users"]:
        reasons.append(f"{window['fewest_users']} of {cell['users']} users were there")
    if window["seconds"] < WINDOW_SHORT * seconds:
        reasons.append(f"{window['seconds']:.0f} s of {seconds} s were measured")
    reasons += counts_apart(cell["nginx"])
    wrong = sum(phase["failures"].get("wrong", 0) for phase in cell["phases"].values())
    if wrong:
        reasons.append(f"{wrong} wrong answers")
    return reasons


def counts_apart(nginx: Result | None) -> list[str]:
    """Whether nginx logged as many requests as the generator sent, where its log was read.

    A request that failed in the network may not have reached it.
    """
    if nginx is None:
        return []
    sent, logged = nginx["sent"], nginx["requests"]
    if abs(sent - logged) > COUNTS_APART * max(sent, logged) + nginx["network"]:
        return [f"the generator sent {sent} requests, nginx logged {logged}"]
    return []


def flags(cell: Result) -> list[str]:
    """What the numbers of a cell must not be taken for."""
    found = []
    if saturated(cell):
        idle = f"{cell['machine_load']['idle_mean']:.1f} %"
        found.append(f"{SATURATED}: {idle} of the cores idle, its times are not a result")
    found += _unsustained(cell)
    if unread := cell["replicas"]["unread"]:
        found.append(f"UNREAD: {unread} times a replica did not tell its metrics within 1 s")
    if cell["start"] == "warm" and cell["halves_apart"] > UNSTEADY_TIERS:
        apart = f"{cell['halves_apart']:.1f} percentage points"
        found.append(f"UNSTEADY: a tier's share moved by {apart} within the window")
    return found


def _unsustained(cell: Result) -> list[str]:
    """In an open loop whose rate isn't kept times grow with the length of the run."""
    if not cell["rate"]:
        return []
    answered, lag = cell["window"]["answered_per_second"], cell["window"]["send_lag_p99_ms"]
    if answered < SUSTAINED * cell["rate"]:
        return [f"{UNSUSTAINED}: {answered:.0f} of {cell['rate']} requests/s were answered"]
    if lag is not None and lag > SEND_LAG_MS:
        return [f"{UNSUSTAINED}: requests were sent {lag:.3g} ms late (p99)"]
    return []

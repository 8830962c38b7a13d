"""Makes up what a run would have kept, of stacks whose behaviour is known."""

import json
import random
from dataclasses import asdict, dataclass

from lab.plan import LEVERS
from lab.replica_metrics import TIERS

THINK = 1.5  # seconds
MACHINE = {"cpu": "Abacus", "cores": 2, "memory_gib": 4.0, "kernel": "6.1", "python": "3.11"}
PLAN = {
    "command": "make experiments ARGS='--rows 200000'",
    "target": "local",
    "rows": 200_000,
    "seed": 42,
    "warm_up": 3,
    "seconds": 5,
    "revision": "0123456789ab",
    "machine": MACHINE,
    "versions": {"locust": "2.47.0"},
    "settings": {},
    "kind": "capacity",
}
PROCESSES = ("flask", "flask_replica_1", "flask_replica_2", "PostgreSQL", "Redis", "nginx")


@dataclass(frozen=True)
class SyntheticStack:
    """Answers right up to ``capacity`` users; of more it refuses some, ever faster."""

    capacity: int = 3000
    answer_ms: float = 8.3  # below the knee
    refused: float = 0.0  # part of the requests that it refuses at once, at any load
    tier: str = "memory"

    def holds(self, users):
        return users <= self.capacity and not self.refused

    def window(self, users, seconds=5.0):
        """What a summary of the recording would say."""
        busy = users / self.capacity
        ms = self.answer_ms * (1 + 3 * busy**4) if busy <= 1 else 400 * busy
        sent = round(seconds * users / (THINK + (0 if self.refused else ms / 1000)))
        failed = round(sent * max(self.refused, 0.6 * (1 - 1 / busy) if busy > 1 else 0.0))
        good = sent - failed
        times = {"p50_ms": ms / 2, "p95_ms": ms, "p99_ms": 1.5 * ms, "p999_ms": 2 * ms}
        times["max_ms"] = 3 * ms
        return {
            "seconds": seconds,
            "sent": sent,
            "good": good,
            "goodput": good / seconds,
            "good_share": good / sent if sent else None,
            "failures": {"nginx": failed - failed // 10, "pool": failed // 10},
            "failed": failed,
            "tiers": {
                "edge": good if self.tier == "edge" else 0,
                "origin": 0 if self.tier == "edge" else good,
                "refused": failed,
            },
            "replicas": {"flask": good},
            **(times if good else dict.fromkeys(times)),
            "fewest_users": users,
            "fewest_workers": 1,
        }

    def cpu(self, users):
        percent = 60 * min(1.0, users / self.capacity)
        usage = dict.fromkeys(PROCESSES, percent / 3) | {"generator": percent / 2}
        return {name: {"mean": mean, "max": mean + 5} for name, mean in usage.items()}


def point(stack, users):
    """What probes and cells have in common."""
    return {
        "users": users,
        "window": stack.window(users),
        "cpu": stack.cpu(users),
        "machine_load": {"idle_mean": 20.0, "idle_min": 10.0, "steal_mean": 0.1},
        "replicas": replicas(stack, users),
    }


def replicas(stack, users):
    """What their metrics say; with each connection a query takes 10 ms."""
    window = stack.window(users)
    reading = stack.tier in ("computed", "uncached")
    good = 0 if stack.tier == "edge" else window["good"]
    busy = min(45, round(window["goodput"] / 100)) if reading else 0
    pool = {"size": max(15, busy), "in_use": busy, "limit": 45, "waiting": 0}
    return {
        "answers": dict.fromkeys(TIERS, 0) | ({stack.tier: good} if good else {}),
        "refused": {"pool": window["failures"]["pool"], "database": 0, "time": 0},
        "flights_joined": 0,
        "redis_errors": 0,
        "connections_opened": 0,
        "opened_per_second": 0.0,
        "waits": good if reading else 0,
        "wait_ms": 0.02 if reading else None,
        "pool": {name: {"mean": float(value), "max": value} for name, value in pool.items()},
        "looks": 6,
        "unread": 0,
    }


def probe(stack, users):
    reasons = [] if stack.holds(users) else ["p95 480 ms > 250 ms"]
    arrival = stack.window(users, seconds=4.0)
    return point(stack, users) | {
        "holds": stack.holds(users),
        "reasons": reasons,
        "limits": [],
        "arrival": arrival,
    }


def search(lever="default settings", pattern="random", repeat=1, censored=False, **stack):
    """A search with 5 probes that finds the stack's capacity within some percent."""
    stack = SyntheticStack(**stack)
    found = round(stack.capacity * random.Random(f"{lever} {pattern} {repeat}").uniform(0.97, 1))
    users = [round(found * part) for part in (0.25, 0.5, 1, *(() if censored else (1.1, 1.5)))]
    return {
        "setting": asdict(LEVERS[lever]),
        "lever": lever,
        "pattern": pattern,
        "repeat": repeat,
        "capacity": 0 if stack.refused else found,
        "probes": [probe(stack, count) for count in users],
        "censored": censored,
        "bound": "--most-users 12000" if censored else "",
        "invalid": [],
        "revision": PLAN["revision"],
        "machine": MACHINE,
        "measured_at": f"2026-11-26T10:0{repeat}:00+00:00",
        "took": 60.0,
    }


def cell(lever="default settings", pattern="random", users=1000, rate=0, **changes):
    """A cell of 20 s, the last 10 of them measured."""
    stack = changes.pop("stack", SyntheticStack())
    load = users or rate * THINK
    series = [
        {"t": float(t), "users": min(users, users * t // 5)}
        | stack.window(max(1, round(load * min(1, t / 5))), seconds=1.0)
        for t in range(1, 21)
    ]
    window = stack.window(round(load), seconds=10.0)
    if rate:
        window |= {f"service_{name}": window[name] / 2 for name in window if name.endswith("_ms")}
        window |= {"send_lag_p99_ms": 0.42, "answered_per_second": window["goodput"]}
        for point_ in series:
            point_["service_p99_ms"] = point_["p99_ms"] / 2
    phases = {"arrival": stack.window(round(load / 2)), "warm-up": stack.window(round(load))}
    return (
        point(stack, round(load))
        | {
            "lever": lever,
            "setting": asdict(LEVERS[lever]),
            "pattern": pattern,
            "users": users,
            "rate": rate,
            "start": "warm",
            "repeat": 1,
            "window": window,
            "phases": phases | {"window": window},
            "series": series,
            "window_starts": 10.0,
            "window_ends": 20.0,
            "halves_apart": 0.5,
            "nginx": {"requests": 100, "sent": 100},
            "real_time": True,
            "flags": [],
            "invalid": [],
            "revision": PLAN["revision"],
            "machine": MACHINE,
            "measured_at": "2026-11-26T10:00:00+00:00",
            "took": 40.0,
        }
        | changes
    )


def capacity_searches(patterns=("random", "fixed", "weighted", "zipf"), repeats=5):
    """All levers, each with the effect that people expect of it."""
    effects = dict.fromkeys(LEVERS, 1.0) | {
        "1 replica": 0.8,
        "2 replicas": 0.92,
        "edge cache on": 4.0,
        "memory off (Redis alone)": 0.75,
        "cache off": 0.6,
        "cache off, pool off": 0.25,
        "cache off, POOL_MAXCONN=1": 0.4,
    }
    return [
        search(
            lever,
            pattern,
            repeat,
            censored=lever == "edge cache on",
            capacity=round((3000 + 100 * number) * effect),
            tier=TIER_OF.get(lever.partition(",")[0], "memory"),
        )
        for lever, effect in effects.items()
        for number, pattern in enumerate(patterns)
        for repeat in range(1, repeats + 1)
    ]


TIER_OF = {"edge cache on": "edge", "cache off": "uncached"}


def keep(folder, searches=(), cells=(), **plan):
    """Write them as a run does."""
    for kind, results in (("searches", searches), ("cells", cells)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, result in enumerate(results):
            (folder / kind / f"{number}.json").write_text(json.dumps(result))
    (folder / "plan.json").write_text(json.dumps(PLAN | plan))
    return folder

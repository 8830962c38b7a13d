"""Who did how much of the work in a cell: tiers, replicas, processes."""

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def tiers(result: Result) -> dict[str, float]:
    """Percent of the answers that each tier gave."""
    answers = result["window"]["answers"]
    edge, cache = answers.get("X-Edge-Cache", {}), answers.get("X-Cache", {})
    from_edge = edge.get("hit", 0)
    counts = {
        "edge cache": from_edge,
        "memory or Redis": cache.get("hit", 0) + cache.get("stale", 0),
        "PostgreSQL, then cached": cache.get("miss", 0),
        # X-Cache is bypass on answers of the edge cache, too, and on errors.
        "PostgreSQL uncached, or an error": cache.get("bypass", 0) - from_edge,
    }
    return _percent(counts)


def balance(result: Result) -> dict[str, float]:
    """Percent of the requests that each replica got."""
    counts = dict(sorted(result["nginx"]["replicas"].items()))
    return _percent({name: count for name, count in counts.items() if name != "none"})


def cpu(result: Result) -> dict[str, float]:
    """Percent of one core: replicas and the generator's processes together, others apart."""
    usage = dict.fromkeys(("PostgreSQL", "Flask", "Redis", "nginx", "generator"), 0.0)
    for name, value in result["cpu"].items():
        part = "Flask" if name.startswith("flask") else name.split()[0]
        usage[part] += value["mean"]
    return usage


def _percent(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values()) or 1
    return {name: 100 * count / total for name, count in counts.items()}

"""Measures what each kind of request costs the stack: nobody is to buy much of its CPU with one.

Every kind goes through nginx to one replica, one request after the other; what nginx refuses costs
the replica nothing. The claims are the ratios to a normal query within a round.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from stack import Stack
from table import spread

from lab.machine import ROOT, describe
from users.api import Client, query_request
from users.http_connection import HttpConnection, Server, request_bytes

ROWS = 10_000_000
PAGE = ROOT / "docs" / "requests.md"
INTRODUCTION = """# What a request costs

Microseconds of CPU that nginx, the replica and PostgreSQL take for one request of each kind, the
dearest first, and how many times a normal query that is. Whoever sends such a request buys so much
of the stack's time with it: one far above the others is a hole. A status of 4xx with 0 for the
replica is nginx's refusal. `make benchmark-requests` writes this page
([kept run](../benchmarks/results/asymmetry.json)): {cores} cores, {date}.
"""
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
NORMAL = "query, from memory"

Make = Callable[[], bytes]


def kinds(host: str, locations: list[str]) -> dict[str, Make]:
    """What makes the bytes of the next request of each kind."""

    def get(path: str, **headers: str) -> Make:
        return lambda: request_bytes("GET", host, path, headers)

    def post(body: str, headers: dict[str, str] = FORM, **more: str) -> Make:
        data = request_bytes("POST", host, "/query", headers | more, body.encode())
        return lambda: data

    fresh = iter(range(10**9))
    shuffled = iter(locations)
    known = post(f"location={locations[0].replace(' ', '+')}")
    many_headers = {f"X-{number}": "a" for number in range(90)}
    cookie = "; ".join(f"c{number}=a" for number in range(300))
    ranges = ",".join(f"{n}-{n}" for n in range(0, 700, 2))
    etags = ",".join(f'"{n}"' for n in range(500))
    accept = "a/a," * 64
    return {
        NORMAL: lambda: query_request(host, locations[0]),
        "query, as a page": known,
        "query, computed": lambda: query_request(host, next(shuffled)),
        "query, unknown name": lambda: query_request(host, f"Nowhere {next(fresh)}"),
        "form": get("/"),
        "form, filter that fits many": get("/?q=a"),
        "form, filter that fits none": get("/?q=zzzzzz"),
        "form, filter of 100 characters": get("/?q=" + "%F0%9F%8C%A6" * 100),
        "locations, 100": get("/locations"),
        "locations, 1,000": get("/locations?limit=1000"),
        "locations, 1,000 that fit": get("/locations?limit=1000&q=a"),
        "not found": get("/nowhere"),
        "not found, Accept of 256 bytes": lambda: request_bytes(
            "GET", host, "/nowhere", {"Accept": accept[:-5] + f"{next(fresh) % 10**5:05}"}
        ),
        "not found, Accept of 4 KB": get("/nowhere", Accept="a/a," * 1000),
        "not found, path of 4 KB": get("/%61" * 950),
        "90 headers": get("/health-check", **many_headers),
        "300 cookies": get("/health-check", Cookie=cookie),
        "health check": get("/health-check"),
        "ready": get("/ready"),
        "description": get("/openapi.yaml"),
        "style": get("/static/style.css"),
        "style, 350 ranges": get("/static/style.css", Range=f"bytes={ranges}"),
        "style, 500 ETags": get("/static/style.css", **{"If-None-Match": etags}),
        "2,000 arguments": get("/?" + "a&" * 1900),
        "2,000 fields": post("a&" * 2000),
        "20 fields": post("a=&" * 19 + "location=a"),
        "form of 4 KB in escapes": post("location=" + "%41" * 1360),
        "JSON, 4,000 arrays": post("[" * 4000, JSON),
        "JSON, 800 objects": post('{"a":' * 800, JSON),
        "JSON, 680 fields": post("{" + ",".join('"":0' for _ in range(680)) + "}", JSON),
        "JSON, number of 4,000 digits": post('{"location": ' + "9" * 4000 + "}", JSON),
        "wrong method": lambda: request_bytes("POST", host, "/", FORM, b"location=a"),
    }


def cpu_time(process: psutil.Process) -> float:
    """Microseconds of CPU that a process and its children have used; /proc counts nanoseconds."""
    used = 0
    for one in (process, *process.children()):
        for task in Path(f"/proc/{one.pid}/task").iterdir():
            used += int((task / "schedstat").read_text().split()[0])
    return used / 1000


def measure(stack: Stack, make: Make, seconds: float) -> dict[str, float]:
    """Microseconds of CPU that a request takes; its bytes and status."""
    connection = HttpConnection(Server(stack.url), timeout=10)
    parts = {
        "nginx": psutil.Process(stack.nginx.pid),
        "replica": psutil.Process(stack.replicas[0].pid),
        "postgresql": psutil.Process(stack.postgres.server.pid),
    }
    status = connection.exchange(data := make()).status_code
    before = {name: cpu_time(process) for name, process in parts.items()}
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        connection.exchange(make())
        count += 1
    used = {name: (cpu_time(parts[name]) - before[name]) / count for name in parts}
    connection.close()
    return used | {"total": sum(used.values()), "bytes": len(data), "status": status}


def summarize(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, object]]:
    """Medians, and the spread of the ratio to a normal query, of each kind; the dearest first."""
    summary = {}
    for kind, first in rounds[0].items():
        middle = {
            unit: spread([round_[kind][unit] for round_ in rounds])["median"]
            for unit in ("nginx", "replica", "postgresql", "total")
        }
        ratios = [round_[kind]["total"] / round_[NORMAL]["total"] for round_ in rounds]
        fixed = {"bytes": first["bytes"], "status": first["status"]}
        summary[kind] = middle | fixed | {"times": spread(ratios)}
    return dict(sorted(summary.items(), key=lambda item: -item[1]["times"]["median"]))


def page(machine: dict[str, object], summary: dict[str, dict[str, object]]) -> Iterator[str]:
    """The lines of docs/requests.md."""
    yield INTRODUCTION.format(date=machine["measured_at"][:10], **machine)
    yield "| request | status | bytes | nginx | replica | PostgreSQL | per byte | times |"
    yield "| --- " * 8 + "|"
    for kind, one in summary.items():
        per_byte = one["total"] / one["bytes"]
        yield (
            f"| {kind} | {one['status']} | {one['bytes']:,} | {one['nginx']:.0f} |"
            f" {one['replica']:.0f} | {one['postgresql']:.0f} | {per_byte:.2f} |"
            f" {one['times']['median']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="of each measurement")
    default = ROOT / "benchmarks" / "results" / "asymmetry.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="benchmark-requests-") as folder:
        Path(folder).chmod(0o755)  # as root, the servers run as another user
        settings = {"TOTAL_RECORDS": str(ROWS), "FLASK_REPLICAS": "1", "NGINX_PORT": "0"}
        with Stack(folder, os.environ | settings) as stack:
            with Client(stack.url) as client:
                locations = client.all_locations()
            random.Random(1).shuffle(locations)
            rounds = [
                {
                    kind: measure(stack, make, arguments.seconds)
                    for kind, make in kinds(Server(stack.url).name, locations).items()
                }
                for _ in range(arguments.rounds)
            ]
    summary = summarize(rounds)
    result = {"machine": describe(), "summary": summary, "rounds": rounds}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    text = "\n".join(page(result["machine"], summary)) + "\n"
    PAGE.write_text(text)
    print(text)
    print(f"written to {arguments.out} and {PAGE}")


if __name__ == "__main__":
    main()

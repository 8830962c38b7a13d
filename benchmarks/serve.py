"""Measures how fast the stack answers, against what its parts could do at best, on one machine.

All variants run on the same PostgreSQL and Valkey, one after the other in each round, so that a
slow minute of the machine hits each of them; the claims are ratios within a round.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sql
from constant import constant_nginx
from processes import free_ports
from proxy import Nginx
from stack import Replica, Stack, is_healthy
from table import print_table, spread

from lab.machine import ROOT, describe
from lab.open_loop import OpenLoop
from lab.recording import summary
from users.api import QUERY_PATH, query_request
from users.http_connection import Response, Server, request_bytes

WRK_CONNECTIONS = 64
LOCATIONS = 1000
FIXED_RATE = 800  # requests/s, about a fifth of what the default settings answer
START_LIMIT = 30.0  # seconds


@dataclass(frozen=True)
class Variant:
    """One way to answer a query."""

    name: str
    folder: str = "flask"
    app: str = "wsgi:app"
    replicas: int = 3
    edge_cache: str = "off"
    cache: str = "true"
    memory_cache: str = "true"


BARE = Variant("bare Flask", folder="benchmarks", app="bare:app")
EDGE = Variant("edge cache", edge_cache="on")
MEMORY = Variant("memory and Redis")
REDIS = Variant("Redis alone", memory_cache="false")
SQL = Variant("PostgreSQL", cache="false")
VARIANTS = [
    variant if replicas == 3 else replace(variant, name=f"{variant.name}, 1 replica", replicas=1)
    for replicas in (3, 1)
    for variant in (BARE, EDGE, MEMORY, REDIS, SQL)
]
RATIOS = {"edge cache / constant": ("edge cache", "nginx constant")} | {
    f"{ours} / bare Flask{replicas}": (f"{ours}{replicas}", f"bare Flask{replicas}")
    for replicas in ("", ", 1 replica")
    for ours in ("memory and Redis", "Redis alone", "PostgreSQL")
}
SQL_RATIOS = {
    "average / SELECT 1": ("average", "SELECT 1"),
    f"average / the same of {sql.SMALL_ROWS:,} rows": ("average", sql.SMALL_AVERAGE),
}


class Bench:
    """A running stack whose databases the variants use, and the requests to send."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder
        self._port = free_ports(1)[0]
        with urllib.request.urlopen(f"{stack.url}/locations?limit={LOCATIONS}") as answer:  # noqa: S310
            self.locations = json.load(answer)
        self._locations_file = folder / "locations"
        self._locations_file.write_text("\n".join(self.locations) + "\n")

    @contextlib.contextmanager
    def variant(self, variant: Variant) -> Iterator[str]:
        """URL of an nginx in front of a variant's own replicas."""
        environ = os.environ | self._stack.client_environ
        environ |= {"CACHE": variant.cache, "MEMORY_CACHE": variant.memory_cache}
        replicas = [
            Replica(
                *(f"replica-{port}", port, self.folder, environ),
                *(ROOT / variant.folder, variant.app),
            )
            for port in free_ports(variant.replicas)
        ]
        nginx = self._nginx(
            [f"127.0.0.1:{replica.address[1]}" for replica in replicas], variant.edge_cache
        )
        with contextlib.ExitStack() as running:
            for replica in replicas:
                replica.start()
                running.callback(replica.stop)
            for replica in replicas:
                replica.wait_until(lambda at=replica.address: is_healthy(*at), START_LIMIT)
            yield self._start(running, nginx)

    def wrk(self, url: str, seconds: int) -> dict[str, float]:
        """A closed loop of WRK_CONNECTIONS: requests/s and latencies in ms."""
        command = ["wrk", "-t1", f"-c{WRK_CONNECTIONS}", f"-d{seconds}s", "--latency"]
        output = subprocess.run(
            [*command, "-s", ROOT / "benchmarks" / "query.lua", url],
            env=os.environ | {"LOCATIONS": str(self._locations_file)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if problem := re.search(r"(Non-2xx|Socket errors).*", output):
            raise SystemExit(f"wrk on {url}: {problem[0]}")
        return {
            "requests_per_second": float(re.search(r"Requests/sec: +([\d.]+)", output)[1]),
            "p50_ms": _milliseconds(re.search(r"50% +(\S+)", output)[1]),
            "p99_ms": _milliseconds(re.search(r"99% +(\S+)", output)[1]),
        }

    def fixed_rate(self, url: str, seconds: int, path: str = QUERY_PATH) -> dict[str, float]:
        """An open loop at FIXED_RATE: response times in ms, from when each request was due."""
        server = Server(url)

        def make_request(number: int) -> bytes:
            if path != QUERY_PATH:
                return request_bytes("GET", server.name, path, {})
            location = self.locations[number * 7919 % len(self.locations)]
            return query_request(server.name, location)

        result = summary(OpenLoop(server, make_request, _status, FIXED_RATE).run(seconds))
        if result["failed"]:
            raise SystemExit(f"{result['failed']} requests to {url} failed: {result['errors']}")
        return {"p50_ms": result["p50_ms"], "p99_ms": result["p99_ms"]}

    def sql(self) -> dict[str, dict[str, float]]:
        return sql.measure(self._stack.client_environ, self.locations)

    def _nginx(self, upstreams: Sequence[str], edge_cache: str) -> Nginx:
        """An nginx with its configuration written, not started yet."""
        nginx = Nginx(
            self.folder / "nginx",
            self.folder / "nginx.log",
            listen=f"127.0.0.1:{self._port}",
            upstreams=upstreams,
            environ=os.environ | {"EDGE_CACHE": edge_cache},
            run_as=self._stack.user,
        )
        nginx.render()
        return nginx

    def _start(self, running: contextlib.ExitStack, nginx: Nginx) -> str:
        nginx.start()
        running.callback(nginx.stop)
        nginx.wait_until(lambda: is_healthy("127.0.0.1", self._port), START_LIMIT)
        return f"http://127.0.0.1:{self._port}"


def _status(_number: int, response: Response) -> str:
    """What is wrong with an answer."""
    return "" if response.status_code == 200 else f"status {response.status_code}"


def measure_round(bench: Bench, seconds: int) -> dict[str, dict[str, float]]:
    """Every variant once, warmed up by the same load."""
    results = bench.sql()
    with constant_nginx(bench.folder) as url:
        bench.wrk(url, 1)
        results["nginx constant"] = bench.wrk(url, seconds)
    for variant in VARIANTS:
        with bench.variant(variant) as url:
            bench.wrk(url, 3)
            results[variant.name] = bench.wrk(url, seconds)
            if variant in (EDGE, MEMORY, REDIS):
                name = f"{variant.name}, {FIXED_RATE}/s"
                results[name] = bench.fixed_rate(url, seconds)
            if variant == MEMORY:
                results[f"form, {FIXED_RATE}/s"] = bench.fixed_rate(url, seconds, "/")
                results[f"locations, {FIXED_RATE}/s"] = bench.fixed_rate(
                    url, seconds, "/locations?limit=10"
                )
    return results


def summarize(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The spread of every measurement over the rounds, and of the ratios within each."""
    summary = {
        f"{name}: {unit}": spread([round_[name][unit] for round_ in rounds])
        for name, values in rounds[0].items()
        for unit in values
    }
    for ratios, unit in ((RATIOS, "requests_per_second"), (SQL_RATIOS, "p50_us")):
        for name, (ours, peer) in ratios.items():
            summary[name] = spread([round_[ours][unit] / round_[peer][unit] for round_ in rounds])
    return summary


def _milliseconds(text: str) -> float:
    """wrk's way of writing a time: 850.00us, 1.23ms, 1.05s."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8, help="of each measurement")
    parser.add_argument(
        "--data-dir", type=Path, help="a stack's data to use, e.g. .local (default: load anew)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "serve.json")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("wrk is not installed (Debian and Ubuntu: apt-get install wrk)")

    with tempfile.TemporaryDirectory(prefix="benchmark-serve-") as folder:
        Path(folder).chmod(0o755)  # as root, nginx and PostgreSQL run as another user
        environ = os.environ | {"NGINX_PORT": "0", "TOTAL_RECORDS": str(arguments.rows)}
        environ |= {"FLASK_REPLICAS": "1"}
        with Stack(arguments.data_dir or Path(folder, "stack"), environ) as stack:
            bench = Bench(stack, Path(folder))
            rounds = []
            for number in range(1, arguments.rounds + 1):
                started = time.monotonic()
                rounds.append(measure_round(bench, arguments.seconds))
                seconds = time.monotonic() - started
                print(f"round {number} of {arguments.rounds}: {seconds:.0f} s", flush=True)
    summary = summarize(rounds)
    print_table(summary)
    result = {"machine": describe(), "rows": arguments.rows, "summary": summary, "rounds": rounds}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

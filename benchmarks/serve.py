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
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlencode

import sql
from bare import BODY
from processes import free_ports
from proxy import Nginx
from stack import Replica, Stack, is_healthy
from table import print_table, spread

from lab.machine import ROOT, describe
from lab.open_loop import Request, percentile
from lab.open_loop import run as run_open_loop

WRK_CONNECTIONS = 64
LOCATIONS = 1000
FIXED_RATE = 800  # requests/s, about a fifth of what the default settings answer
HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
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
        self._folder = folder
        self._port = free_ports(1)[0]
        with urllib.request.urlopen(f"{stack.url}/locations?limit={LOCATIONS}") as answer:  # noqa: S310
            self.locations = json.load(answer)
        self._locations_file = folder / "locations"
        self._locations_file.write_text("\n".join(self.locations) + "\n")

    @contextlib.contextmanager
    def constant(self) -> Iterator[str]:
        """URL of an nginx with the stack's main configuration that answers BODY by itself."""
        nginx = self._nginx(["127.0.0.1:1"], "off")
        text = BODY.decode().strip()
        (nginx.folder / "default.conf").write_text(
            "server {\n  include listen.conf;\n  default_type application/json;\n"
            f"  location / {{ return 200 '{text}\\n'; }}\n}}\n"
        )
        with contextlib.ExitStack() as running:
            yield self._start(running, nginx)

    @contextlib.contextmanager
    def variant(self, variant: Variant) -> Iterator[str]:
        """URL of an nginx in front of a variant's own replicas."""
        environ = os.environ | self._stack.client_environ
        environ |= {"CACHE": variant.cache, "MEMORY_CACHE": variant.memory_cache}
        replicas = [
            Replica(
                *(f"replica-{port}", port, self._folder, environ),
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

    def fixed_rate(
        self, url: str, seconds: float, make_request: Callable[[int], Request]
    ) -> dict[str, float]:
        """An open loop at FIXED_RATE: response times in ms, from when each request was due."""
        samples = run_open_loop(url, make_request, FIXED_RATE, seconds)
        failed = [sample for sample in samples if sample.status != 200]
        if failed:
            raise SystemExit(f"{len(failed)} requests to {url} failed, the first: {failed[0]}")
        times = [sample.response_time * 1000 for sample in samples]
        return {"p50_ms": statistics.median(times), "p99_ms": percentile(times, 99)}

    def sql(self) -> dict[str, dict[str, float]]:
        return sql.measure(self._stack.client_environ, self.locations)

    def query(self, number: int) -> Request:
        location = self.locations[number * 7919 % len(self.locations)]
        body = urlencode({"location": location}).encode()
        return Request("POST", "/query", body, HEADERS)

    def _nginx(self, upstreams: Sequence[str], edge_cache: str) -> Nginx:
        """An nginx with its configuration written, not started yet."""
        nginx = Nginx(
            self._folder / "nginx",
            self._folder / "nginx.log",
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


def form(_number: int) -> Request:
    return Request("GET", "/", None, {})


def ten_locations(_number: int) -> Request:
    return Request("GET", "/locations?limit=10", None, {})


def measure_round(bench: Bench, seconds: int) -> dict[str, dict[str, float]]:
    """Every variant once, warmed up by the same load."""
    results = bench.sql()
    with bench.constant() as url:
        bench.wrk(url, 1)
        results["nginx constant"] = bench.wrk(url, seconds)
    for variant in VARIANTS:
        with bench.variant(variant) as url:
            bench.wrk(url, 3)
            results[variant.name] = bench.wrk(url, seconds)
            if variant in (EDGE, MEMORY, REDIS):
                name = f"{variant.name}, {FIXED_RATE}/s"
                results[name] = bench.fixed_rate(url, seconds, bench.query)
            if variant == MEMORY:
                results[f"form, {FIXED_RATE}/s"] = bench.fixed_rate(url, seconds, form)
                results[f"locations, {FIXED_RATE}/s"] = bench.fixed_rate(
                    url, seconds, ten_locations
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

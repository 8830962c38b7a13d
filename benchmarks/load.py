"""Measures the load against its peers on one PostgreSQL server: pgbench -i, and a server-side COPY.

All runs of a round follow each other, so that a slow minute of the machine hits each of them; the
claims are ratios within a round.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import psycopg2
from postgres import SERVER_SETTINGS, Postgres
from processes import free_ports, unprivileged_user
from table import print_table, spread

from lab.machine import ROOT, describe

ROWS_PER_SCALE = 100_000  # rows of pgbench_accounts for each unit of pgbench's scale
PASSWORD = "benchmark"  # noqa: S105 - of a throw-away server on loopback
STREAMS = 2  # as many as the populator has


class Server:
    """A throw-away PostgreSQL with the stack's settings."""

    def __init__(self, data_dir: Path) -> None:
        (data_dir / "log").mkdir()
        self._postgres = Postgres(
            data_dir,
            free_ports(1)[0],
            database="bench",
            owner="bench",
            password=PASSWORD,
            environ=os.environ,
            run_as=unprivileged_user(),
        )
        self.exchange = data_dir / "postgres"  # a folder that the server may write to
        self.pgbench = Path(self._postgres.server.command[0]).with_name("pgbench")

    def __enter__(self) -> "Server":
        self._postgres.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.server.stop()

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the populator and those of libpq's tools."""
        ours = {"HOST": "127.0.0.1", "PORT": str(self._postgres.port), "DB": "bench"}
        ours |= {"USER": "bench", "PASSWORD": PASSWORD, "APP_PASSWORD": PASSWORD}
        libpq = {"PGHOST": "127.0.0.1", "PGPORT": ours["PORT"], "PGDATABASE": "bench"}
        libpq |= {"PGUSER": "bench", "PGPASSWORD": PASSWORD}
        ours = {f"POSTGRES_{name}": value for name, value in ours.items()}
        return os.environ | ours | libpq

    def execute(self, *statements: str, database: str = "bench") -> None:
        """Run statements one by one, each in its own transaction."""
        with closing(
            psycopg2.connect(
                host="127.0.0.1",
                port=self._postgres.port,
                user="bench",
                password=PASSWORD,
                dbname=database,
            )
        ) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)

    @property
    def pid(self) -> int:
        return self._postgres.server.pid

    def restart(self) -> None:
        self._postgres.server.stop()
        self._postgres.start()

    def reset(self) -> None:
        """An empty database, and no work left over from the run before."""
        self.execute(
            "DROP DATABASE IF EXISTS bench WITH (FORCE)",
            "CREATE DATABASE bench",
            "CHECKPOINT",
            database="postgres",
        )


def populate(server: Server, rows: int) -> dict[str, float]:
    """Load with data-populator: seconds until ready, rows/s of its copying, peak memory in MB."""
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, ROOT / "data-populator" / "populate_db.py"],
        env=server.environ | {"TOTAL_RECORDS": str(rows)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"data-populator failed:\n{output}")
    rate = float(re.search(r"\(([\d,]+) rows/s\)", output)[1].replace(",", ""))
    return {"seconds": seconds, "rows_per_second": rate, "peak_mb": usage.ru_maxrss / 1024}


def pgbench(server: Server, rows: int) -> float:
    """Seconds of pgbench -i for as many rows: COPY FREEZE, vacuum, primary keys."""
    command = [server.pgbench, "-i", "-q", "-s", str(rows // ROWS_PER_SCALE)]
    started = time.monotonic()
    subprocess.run(command, env=server.environ, check=True, capture_output=True)
    return time.monotonic() - started


def export(server: Server, rows: int) -> list[Path]:
    """Write the loaded rows to STREAMS files of the server's, in binary COPY format."""
    files = []
    for part in range(STREAMS):
        path = server.exchange / f"rows-{part}.copy"
        first, last = part * rows // STREAMS, (part + 1) * rows // STREAMS
        server.execute(
            f"COPY (SELECT * FROM weather_data WHERE id > {first} AND id <= {last})"  # noqa: S608
            f" TO '{path}' (FORMAT binary)"
        )
        files.append(path)
    return files


def server_side_copy(server: Server, files: Sequence[Path], streams: int) -> float:
    """Seconds of COPY FROM the files on the server, one after the other or all at once."""
    server.execute("CREATE TABLE copied (LIKE weather_data)", "CHECKPOINT")
    statements = [f"COPY copied FROM '{path}' (FORMAT binary)" for path in files]
    started = time.monotonic()
    if streams == 1:
        server.execute(*statements)
    else:
        threads = [threading.Thread(target=server.execute, args=(text,)) for text in statements]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds = time.monotonic() - started
    server.execute("DROP TABLE copied", "CHECKPOINT")
    return seconds


def measure_round(server: Server, rows: int) -> dict[str, float]:
    """Every peer once: seconds each."""
    server.reset()
    loaded = populate(server, rows)
    files = export(server, rows)
    one_copy = server_side_copy(server, files, streams=1)
    two_copies = server_side_copy(server, files, streams=STREAMS)
    server.reset()
    peer = pgbench(server, rows)
    return {
        "ready": loaded["seconds"],
        "copying": rows / loaded["rows_per_second"],
        "pgbench": peer,
        "server_copy_1_stream": one_copy,
        "server_copy_2_streams": two_copies,
    }


def measure_size(server: Server, rows: int) -> dict[str, float]:
    server.reset()
    return populate(server, rows)


def summarize(rounds: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """The spread of every measurement and of the ratios within each round."""
    ratios = {
        "ready / pgbench": ("ready", "pgbench"),
        "copying / server-side COPY, 1 stream": ("copying", "server_copy_1_stream"),
        "copying / server-side COPY, 2 streams": ("copying", "server_copy_2_streams"),
    }
    seconds = {f"{name}, s": spread([round_[name] for round_ in rounds]) for name in rounds[0]}
    return seconds | {
        name: spread([round_[ours] / round_[peer] for round_ in rounds])
        for name, (ours, peer) in ratios.items()
    }


def repeated(times: int, what: str, measure: Callable[[], dict[str, float]]) -> list[dict]:
    """Measure several times, telling each result as it comes."""
    results = []
    for number in range(1, times + 1):
        results.append(measure())
        values = ", ".join(f"{name} {value:,.2f}" for name, value in results[-1].items())
        print(f"{what}, {number} of {times}: {values}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10**5, 10**6, 10**7, 3 * 10**7])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "load.json")
    arguments = parser.parse_args()
    if arguments.rows % ROWS_PER_SCALE:
        parser.error(f"--rows is {arguments.rows}: expected a multiple of {ROWS_PER_SCALE}")

    with tempfile.TemporaryDirectory(prefix="benchmark-load-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        with Server(Path(folder)) as server:
            # Not counted: the first load of a new cluster also creates the files of the WAL, which
            # all later ones use again. It takes up to 4 s longer, whoever is the first.
            measure_round(server, arguments.rows)
            rounds = repeated(
                arguments.rounds,
                f"{arguments.rows:,} rows",
                lambda: measure_round(server, arguments.rows),
            )
            sizes = {
                rows: repeated(
                    arguments.rounds, f"{rows:,} rows", lambda rows=rows: measure_size(server, rows)
                )
                for rows in arguments.sizes
            }
    summary = summarize(rounds)
    for rows, results in sizes.items():
        for name in ("rows_per_second", "peak_mb"):
            summary[f"{rows:,} rows: {name}"] = spread([result[name] for result in results])
    print_table(summary)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": describe(),
        "server_settings": SERVER_SETTINGS,
        "rows": arguments.rows,
        "summary": summary,
        "rounds": rounds,
        "sizes": sizes,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

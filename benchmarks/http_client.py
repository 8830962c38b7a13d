"""Measures what a request costs through Locust's FastHttpUser and through the users' own client.

Both fire Locust's event for each request, and ask an nginx that answers a constant. They take
turns, so that a slow minute of the machine hits both; the claim is the ratio within a round.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from constant import constant_nginx
from table import print_table, spread

from lab.machine import ROOT, describe

LOCUSTS, OURS = "FastHttpUser", "HttpConnection"


def measure(client: str, url: str, seconds: int) -> dict[str, float]:
    command = [sys.executable, Path(__file__).with_name("client_loop.py")]
    command += [client, url, str(seconds)]
    return json.loads(subprocess.check_output(command, text=True))


def summarize(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The spread of every measurement over the rounds, and of the ratio within each."""
    summary = {
        f"{client}: {unit}": spread([round_[client][unit] for round_ in rounds])
        for client in (LOCUSTS, OURS)
        for unit in rounds[0][client]
    }
    ratios = [round_[OURS]["cpu_us"] / round_[LOCUSTS]["cpu_us"] for round_ in rounds]
    return summary | {f"cpu_us, {OURS} / {LOCUSTS}": spread(ratios)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    default = ROOT / "benchmarks" / "results" / "http_client.json"
    parser.add_argument("--out", type=Path, default=default)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="benchmark-client-") as folder:
        Path(folder).chmod(0o755)  # as root, nginx runs as another user
        with constant_nginx(Path(folder)) as url:
            rounds = [
                {client: measure(client, url, arguments.seconds) for client in (LOCUSTS, OURS)}
                for _ in range(arguments.rounds)
            ]
    summary = summarize(rounds)
    print_table(summary)
    result = {"machine": describe(), "summary": summary, "rounds": rounds}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()

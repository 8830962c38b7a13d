"""Each Locust file as people start it, its checks on; all at once, to take a few seconds."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.recording import read

ROOT = Path(__file__).parents[2]
FILES = [
    "simulate/get-request-home-page.py",
    "simulate/post-request-api-and-db.py",
    "simulate/post/random-locations.py",
    "simulate/post/fixed-location.py",
    "simulate/post/weighted-locations.py",
    "simulate/post/zipf-locations.py",
]
RANDOM = "simulate/post/random-locations.py"
ASKS_FOR_A_SAMPLE = "simulate/post/zipf-locations.py"  # all others know every average
USERS = 10
REQUESTS = 60  # after which a run is stopped


class Locust:
    """A headless run; the recorder writes down what it counts."""

    def __init__(self, folder, file, host, environ, options=()):
        self.recorded = folder / "recording.jsonl"
        self.log = folder / "log"
        command = [sys.executable, "-m", "locust", "-f", f"{file},simulate/recorder.py"]
        command += ["--host", host, "--headless", "--users", str(USERS), "--spawn-rate", "10"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--stop-timeout", "5", *options],
                cwd=ROOT,
                env=environ | {"RECORDING": str(self.recorded)},
                stdout=log,
                stderr=log,
            )

    def result(self):
        """Exit code, last line of the recording, output; stops it after some requests."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None:
            lines = read(self.recorded)
            if (lines and lines[-1]["requests"] >= REQUESTS) or time.monotonic() > deadline:
                self.process.terminate()
                break
            time.sleep(0.1)
        code = self.process.wait(30)
        return code, read(self.recorded)[-1], self.log.read_text()


@pytest.fixture(scope="module")
def runs(stack, expected_averages, locust_environ, tmp_path_factory):
    folder = tmp_path_factory.mktemp("locust")
    right, wrong = folder / "right.json", folder / "wrong.json"
    right.write_text(json.dumps(expected_averages))
    warmer = {name: (average + 1, n) for name, (average, n) in expected_averages.items()}
    wrong.write_text(json.dumps(warmer))
    runs = {}

    def start(name, file, host=stack.url, expected=right, options=()):
        environ = dict(locust_environ)
        if expected:
            environ["EXPECTED_AVERAGES"] = str(expected)
        runs[name] = Locust(tmp_path_factory.mktemp("run"), file, host, environ, options)

    for file in FILES:
        start(file, file, expected=None if file == ASKS_FOR_A_SAMPLE else right)
    start("two workers", RANDOM, options=["--processes", "2"])
    start("wrong", RANDOM, expected=wrong)
    start("nobody", RANDOM, host="http://127.0.0.1:1")
    yield runs
    for run in runs.values():
        run.process.kill()
        run.process.wait()


@pytest.mark.parametrize("name", [*FILES, "two workers"])
def test_every_answer_is_right(runs, name):
    code, last, output = runs[name].result()
    assert code == 0, output
    assert last["requests"] >= REQUESTS
    assert (last["failures"], last["errors"]) == (0, [])
    assert "Traceback" not in output


@pytest.mark.parametrize("name", ["two workers", RANDOM])
def test_every_answer_is_counted_by_tier_and_replica(runs, name):
    _, last, _ = runs[name].result()
    for header in ("X-Cache", "X-Edge-Cache", "X-Served-By"):
        counts = [n for key, n in last["answers"].items() if key.startswith(header + " ")]
        assert sum(counts) == last["requests"]
    assert last["answers"]["X-Edge-Cache off"] == last["requests"]


def test_workers_are_two_and_share_the_users(runs):
    runs["two workers"].result()
    lines = read(runs["two workers"].recorded)
    assert max(line["workers"] for line in lines) == 2
    assert max(line["users"] for line in lines) == USERS


def test_wrong_answers_are_failures(runs):
    code, last, output = runs["wrong"].result()
    assert code == 1, output
    assert last["failures"] == last["requests"] > 0
    assert [error["error"] for error in last["errors"]] == ["wrong answer: wrong average"]


def test_without_a_stack_it_says_so_and_fails(runs):
    code, last, output = runs["nobody"].result()
    assert code == 1
    assert last["requests"] == 0
    assert "http://127.0.0.1:1: " in output
    assert "Connection refused" in output


@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    [
        ("simulate/post/random-locations.py", 0.7, 1.0),  # hardly ever the same one again
        ("simulate/post/fixed-location.py", 0.0, 0.5),  # 10 users, 10 locations
        ("simulate/post/weighted-locations.py", 0.0, 0.3),  # 5 locations
        ("simulate/post-request-api-and-db.py", 0.0, 0.5),  # 10 locations
    ],
)
def test_each_file_asks_as_its_name_says(runs, name, fewest, most):
    """Seen from the share of answers that were not in a cache; waiting for one is a miss, too."""
    _, last, _ = runs[name].result()
    assert fewest <= last["answers"].get("X-Cache miss", 0) / last["requests"] <= most

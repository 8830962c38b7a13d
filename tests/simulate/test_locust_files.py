"""Each Locust file as people start it, its checks on; all at once, to take a few seconds."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from polling import poll
from processes import free_ports

from lab.recording import read
from users.patterns import PATTERNS

ROOT = Path(__file__).parents[2]
FILES = ["simulate/get-request-home-page.py", "simulate/post-request-api-and-db.py"]
FILES += [f"simulate/{pattern.locust_file}" for pattern in PATTERNS.values()]
RANDOM = "simulate/post/random-locations.py"
ASKS_FOR_A_SAMPLE = "simulate/post/zipf-locations.py"  # all others know every average
USERS = 10
REQUESTS = 60  # after which a run is stopped


class Locust:
    """A headless run; its counts and the locations it asked for are written down."""

    def __init__(self, folder, file, host, environ, options=()):
        self.recorded = folder / "recording.jsonl"
        self.asked = folder / "asked.json"
        self.log = folder / "log"
        files = f"{file},simulate/lab/record_locust.py,tests/simulate/record_locations.py"
        command = [sys.executable, "-m", "locust", "-f", files]
        command += ["--host", host, "--headless", "--users", str(USERS), "--spawn-rate", "10"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--stop-timeout", "5", *options],
                cwd=ROOT,
                env=environ | {"RECORDING": str(self.recorded), "ASKED": str(self.asked)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def requests(self):
        lines = read(self.recorded)
        return lines[-1]["requests"] if lines else 0

    def result(self):
        """Exit code, last line of the recording, output; stops it after some requests."""
        poll(lambda: self.process.poll() is not None or self.requests >= REQUESTS, 60)
        self.process.terminate()
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
    port = str(free_ports(1)[0])
    ports = ["--master-bind-port", port, "--master-port", port]
    start("two workers", RANDOM, options=["--processes", "2", *ports])
    start("wrong", RANDOM, expected=wrong)
    start("nobody", RANDOM, host="http://127.0.0.1:1")
    yield runs
    for run in runs.values():
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(run.process.pid, signal.SIGKILL)  # workers may outlive their master
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
        (RANDOM, 0.9 * REQUESTS, None),  # of 13,309: hardly ever the same one again
        ("simulate/post/fixed-location.py", 5, USERS),
        ("simulate/post/weighted-locations.py", 3, 5),
        ("simulate/post-request-api-and-db.py", 5, 10),
    ],
)
def test_each_file_asks_for_as_many_locations_as_its_name_says(runs, name, fewest, most):
    runs[name].result()
    asked = json.loads(runs[name].asked.read_text())
    assert sum(asked.values()) >= REQUESTS
    assert fewest <= len(asked) <= (most or len(asked))

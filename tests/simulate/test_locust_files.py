"""Each Locust file as people start it, its checks on; all at once, to take a few seconds."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from polling import poll
from processes import free_ports

from lab.recording import Recording, summary
from users.patterns import PATTERNS

ROOT = Path(__file__).parents[2]
FILES = ["simulate/get-request-home-page.py", "simulate/post-request-api-and-db.py"]
FILES += [f"simulate/{pattern.locust_file}" for pattern in PATTERNS.values()]
RANDOM = "simulate/post/random-locations.py"
ASKS_FOR_A_SAMPLE = "simulate/post/zipf-locations.py"  # all others know every average
USERS = 10
REQUESTS = 60  # after which a run is stopped
LOCUST = [
    sys.executable,
    "-m",
    "locust",
    "--headless",
    "--only-summary",
    "--stop-timeout",
    "5",
    "-f",
]


class Locust:
    """A run that is recorded; the locations it asked for are written down, too."""

    def __init__(self, folder, file, host, environ, options=()):
        recorded = folder / "recording.jsonl"
        self._recording = Recording(recorded)
        self.asked = folder / "asked.json"
        self._load = folder / "load.json"
        self._log = folder / "log"
        self.move(USERS)
        files = f"{file},simulate/lab/record_locust.py,tests/simulate/record_locations.py"
        environ = environ | {"RECORDING": str(recorded), "LOAD": str(self._load)}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [*LOCUST, files, "--host", host, *options],
                cwd=ROOT,
                env=environ | {"ASKED": str(self.asked)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def move(self, users):
        """Change the number of users as the lab does."""
        unfinished = self._load.with_suffix(".part")
        unfinished.write_text(json.dumps({"users": users, "spawn_rate": 10}))
        unfinished.rename(self._load)

    @property
    def lines(self):
        return self._recording.lines()

    @property
    def ended(self):
        return self.process.poll() is not None

    def result(self):
        """Exit code, summary of the recording, output; stops it after some requests."""
        poll(lambda: self.ended or summary(self.lines)["sent"] >= REQUESTS, 60)
        self.process.terminate()
        code = self.process.wait(30)
        return code, summary(self.lines), self._log.read_text()


@pytest.fixture(scope="module")
def averages(expected_averages, tmp_path_factory):
    """Files with the right averages, and with wrong ones."""
    folder = tmp_path_factory.mktemp("averages")
    right, wrong = folder / "right.json", folder / "wrong.json"
    right.write_text(json.dumps(expected_averages))
    warmer = {name: (average + 1, n) for name, (average, n) in expected_averages.items()}
    wrong.write_text(json.dumps(warmer))
    return right, wrong


def two_workers():
    """Options; Locust's own port may be somebody else's."""
    port = str(free_ports(1)[0])
    return ["--processes", "2", "--master-bind-port", port, "--master-port", port]


@pytest.fixture(scope="module")
def runs(stack, averages, locust_environ, tmp_path_factory):
    right, wrong = averages
    runs = {}

    def add(name, file, host=stack.url, expected=right, options=()):
        environ = dict(locust_environ)
        if expected:
            environ["EXPECTED_AVERAGES"] = str(expected)
        runs[name] = Locust(tmp_path_factory.mktemp("run"), file, host, environ, options)

    for file in FILES:
        add(file, file, expected=None if file == ASKS_FOR_A_SAMPLE else right)
    add("two workers", RANDOM, options=two_workers())
    add("wrong", RANDOM, expected=wrong)
    add("nobody", RANDOM, host="http://127.0.0.1:1")
    yield runs
    for run in runs.values():
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(run.process.pid, signal.SIGKILL)  # workers may outlive their master
        run.process.wait()


# Before the tests that end it.
def test_the_number_of_users_follows_the_lab(runs):
    run = runs["two workers"]
    poll(lambda: run.lines and run.lines[-1]["users"] == USERS, 60)
    for users in (15, 0):
        run.move(users)
        poll(lambda users=users: run.lines[-1]["users"] == users, 30)
    run.move(USERS)
    assert not run.ended


@pytest.mark.parametrize("name", [*FILES, "two workers"])
def test_every_answer_is_right(runs, name):
    code, total, output = runs[name].result()
    assert code == 0, output
    assert total["sent"] >= REQUESTS
    assert (total["failed"], total["errors"], total["cut_off"]) == (0, [], 0)
    assert "Traceback" not in output


@pytest.mark.parametrize("name", [*FILES, "two workers"])
def test_the_recording_agrees_with_locusts_own_statistics(runs, name):
    _, total, output = runs[name].result()
    (aggregated,) = [line for line in output.splitlines() if "Aggregated" in line][:1]
    assert total["sent"] == int(aggregated.split()[1])


@pytest.mark.parametrize("name", [*FILES, "two workers"])
def test_every_answer_is_counted_by_tier_and_replica(runs, name):
    _, total, _ = runs[name].result()
    assert sum(total["tiers"].values()) == total["sent"]
    assert (total["tiers"]["edge"], total["tiers"]["refused"]) == (0, 0)
    assert sum(total["replicas"].values()) == total["sent"]
    assert 0.05 < total["p50_ms"] <= total["p99_ms"] <= total["max_ms"]


@pytest.mark.parametrize("name", [RANDOM, "two workers"])
def test_a_line_is_a_second(runs, name):
    runs[name].result()
    lines = runs[name].lines
    assert max(line["workers"] for line in lines) == (2 if name == "two workers" else 1)
    for before, line in itertools.pairwise(lines):
        assert line["time"] - before["time"] == pytest.approx(line["seconds"])
        assert line["cpu_seconds"] >= before["cpu_seconds"] > 0


def test_wrong_answers_are_failures(runs):
    code, total, output = runs["wrong"].result()
    assert code == 1, output
    assert total["failures"] == {"wrong": total["sent"]}
    assert total["sent"] > 0
    assert [error["error"] for error in total["errors"]] == ["wrong answer: wrong average"]


def test_without_a_stack_it_says_so_and_fails(runs):
    code, total, output = runs["nobody"].result()
    assert code == 1
    assert total["sent"] == 0
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
    asked = json.loads(runs[name].asked.read_text())["asked"]
    assert sum(asked.values()) >= REQUESTS
    assert fewest <= len(asked) <= (most or len(asked))


def test_users_who_start_in_the_same_second_do_not_ask_at_once(runs):
    runs[RANDOM].result()
    first = json.loads(runs[RANDOM].asked.read_text())["started"][:USERS]
    assert first[-1] - first[0] > 0.2  # of a second; less once in 200,000 runs


RIGHT, WRONG = 0, 1  # of the averages
THRESHOLDS = {  # averages, options, processes, exit code, what it says
    "kept": (RIGHT, ["--fail-ratio", "0", "--p95", "60000"], 1, 0, ""),
    "slow": (RIGHT, ["--p95", "0.01"], 2, 1, "--p95 0.01: p95 of right answers was "),
    "wrong": (WRONG, ["--fail-ratio", "0.01"], 2, 1, "--fail-ratio 0.01: "),
    "wrong, which is allowed": (
        WRONG,
        ["--fail-ratio", "1"],
        1,
        0,
        "",
    ),  # alone Locust ends with 1
    "nothing right": (WRONG, ["--p95", "60000"], 1, 1, "--p95 60000: there was no right answer"),
}


@pytest.fixture(scope="module")
def files_alone(stack, averages, locust_environ, tmp_path_factory):
    """Runs of a Locust file without the lab's, all at once: process and folder of each."""
    runs = {}
    for name, (expected, options, processes, _, _) in THRESHOLDS.items():
        folder = tmp_path_factory.mktemp("alone")
        command = [*LOCUST, RANDOM, "--host", stack.url, "--users", "5", "--spawn-rate", "5"]
        command += ["--csv", folder / "x", "--html", folder / "x.html"]
        process = subprocess.Popen(
            [*command, *options, *(two_workers() if processes == 2 else ())],
            cwd=ROOT,
            env=locust_environ | {"EXPECTED_AVERAGES": str(averages[expected])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        runs[name] = process, folder
    yield runs
    for process, _ in runs.values():
        process.kill()
        process.communicate()


def requests(path):
    """How many are in Locust's CSV file, which it writes anew each second."""
    if not path.exists():
        return 0
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return int(rows[-1]["Request Count"]) if rows else 0


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_missed_threshold_is_named_and_fails_a_run_of_a_file_alone(files_alone, name):
    _, _, _, code, message = THRESHOLDS[name]
    process, folder = files_alone[name]
    poll(lambda: process.poll() is not None or requests(folder / "x_stats.csv"), 60)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == code, output
    named = [line for line in output.splitlines() if re.search("--(fail-ratio|p95)", line)]
    assert len(named) == bool(message), output
    assert all(message in line for line in named)
    assert requests(folder / "x_stats.csv") > 0
    assert "/query" in (folder / "x.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fail-ratio", "5"], "--fail-ratio: invalid number from 0 to 1 value: '5'"),
        (["--p95", "fast"], "--p95: invalid number from 0 value: 'fast'"),
    ],
)
def test_a_bad_threshold_is_named(locust_environ, options, message):
    command = [*LOCUST, RANDOM, "--host", "http://127.0.0.1:1", *options]
    result = subprocess.run(command, cwd=ROOT, env=locust_environ, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith(message)

"""A cell measured from inside a cluster: its settings, its times, and what is kept of it."""

import json
from dataclasses import asdict, replace

import experiment as script
import pytest
from test_recording import hit, line

from lab import cluster
from lab.cluster import Deployed, Experiment, NobodyCameError, is_over, keep, progress, stretch
from lab.plan import Setting
from page.environment import ConfigError

STACK = {
    "revision": "0123456789ab",
    "rows": 10_000_000,
    "setting": asdict(Setting(replicas=19)),
    "machine": {"region": "eu-central-1", "flask tasks": "19 to 29 of 1 vCPU, 2 GiB"},
}
ENVIRON = {
    "EXPERIMENT_USERS": "20",
    "EXPERIMENT_PATTERN": "random",
    "EXPERIMENT_WORKERS": "2",
    "EXPERIMENT_SPAWN_RATE": "10",
    "EXPERIMENT_WARM_UP": "2",
    "EXPERIMENT_SECONDS": "5",
    "EXPERIMENT_RESULTS": "s3://bucket/results/aws-1",
    "EXPERIMENT_STACK": json.dumps(STACK),
}
EXPERIMENT = Experiment.from_env(ENVIRON)


def second(t, users, busy=0.2):
    """A line of the master: it takes 0.1 s of CPU each second, and one of its workers ``busy``."""
    workers = {"a": 0.2 * t, "b": busy * t}
    spent = {"cpu_seconds": 0.1 * t + sum(workers.values()), "worker_cpu_seconds": workers}
    answers = [hit(0.012)] * users
    return line(t, *answers, users=users, workers=2, **spent)


def run(users=20, **how):
    """Two seconds until the workers are there, two of arrival, two of warm-up, five measured."""
    return [second(t, min(users, max(0, 10 * (t - 2))), **how) for t in range(1, 12)]


def test_settings_are_read_and_named():
    assert (EXPERIMENT.users, EXPERIMENT.workers, EXPERIMENT.seconds) == (20, 2, 5)
    assert EXPERIMENT.command == (
        'make aws-experiment ARGS="--users 20 --pattern random --spawn-rate 10 --warm-up 2'
        ' --seconds 5"'
    )
    assert (EXPERIMENT.plan.target, EXPERIMENT.plan.processes) == ("aws", 2)


@pytest.mark.parametrize("name", ENVIRON)
@pytest.mark.parametrize("value", ["", "0", "s3://bucket/", '{"revision": "1"}'])
def test_a_bad_setting_is_one_line_with_its_name(name, value):
    with pytest.raises(ConfigError) as caught:
        Experiment.from_env(ENVIRON | {name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is ")
    assert ": expected " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("setting", "lever"),
    [
        (Setting(replicas=19), "default settings"),
        (Setting(replicas=4, edge=True), "edge cache on"),
        (
            Setting(replicas=19, pool_max=5),
            "19 replicas, pool, cache, memory, no edge cache, POOL_MAXCONN=5",
        ),
    ],
)
def test_the_stack_is_called_by_how_it_is_set(setting, lever):
    stack = Deployed.from_json(json.dumps(STACK | {"setting": asdict(setting)}))
    assert stack.lever == lever


def test_the_window_begins_when_all_have_come_and_warmed_up():
    found = stretch(run(), EXPERIMENT)
    assert (found.begins, found.arrived, found.starts, found.ends) == (1002, 1004, 1006, 1011)
    assert stretch(run()[:2], EXPERIMENT) is None


def test_who_is_there_in_time_is_measured():
    found = stretch(run(users=15), EXPERIMENT)
    assert found.arrived == 1002 + 20 / 10 + cluster.RAMP_SLACK


def test_it_is_over_after_the_window_or_when_nobody_comes():
    lines = run()
    assert [is_over(lines[:n], EXPERIMENT, 1e9) for n in (10, 11)] == [False, True]
    assert not is_over([], EXPERIMENT, 29.0)
    assert is_over(lines[:2], EXPERIMENT, 31.0)


def test_progress_is_of_the_latest_seconds():
    text = progress(run()[-5:], EXPERIMENT)
    assert text.startswith("20 of 20 users: 20 good answers/s, p50 ")
    assert text.endswith(" ms, 0 failed")


def test_nothing_is_kept_of_a_run_without_users(tmp_path):
    with pytest.raises(NobodyCameError, match="the workers' log says why"):
        keep(run()[:2], EXPERIMENT, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "aws-1"
    folder.mkdir()
    keep(run(), EXPERIMENT, folder)
    return folder


def test_the_folder_is_that_of_a_local_run_with_the_recording(folder):
    plan = json.loads((folder / "plan.json").read_text())
    assert (plan["target"], plan["machine"]["region"]) == ("aws", "eu-central-1")
    assert (plan["command"], plan["revision"]) == (EXPERIMENT.command, "0123456789ab")
    cell = json.loads((folder / "cells" / "random_20-users.json").read_text())
    assert (cell["users"], cell["lever"], cell["invalid"]) == (20, "default settings", [])
    assert cell["window"]["sent"] == cell["window"]["good"] == 5 * 20
    assert [phase["sent"] for phase in cell["phases"].values()] == [30, 40, 100]
    assert len((folder / "recording.jsonl").read_text().splitlines()) == 11
    assert (folder / "over-time.svg").exists()


def test_the_cpu_is_that_of_each_process_of_the_generator(folder):
    cell = json.loads((folder / "cells" / "random_20-users.json").read_text())
    used = {name: round(cpu["mean"]) for name, cpu in cell["cpu"].items()}
    assert used == {"generator": 10, "generator 1": 20, "generator 2": 20}


def test_a_worker_at_the_end_of_its_core_makes_the_cell_invalid(tmp_path):
    cell = keep(run(busy=0.97), EXPERIMENT, tmp_path)
    assert cell["invalid"] == ["generator 2 used 97 % CPU, more than 90 %"]


def test_a_worker_that_was_lost_makes_it_invalid_too(tmp_path):
    cell = keep(run(), replace(EXPERIMENT, workers=3), tmp_path)
    assert cell["invalid"] == ["2 of 3 workers were left"]


def test_the_report_judges_the_users_that_were_asked_for(folder):
    report = (folder / "report.md").read_text()
    assert "# Experiments: aws-1\n\n**kept**: A stack on AWS is as large as its users" in report
    assert "\n- kept: default settings: 20 random users (p95 11.9 ms)\n" in report
    assert "| region | eu-central-1 |" in report
    assert "| flask tasks | 19 to 29 of 1 vCPU, 2 GiB |" in report


def test_the_report_says_nothing_of_what_was_not_seen(folder):
    report = (folder / "report.md").read_text()
    assert "\n- the stack was seen from outside alone" in report
    headings = [text for text in report.splitlines() if text.startswith("## ")]
    assert headings == ["## Over time", "## Who answered", "## Everything measured", "## Manifest"]


def test_the_terminal_gets_the_verdict_and_the_number_of_requests(folder):
    said = script.verdict(folder)
    assert said[0] == "kept: default settings: 20 random users (p95 11.9 ms)"
    assert script.requests(folder) == 30 + 40 + 100

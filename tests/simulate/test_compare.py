"""The comparison of two sides: what it says of numbers, and of sides that it can't measure."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from polling import poll

from lab.compare import MEASURES, _checkout, _side, main, report
from lab.machine import ROOT
from lab.plan import Setting
from lab.warm import fill

NOISE = [1.0, 1.02, 0.99, 1.01, 0.98]


def pairs(**means):
    """Pairs in which each side's values of both measures scatter around its mean."""
    return [
        {
            side: dict.fromkeys(MEASURES, mean * NOISE[(number + (side == "B")) % len(NOISE)])
            for side, mean in means.items()
        }
        for number in range(10)
    ]


def test_a_slower_side_is_named():
    lines = report("HEAD", ".", pairs(A=2000, B=1800))
    assert lines[0] == "A is HEAD, B is ."
    assert "A 2,000, B 1,800: B is 10.0 % slower [" in lines[1]
    assert lines[-1].startswith("B is 10.0 % slower [")


def test_equal_sides_do_not_differ():
    assert report("HEAD", "HEAD", pairs(A=2000, B=2005))[-1].startswith("no difference [")


def test_what_waits_and_what_computes_are_told_apart():
    cpu, waiting = pairs(A=2000, B=2000), pairs(A=5000, B=4000)
    answers, per_cpu_second = MEASURES
    mixed = [
        {
            side: {answers: slow[side][answers], per_cpu_second: fast[side][per_cpu_second]}
            for side in ("A", "B")
        }
        for slow, fast in zip(waiting, cpu, strict=True)
    ]
    last = report("A", "B", mixed)[-1]
    assert last.startswith("B is 20.0 % slower [")
    assert last.endswith("] in good answers/s")
    both = report("A", "B", pairs(A=2000, B=1800))[-1]
    assert both.count("B is 10.0 % slower") == 2


def test_each_pair_is_a_turn_of_either_side_in_a_random_order(monkeypatch, capsys):
    """A fake, as real ones take 3 minutes."""
    turns = []

    def turn(self, _seconds):
        turns.append(self.settings["CACHE_EXPIRY"])
        return dict.fromkeys(MEASURES, 1000.0)

    monkeypatch.setattr("lab.compare.Side.turn", turn)
    command = ["compare", "CACHE_EXPIRY=1", "CACHE_EXPIRY=2", "--pairs", "20"]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    orders = {"".join(turns[n : n + 2]) for n in range(0, 40, 2)}
    assert (len(turns), orders) == (40, {"12", "21"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:20]] == [
        f"pair {number} of 20" for number in range(1, 21)
    ]


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("no-such-revision", "invalid reference: no-such-revision"),
        ("COLOUR=red", "COLOUR: expected a setting of .env.sample, one of BIND_ADDRESS, "),
        ("POOL_MAXCONN=many", "POOL_MAXCONN is 'many': expected a whole number from 1 to 1000"),
    ],
)
def test_a_side_that_does_not_exist_is_named(side, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compare", side, "."])
    assert main() == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_revision_is_checked_out_and_removed(tmp_path):
    folder = tmp_path / "code"
    with _checkout("HEAD", folder) as served:
        assert served == folder
        assert (folder / "flask" / "wsgi.py").exists()
    assert not folder.exists()
    worktrees = subprocess.check_output(["git", "worktree", "list"], cwd=ROOT, text=True)
    assert str(folder) not in worktrees
    with _checkout(".", folder) as served:
        assert served == ROOT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_that_is_stopped_leaves_nothing_behind(number, code):
    command = [sys.executable, "-m", "lab.compare", "HEAD", "HEAD", "--rows", "2000"]
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, PostgreSQL and nginx run as another user
        environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": name}
        with subprocess.Popen(command, env=environ) as process:
            poll(lambda: list(folder.glob("compare-*/*/data/log/nginx.log")), 60)
            started = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            process.wait(60)
        assert process.returncode == code
        assert len(started) > 3
        assert not [child for child in started if child.is_running()]
        assert not list(folder.iterdir())
    worktrees = subprocess.check_output(["git", "worktree", "list"], cwd=ROOT, text=True)
    assert name not in worktrees


def test_a_side_serves_its_revision_anew_in_each_turn(monkeypatch):
    """With all caches full, and of each turn nothing is left but the data."""
    served, asked = [], []
    others = psutil.Process().children(recursive=True)

    def look(stack, setting, locations):
        commands = [child.cmdline() for child in psutil.Process().children(recursive=True)]
        served.append([str(folder / "code/flask/wsgi.py") in line for line in commands].count(True))
        fill(stack, setting, locations)
        asked.append((setting, len(locations)))

    monkeypatch.setattr("lab.compare.fill", look)
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as name:
        Path(name).chmod(0o755)  # as root, PostgreSQL and nginx run as another user
        folder = Path(name, "A")
        with _side("HEAD", folder, rows=2000) as side:
            turns = [side.turn(1) for _ in range(2)]
            left = psutil.Process().children(recursive=True)
            assert {child.pid for child in left} <= {child.pid for child in others}
        assert min(served) > 2
        assert asked == [(Setting(edge=True, workers=2), 1000)] * 2
        for values in turns:
            assert values.keys() == MEASURES.keys()
            assert min(values.values()) > 10
        assert not (folder / "code").exists()

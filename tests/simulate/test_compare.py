"""The comparison of two sides: what it says of numbers, and of sides that it can't measure."""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lab.compare import MEASURES, _checkout, _side, main, report
from lab.machine import ROOT

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


def test_each_side_starts_first_for_half_of_the_pairs(monkeypatch, capsys):
    """A stack that starts last is faster; a fake, as two real ones take 3 minutes."""
    started = []

    class FakeSide:
        def turn(self, _seconds):
            return dict.fromkeys(MEASURES, 1000.0)

    @contextmanager
    def side(text, _folder, _rows):
        started.append(text)
        yield FakeSide()

    monkeypatch.setattr("lab.compare._side", side)
    monkeypatch.setattr(sys, "argv", ["compare", "one", "other", "--pairs", "5"])
    assert main() == 0
    assert started == ["one", "other", "other", "one"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:5]] == [
        f"pair {number} of 5" for number in range(1, 6)
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


def test_a_side_serves_its_revision_and_has_a_turn():
    with tempfile.TemporaryDirectory(prefix="weather-tests-") as name:
        Path(name).chmod(0o755)  # as root, PostgreSQL and nginx run as another user
        folder = Path(name, "A")
        with _side("HEAD", folder, rows=1000) as side:
            commands = [child.cmdline() for child in psutil.Process().children(recursive=True)]
            values = side.turn(1)
        assert [str(folder / "code/flask/wsgi.py") in command for command in commands].count(
            True
        ) > 2
        assert values.keys() == MEASURES.keys()
        assert min(values.values()) > 10
        assert not (folder / "code").exists()

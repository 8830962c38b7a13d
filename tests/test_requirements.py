"""Every package that is installed is pinned with its hashes, and all of them are audited."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["data-populator", "data-query", "flask", "local", "observe/sidecar", "simulate", "tests"]
LOCKS = [f"{room}/requirements.txt" for room in ROOMS] + ["tests/terraform/checkov.txt"]
IMAGES = ["data-populator", "data-query", "flask", "observe/sidecar", "simulate"]
# name[extra]==version ; marker --hash=sha256:... --hash=sha256:...
PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\w.+!-]+( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+")


def requirements(lock):
    """The file's logical lines without comments."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


def test_no_lock_is_forgotten():
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/requirements.txt")}
    assert found | {"tests/terraform/checkov.txt"} == set(LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_with_hashes(lock):
    lines = requirements(lock)
    assert lines
    assert not [line for line in lines if not PINNED.fullmatch(line)]


@pytest.mark.parametrize("lock", LOCKS)
def test_what_is_asked_for_is_locked(lock):
    asked = (ROOT / lock).with_suffix(".in").read_text()
    names = set(re.findall(r"^([A-Za-z0-9_.-]+)", re.sub(r"^-.*", "", asked, flags=re.M), re.M))
    assert names
    assert names <= {re.match(r"[\w.-]+", line)[0] for line in requirements(lock)}


@pytest.mark.parametrize("path", [*(f"{image}/Dockerfile" for image in IMAGES), "Makefile"])
def test_only_what_has_hashes_is_installed(path):
    """And only wheels: a source package runs its setup.py while it is installed."""
    text = (ROOT / path).read_text()
    installs = re.findall(r"^.*pip install .*$", text, re.M)
    assert installs
    options = ("--only-binary :all:", "--require-hashes", " -r ")
    assert all(option in line for line in installs for option in options)


def test_every_lock_is_audited():
    # --old-file: without making the virtual environment first
    make = ["make", "--dry-run", "--old-file", ".venv/.tests", "audit"]
    commands = subprocess.check_output(make, cwd=ROOT, text=True)
    assert "pip-audit --strict --require-hashes" in commands
    assert set(LOCKS) <= set(re.findall(r"[\w./-]+", commands))

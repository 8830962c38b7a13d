"""SECURITY.md's threat model: each line has a test, and the test is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL = (ROOT / "SECURITY.md").read_text()
TABLES = re.findall(r"^\| what they try .*\n\| --- .*\n((?:\|.*\n)+)", MODEL, re.M)
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
}


def named(text):
    return set(re.findall(r"`(test_\w+)`", text))


@pytest.mark.parametrize("table", TABLES)
def test_each_threat_has_a_test(table):
    for row in table.splitlines():
        threat, defence, tests = (cell.strip() for cell in row.strip("|").split("|"))
        assert threat
        assert defence
        assert named(tests), threat


def test_every_test_that_is_named_is_there():
    assert len(named(MODEL)) > 40
    assert named(MODEL) - TESTS == set()

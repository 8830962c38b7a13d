"""SECURITY.md's threat model: each line has a test, and the test is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL = (ROOT / "SECURITY.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in MODEL.splitlines()
    if line.startswith("| ") and not line.startswith(("| what they try", "| ---"))
]
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_threat_has_a_test_that_is_there(row):
    _, _, tests = row
    named = re.findall(r"`(\w+)`", tests)
    assert named
    assert set(named) <= TESTS


def test_the_lines_are_found():
    assert len(ROWS) > 20

"""The packages of local/requirements.txt are enough; the others of the tests would hide a gap."""

import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "local" / "requirements.txt"


@pytest.fixture
def python(folder):
    """A virtual environment with these packages alone."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "--require-hashes", "-r", REQUIREMENTS]
    result = subprocess.run(install, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"pip cannot install the packages: {result.stderr}")
    return folder / "venv" / "bin" / "python"


def test_the_stack_runs_with_its_own_packages_alone(run, python):
    stack = run("alone", "up", "--port", "0", python=python)
    stack.wait_for_line("ready ")
    stack.signal()
    assert stack.result() == (0, [])

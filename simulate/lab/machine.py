"""Describes the machine and the revision that a result was measured on."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def describe() -> dict[str, object]:
    """The hardware, the revision and the time."""
    return hardware() | {"revision": revision(), "measured_at": now()}


def hardware() -> dict[str, object]:
    """CPU, cores, memory in GiB, kernel and Python: what stays the same over a run."""
    memory_kib = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[1])
    return {
        "cpu": re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1],
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kib / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def revision() -> str:
    """The checkout's git revision, with -dirty where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()

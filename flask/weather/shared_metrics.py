"""A folder in memory where the workers of a replica keep their metrics, so that each shows all.

prometheus-client decides by PROMETHEUS_MULTIPROC_DIR, and when it is imported, whether it counts in
such files (about 1 us each time) or in the process (0.3 us).
"""

import os
import shutil
import tempfile

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - else the folder for such


def prepare(workers: int) -> None:
    """Make the folder for several workers; to be called before metrics.py is imported."""
    os.environ.pop(VARIABLE, None)
    if workers > 1:
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="weather-metrics-", dir=MEMORY)


def forget(pid: int) -> None:
    """Drop the gauges of a worker that ended; what it counted stays, as counters never go back."""
    if VARIABLE in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(pid)


def remove() -> None:
    """Remove the folder, at the end."""
    if VARIABLE in os.environ:
        shutil.rmtree(os.environ[VARIABLE], ignore_errors=True)

"""Runs local/stack.py as a user does, and finds every process it started."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from polling import poll

STACK = Path(__file__).parents[2] / "local" / "stack.py"
SETTINGS = {"TOTAL_RECORDS": "2000", "BATCH_SIZE": "1000"}
# Whatever the shell sets for the stack must not reach these tests.
OURS = re.compile(
    r"POSTGRES_|REDIS_|FLASK_|POOL_|CACHE|NGINX_|BIND_ADDRESS|EDGE_|WEB_|USE_|SEED|LOG_F"
)


class Run:
    """One `stack.py` process."""

    def __init__(self, data_dir, *arguments, python=sys.executable, **environ):
        self.data_dir = data_dir
        self.mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
        self.output_path = data_dir.with_name(f"{data_dir.name}-{self.mark}.out")
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                [python, STACK, *arguments, "--data-dir", data_dir],
                # Of the environment a child gets the PATH, and its own variables.
                env=inherited | SETTINGS | {"PATH": f"{os.environ['PATH']}:/{self.mark}"} | environ,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
            )

    @property
    def lines(self):
        return self.output_path.read_text().splitlines()

    def wait_for_line(self, start, seconds=60):
        """Return the first line that starts so."""

        def find():
            assert self.process.poll() is None, self.process.stderr.read()
            return next((line for line in self.lines if line.startswith(start)), None)

        return poll(find, seconds)

    def result(self, seconds=60):
        """Wait for the end; returns the exit code and the lines of the error output."""
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors.splitlines()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def processes(self):
        """Process ids of everything this run started: by its mark, or by its working directory.

        nginx and PostgreSQL write their titles over their environment.
        """
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = self.mark.encode() in (process / "environ").read_bytes()
                ours = ours or (process / "cwd").readlink().is_relative_to(self.data_dir)
            except OSError:  # it ended just now, or is the kernel's
                continue
            if ours:
                found.append(int(process.name))
        return found

    def assert_nothing_left(self, seconds=0.0):
        if seconds:
            poll(lambda: not self.processes(), seconds)
        assert self.processes() == []


@pytest.fixture(scope="session")
def folder():
    """A folder that PostgreSQL's user may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="stack-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(folder):
    """Start `stack.py` in the test; whatever is still running is killed."""
    started = []

    def start(data_dir, *arguments, **options):
        started.append(Run(folder / data_dir, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:  # the test failed
            one.process.kill()
            one.assert_nothing_left(seconds=10)
        one.process.communicate()

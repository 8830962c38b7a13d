"""Child processes that never outlive this one, and free ports for them."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")
SWEEP_LIMIT = 2.0  # seconds for killed processes to be gone; a careless init keeps them as zombies
POLL = 0.02  # seconds between two looks at something that is about to happen
OUTSIDE_EPHEMERAL = range(10_240, 32_768)  # net.ipv4.ip_local_port_range starts at 32768

# The kernel sends a death signal when the thread that started the child ends. This one starts all
# of them and lives as long as the process.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class StackError(Exception):
    """The stack can't start or go on; the text is one line for the user."""


class Child:
    """One child process in a session of its own, with its log file.

    ``death_signal`` is what it gets when this process dies, ``stop_signal`` what stop() sends;
    after ``grace`` seconds follows SIGKILL. ``run_as`` is a user ("" is the current one).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike],
        log_path: Path,
        *,
        environ: Mapping[str, str],
        run_as: str = "",
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10,
    ) -> None:
        self.name = name
        self.command = [os.fspath(part) for part in command]
        self.log_path = log_path
        self.environ = dict(environ)
        self.run_as = run_as
        self.stop_signal = stop_signal
        self.death_signal = death_signal
        self.grace = grace
        self.wanted = False  # between start() and stop()
        self.started = 0.0  # time.monotonic() of the latest start
        self.process: subprocess.Popen | None = None
        self._swept = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process id of the running child, else None."""
        return self.process.pid if self.running else None

    @property
    def running(self) -> bool:
        if self.process is None:
            return False
        if self.process.poll() is None:
            return True
        self._sweep()
        return False

    def start(self) -> None:
        """Start the process unless it runs; its output is appended to the log."""
        with self._lock:
            self.wanted = True
            if not self.running:
                _spawner.submit(self._spawn).result()

    def restart(self) -> None:
        """Start it again after its death, unless it was told to stop in the meantime."""
        with self._lock:
            if self.wanted and not self.running:
                _spawner.submit(self._spawn).result()

    def _spawn(self) -> None:
        self.started = time.monotonic()
        self._swept = False
        launcher = [sys.executable, "-I", "-S", LAUNCHER, os.getpid(), int(self.death_signal)]
        try:
            self._open_log_and_spawn(launcher)
        except OSError as error:
            raise StackError(
                f"{self.name}: cannot run {error.filename}: {error.strerror}"
            ) from error

    def _open_log_and_spawn(self, launcher: list) -> None:
        with self.log_path.open("ab") as log:
            if self.run_as:  # nginx opens its log anew, by the name /dev/stdout
                shutil.chown(log.fileno(), self.run_as)
            self.process = subprocess.Popen(
                [*map(str, launcher), self.run_as, *self.command],
                env=self.environ,
                cwd=self.log_path.parent,  # core files go there
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the stack, which stops all in order
            )

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the child and the processes of its session, as a fault would."""
        if self.running:
            self._signal_session(number)

    def _sweep(self) -> None:
        """Kill what the dead process left of its session: now, its number may be reused later."""
        if not self._swept:
            self._swept = True
            deadline = time.monotonic() + SWEEP_LIMIT
            while self._signal_session(signal.SIGKILL) and time.monotonic() < deadline:
                time.sleep(POLL)

    def _signal_session(self, number: int) -> bool:
        """Send a signal; False if nobody is left."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True

    def ask_to_stop(self) -> None:
        """Send the stop signal without waiting."""
        self.wanted = False
        if self.running:
            self.process.send_signal(self.stop_signal)
            self.kill(signal.SIGCONT)  # a frozen one could not stop

    def stop(self) -> None:
        """Stop the process and what it left of its session; returns when they are gone."""
        with self._lock:
            self.ask_to_stop()
            if not self.running:
                return
            try:
                self.process.wait(self.grace)
            except subprocess.TimeoutExpired:
                self.kill()
                self.process.wait()
            self._sweep()

    def run(self) -> None:
        """Start it and wait until it ends; raises StackError unless it succeeds."""
        self.start()
        self.process.wait()
        self._sweep()
        if self.process.returncode != 0:
            raise StackError(self.obituary())

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until ready() is true; raises StackError if the child ends or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                raise StackError(self.obituary())
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} did not answer for {seconds:.0f} s: see {self.log_path}"
                )
            time.sleep(POLL)

    def obituary(self) -> str:
        """One line: how the child ended; for an exit code with the last line of its log."""
        code = self.process.returncode
        if code < 0:
            how = signal.Signals(-code).name
        else:
            lines = self.log_path.read_text(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
            how = f"exit code {code}: {last}"
        return f"{self.name} ended with {how} (log: {self.log_path})"


def finish_spawning() -> None:
    """Return when no child is half started any more."""
    _spawner.submit(lambda: None).result()


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody uses, and that no other stack gets while this process lives.

    They lie outside the range from which the kernel picks the ports of outgoing connections: one of
    thousands of those could take a replica's port while it restarts.
    """
    ports = []
    for port in random.sample(OUTSIDE_EPHEMERAL, len(OUTSIDE_EPHEMERAL)):
        if len(ports) == count:
            return ports
        if _reserve(port):
            ports.append(port)
    raise StackError("no free ports on 127.0.0.1")


def _reserve(port: int) -> bool:
    """Whether the port is free, and then this process's until it ends.

    The reservation is a name in the kernel's list of Unix sockets (Linux only).
    """
    reservation = socket.socket(socket.AF_UNIX)
    try:
        if sys.platform == "linux":
            reservation.bind(f"\0weather stack, port {port}")
        with socket.socket() as candidate:
            candidate.bind(("127.0.0.1", port))
    except OSError:
        reservation.close()
        return False
    reservation.detach()  # open until the process ends
    return True


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def own_environ(environ: Mapping[str, str], names: Iterable[str] = ()) -> dict[str, str]:
    """What a child gets of these variables: PATH, LANG and those with its own names."""
    return {name: environ[name] for name in ("PATH", "LANG", *names) if name in environ}


def unprivileged_user() -> str:
    """The account for what must not run as root: "" unless this process is root."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise StackError("PostgreSQL does not run as root: create a user named postgres")


def closed_folder(path: Path, user: str) -> Path | None:
    """The first folder above ``path`` that ``user`` may not enter, if there is one."""
    if not user:
        return None
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    for folder in reversed(path.resolve().parents):
        status = folder.stat()
        if status.st_uid == account.pw_uid:
            allowed = status.st_mode & 0o100
        elif status.st_gid in groups:
            allowed = status.st_mode & 0o010
        else:
            allowed = status.st_mode & 0o001
        if not allowed:
            return folder
    return None


def check_reachable(path: Path, user: str) -> None:
    """Raise StackError for the first folder above ``path`` that ``user`` may not enter."""
    if folder := closed_folder(path, user):
        raise StackError(
            f"{path}: as root, the stack runs its processes as the user {user}, who may not enter "
            f"{folder}; move the checkout or --data-dir, or chmod o+x {folder}"
        )

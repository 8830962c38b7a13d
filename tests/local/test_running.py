"""A running stack: how clients find it, who is started again, and how it ends."""

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import psycopg2
import pytest
import redis
import yaml
from databases import assert_only_reads, connect
from polling import poll
from processes import closed_folder, unprivileged_user
from redis.backoff import NoBackoff
from redis.retry import Retry
from stack import VARIABLES

from .conftest import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def running(folder):
    stack = Run(folder / "running", "up", "--port", "0", SHELL_SECRET="of-the-shell")
    stack.url = stack.wait_for_line("ready ").removeprefix("ready ")
    yield stack
    stack.process.kill()
    stack.process.communicate()


def environ_of(run, stack):
    show = run(stack.data_dir, "env")
    assert show.result() == (0, [])
    return dict(shlex.split(line)[0].split("=", 1) for line in show.lines)


def fetch(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.headers["X-Served-By"], answer.read()


def redis_client(environ):
    port, password = int(environ["REDIS_PORT"]), environ["REDIS_PASSWORD"]
    # redis-py tries a refused log-in again, for seconds.
    return redis.Redis(environ["REDIS_HOST"], port, password=password, retry=Retry(NoBackoff(), 0))


def serves(url):
    with contextlib.suppress(OSError):
        return fetch(f"{url}/health-check")[1] == b"success"
    return False


def pids(stack, *words):
    """Processes of the stack whose command line has all these words."""
    found = []
    for pid in stack.processes():
        with contextlib.suppress(OSError):
            command = Path("/proc", str(pid), "cmdline").read_bytes()
            if all(word.encode() in command for word in words):
                found.append(pid)
    return found


def replica_pids(stack, url):
    return pids(stack, "wsgi.py", f"127.0.0.1:{url.rsplit(':', 1)[1]}")


def kill(numbers):
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def test_each_stage_tells_its_time(running):
    stages = ("PostgreSQL", "Valkey", "data-populator", "data-query", "3 replicas", "nginx")
    for stage in stages:
        assert re.search(rf"^{stage} ready in \d+\.\d s$", "\n".join(running.lines), re.MULTILINE)
    assert running.lines[-1] == f"ready {running.url}"
    assert "data-populator | 2000/2000 records inserted" in running.lines


def test_nginx_reaches_every_replica(running):
    seen = {fetch(f"{running.url}/health-check")[0] for _ in range(12)}
    assert seen == {"flask", "flask_replica_1", "flask_replica_2"}


def test_env_lets_a_client_reach_every_part(run, running):
    environ = environ_of(run, running)
    with contextlib.closing(connect(environ)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM weather_data")
        assert cursor.fetchone() == (2000,)
    with redis_client(environ) as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(256 << 20)
    assert environ["NGINX_URL"] == running.url
    names = [fetch(f"{url}/health-check")[0] for url in environ["FLASK_URLS"].split(",")]
    assert names == ["flask", "flask_replica_1", "flask_replica_2"]


def test_secrets_are_for_their_owner_only(running):
    for name in ("stack.env", "postgres-account.json", "valkey-account.conf"):
        assert stat.S_IMODE((running.data_dir / name).stat().st_mode) == 0o600
    password = re.search(
        "POSTGRES_PASSWORD=(.*)", (running.data_dir / "stack.env").read_text()
    ).group(1)
    assert len(password) >= 24
    assert not any(password in log.read_text() for log in running.data_dir.glob("log/*.log"))
    assert password not in running.output_path.read_text()


def children(stack):
    return [pid for pid in stack.processes() if pid != stack.process.pid]


def owners(numbers):
    return {Path("/proc", str(pid)).stat().st_uid for pid in numbers}


def test_no_process_runs_as_root(running):
    """As another user than root nothing changes. A Python that only root reaches is root's."""
    user = unprivileged_user()
    expected = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    closed = closed_folder(Path(sys.executable), user)
    replicas = pids(running, "wsgi.py")
    assert len(replicas) >= 6
    assert owners(replicas) == {0 if closed else expected}
    assert owners(set(children(running)) - set(replicas)) == {expected}
    notice = f"jobs and replicas run as root: Python is in {closed}, which"
    assert any(line.startswith(notice) for line in running.lines) == bool(closed)


@pytest.fixture
def open_python(folder):
    """A Python that every user may run, with the packages of this one."""
    if not closed_folder(Path(sys.executable), unprivileged_user()):
        return sys.executable
    python = shutil.which("python{}.{}".format(*sys.version_info), path="/usr/bin:/usr/local/bin")
    if not python:
        pytest.skip("every Python of this version is in root's home")
    make = [python, "-m", "venv", "--without-pip", folder / "open"]
    subprocess.run(make, check=True)
    [packages] = (folder / "open").glob("lib/*/site-packages")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    # redis-py imports it on Python 3.11.2 and older.
    (packages / "async_timeout.py").write_text("from contextlib import nullcontext as timeout\n")
    return folder / "open" / "bin" / "python"


def test_a_process_has_its_own_variables_alone(run, running):
    """nginx and PostgreSQL write their titles over some of theirs."""
    for pid in children(running):
        assert b"SHELL_SECRET" not in Path("/proc", str(pid), "environ").read_bytes()
    owner = environ_of(run, running)["POSTGRES_PASSWORD"]
    for pid in pids(running, "wsgi.py"):
        environ = Path("/proc", str(pid), "environ").read_text()
        names = {line.partition("=")[0] for line in environ.split("\0") if line}
        own = {"HOSTNAME", "FLASK_REPLICAS", "PYTHONUNBUFFERED", *VARIABLES["flask"]}
        own |= {f"POSTGRES_{name}" for name in ("HOST", "PORT", "DB", "USER", "PASSWORD")}
        own |= {f"REDIS_{name}" for name in ("HOST", "PORT", "PASSWORD")}
        assert {"POSTGRES_PASSWORD", "REDIS_PASSWORD"} <= names
        assert names <= own | {"PATH", "LANG", "LC_CTYPE"}  # Python sets the last one
        assert owner not in environ


def test_the_data_folder_is_closed_to_others(running):
    allowed = 0o710 if os.geteuid() == 0 else 0o700  # the group is the unprivileged user's
    assert stat.S_IMODE(running.data_dir.stat().st_mode) == allowed


def test_the_replicas_role_only_reads(run, running):
    environ = environ_of(run, running)
    account = {name: environ[f"POSTGRES_APP_{name}"] for name in ("USER", "PASSWORD")}
    account = {f"POSTGRES_{name}": value for name, value in account.items()}
    with contextlib.closing(connect(environ | account)) as connection:
        assert_only_reads(connection)


def test_redis_answers_nobody_without_its_password(run, running):
    environ = environ_of(run, running)
    assert len(environ["REDIS_PASSWORD"]) >= 24
    with redis_client(environ | {"REDIS_PASSWORD": None}) as client:
        for command in (("SET", "weather:avg:1:Portland", "{}"), ("GET", "key"), ("CONFIG", "GET")):
            with pytest.raises(redis.AuthenticationError):
                client.execute_command(*command)
    arguments = [Path("/proc", str(pid), "cmdline").read_text() for pid in running.processes()]
    secrets = {value for name, value in environ.items() if name.endswith("_PASSWORD")}
    assert len(secrets) == 3
    assert not any(secret in text for secret in secrets for text in arguments)


def test_a_wrong_password_is_refused(run, running):
    environ = environ_of(run, running)
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        psycopg2.connect(
            host="127.0.0.1",
            port=environ["POSTGRES_PORT"],
            user=environ["POSTGRES_USER"],
            dbname="postgres",
            password="wrong",
        )


def test_a_second_stack_on_the_same_data_is_refused(run, running):
    second = run(running.data_dir, "up", "--port", "0")
    assert second.result() == (
        1,
        [
            f"stack: {running.data_dir} is in use by another local stack "
            f"(process {running.process.pid})"
        ],
    )
    assert serves(running.url)


def test_a_killed_replica_is_started_again(run, running):
    url = environ_of(run, running)["FLASK_URLS"].split(",")[1]
    kill(replica_pids(running, url))
    running.wait_for_line("flask_replica_1 ended with SIGKILL")
    poll(lambda: serves(url))


def test_a_killed_master_alone_takes_its_workers_along(run, running):
    url = environ_of(run, running)["FLASK_URLS"].split(",")[2]
    before = replica_pids(running, url)
    assert len(before) >= 2
    kill([min(before)])
    poll(lambda: serves(url) and not set(before) & set(replica_pids(running, url)))


def test_a_killed_valkey_is_started_again(run, running):
    environ = environ_of(run, running)
    kill(pids(running, "valkey-server"))
    with redis_client(environ) as client:

        def answers():
            with contextlib.suppress(redis.ConnectionError):
                return client.ping()

        poll(answers)


def test_the_death_of_the_stack_takes_every_process_along(run, running):
    """And the next start recovers the data; the death of nginx then ends it."""
    assert len(running.processes()) > 10
    running.signal(signal.SIGKILL)
    running.assert_nothing_left(seconds=10)

    again = run(running.data_dir, "up", "--port", "0", POSTGRES_PASSWORD="another-one")
    again.wait_for_line("ready ")
    log = (running.data_dir / "log" / "postgres.log").read_text()
    assert "not properly shut down; automatic recovery in progress" in log
    assert environ_of(run, again)["POSTGRES_PASSWORD"] == "another-one"
    assert not any("records inserted" in x and "2000/2000" not in x for x in again.lines)
    kill(pids(again, "nginx", "nginx.conf"))
    code, errors = again.result()
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("stack: nginx ended with SIGKILL")
    again.assert_nothing_left()


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_obstacle(run, running):
    cluster = running.data_dir / "postgres"
    with subprocess.Popen(["sleep", "20"], user=cluster.stat().st_uid) as stranger:
        (cluster / "postmaster.pid").write_text(f"{stranger.pid}\n{cluster}\n")
        stack = run(running.data_dir, "up", "--port", "0")
        stack.wait_for_line("PostgreSQL ready")
        stack.signal(signal.SIGTERM)
        stack.result()
        stranger.kill()


def test_as_root_all_run_as_another_user_and_ctrl_c_stops_them_in_order(run, running, open_python):
    arguments = ("up", "--port", "0", "--replicas", "1")
    stack = run(running.data_dir, *arguments, python=open_python)
    stack.wait_for_line("ready ")
    uid = pwd.getpwnam(unprivileged_user()).pw_uid if os.geteuid() == 0 else os.geteuid()
    jobs = [stack.data_dir / "log" / f"{name}.log" for name in ("data-populator", "data-query")]
    assert owners(children(stack)) == {job.stat().st_uid for job in jobs} == {uid}
    assert "least_conn" not in (running.data_dir / "nginx" / "default.conf").read_text()
    stack.signal(signal.SIGINT)
    assert stack.result() == (0, [])
    stack.assert_nothing_left()
    log = (running.data_dir / "log" / "postgres.log").read_text()
    assert "database system is shut down" in log
    assert not (running.data_dir / "stack.env").exists()


def test_the_database_has_the_same_settings_as_in_compose():
    compose = (ROOT / "docker-compose.yaml").read_text()
    command = compose[compose.index("      postgres\n") :].split("environment:")[0]
    source = (ROOT / "local" / "postgres.py").read_text()
    settings = source[source.index("SERVER_SETTINGS = {") :].split("}")[0]
    assert re.findall(r"-c (\w+)=(\S+)", command) == re.findall(r'"(\w+)": "(\w+)"', settings)


def test_every_variable_of_compose_reaches_the_local_stacks_programs():
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    for room, names in VARIABLES.items():
        passed = {name for name, value in services[room]["environment"].items() if value is None}
        assert set(names) == passed - {"POSTGRES_APP_USER"}

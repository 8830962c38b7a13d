"""The stack in containers: gating, health, balance, hardening, isolation and restarts."""

import json
import os
import re
import subprocess
from datetime import datetime
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from compose_project import ROOT
from databases import POWERS, REFUSED
from polling import poll
from service import REPLICAS

JOBS = ["data-populator", "data-query"]
LONG_RUNNING = ["db", "redis", *REPLICAS, "nginx"]
RECORDS = 10_000


@pytest.fixture(scope="module")
def project(make_project):
    project = make_project("test-compose", TOTAL_RECORDS=str(RECORDS))
    project.compose("build")
    project.up()
    return project


def moment(container, name):
    return datetime.fromisoformat(container["State"][name])


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_healthy(project, service):
    assert project.inspect(service)["State"]["Health"]["Status"] == "healthy"


@pytest.mark.parametrize("service", JOBS)
def test_job_done(project, service):
    state = project.inspect(service)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


def test_each_stage_waits_for_the_one_before(project):
    db, populator, query, nginx = map(project.inspect, ["db", *JOBS, "nginx"])
    replicas = [project.inspect(name) for name in REPLICAS]
    assert moment(db, "StartedAt") < moment(populator, "StartedAt")
    assert moment(populator, "FinishedAt") < moment(query, "StartedAt")
    for replica in replicas:
        assert moment(query, "FinishedAt") < moment(replica, "StartedAt")
        assert moment(replica, "StartedAt") < moment(nginx, "StartedAt")


def test_replicas_share_one_image(project):
    assert len({project.inspect(name)["Image"] for name in REPLICAS}) == 1


def test_nginx_balances_over_all_replicas(project):
    served = {project.get("/health-check")[0]["X-Served-By"] for _ in range(60)}
    assert served == set(REPLICAS)


def test_the_flask_port_reaches_the_first_replica(project):
    url = f"http://127.0.0.1:{project.env['FLASK_PORT']}/health-check"
    with urlopen(url, timeout=10) as response:
        assert response.headers["X-Served-By"] == "flask"


def test_metrics_are_for_the_inside_network(project):
    def seen_by_nginx(url):
        return project.exec("nginx", "curl", "-fsS", url).stdout

    for replica in REPLICAS:
        assert "\nweather_http_requests_total{" in seen_by_nginx(f"http://{replica}:5000/metrics")
    status = seen_by_nginx("http://127.0.0.1:8081/stub_status")
    assert status.startswith("Active connections: ")
    published = project.inspect("nginx")["HostConfig"]["PortBindings"]
    assert list(published) == ["8080/tcp"]


def test_the_answer_agrees_with_sql(project):
    location = json.loads(project.get("/locations?limit=1")[1])[0]
    form = urlencode({"location": location}).encode()
    request = Request(project.url + "/query", data=form, headers={"Accept": "application/json"})
    with urlopen(request, timeout=10) as response:
        answer = json.load(response)
    place = location.replace("'", "''")
    sql = f"select avg(temperature), count(*) from weather_data where location = '{place}'"
    psql = ["psql", "-At", "-U", "weather", "-d", "weather", "-c", sql]
    average, records = project.exec("db", *psql).stdout.strip().split("|")
    assert answer["records"] == int(records) > 0
    assert answer["average_temperature"] == pytest.approx(float(average), abs=0.0051)


@pytest.mark.parametrize("service", JOBS + LONG_RUNNING)
def test_container_is_hardened(project, service):
    container = project.inspect(service)
    host = container["HostConfig"]
    assert container["Config"]["User"] not in ("", "0", "root")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["PidsLimit"] > 0
    assert host["Memory"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
    assert host["RestartPolicy"]["Name"] == ("no" if service in JOBS else "unless-stopped")
    assert "bind" not in {mount["Type"] for mount in container["Mounts"]}  # nothing of the host


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_hardening_holds_inside_the_container(project, service):
    status = project.exec(service, "cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\s+[1-9]", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    refused = project.exec(service, "touch", "/usr/x", check=False)
    assert "Read-only file system" in refused.stderr


TRY = """
import sys, psycopg2
from weather.settings import Settings
connection = psycopg2.connect(**Settings.from_env().postgres.connect_arguments)
connection.autocommit = True
cursor = connection.cursor()
cursor.execute(sys.argv[1])
print(*cursor.fetchone())
for statement in sys.argv[2:]:
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        print(error.pgcode)
"""


@pytest.mark.parametrize("service", REPLICAS)
def test_a_replicas_role_only_reads(project, service):
    tried = project.exec(service, "python", "-c", TRY, POWERS, *REFUSED).stdout.splitlines()
    assert tried == ["False False False False False", *["42501"] * len(REFUSED)]


def test_redis_answers_nobody_without_its_password(project):
    """And the command line has no password, where every user of the host could read it."""
    refused = project.exec("redis", "redis-cli", "set", "weather:avg:1:Portland", "{}").stdout
    assert refused.startswith("NOAUTH ")
    command = project.exec("redis", "cat", "/proc/1/cmdline").stdout
    assert command.startswith("redis-server")
    assert "weather" not in command
    assert json.loads(project.get("/ready")[1])["redis"] == "up"


def test_stop_grace_outlasts_gunicorn(project):
    for name in REPLICAS:
        assert project.inspect(name)["Config"].get("StopTimeout", 10) > 20


@pytest.mark.parametrize("service", ["flask", "nginx"])
def test_published_on_loopback_only(project, service):
    ports = project.inspect(service)["NetworkSettings"]["Ports"]
    bindings = [b for port in ports.values() if port for b in port]
    assert [b["HostIp"] for b in bindings] == ["127.0.0.1"]


@pytest.mark.parametrize("service", ["db", "redis", *JOBS, *REPLICAS[1:]])
def test_nothing_else_is_published(project, service):
    assert not project.inspect(service)["HostConfig"]["PortBindings"]


@pytest.mark.parametrize(("service", "port"), [("db", 5432), ("redis", 6379)])
def test_nginx_cannot_reach(project, service, port):
    networks = project.inspect(service)["NetworkSettings"]["Networks"]
    for host in (service, *(network["IPAddress"] for network in networks.values())):
        # The probe works where it is allowed to: from flask.
        connect = f"import socket; socket.create_connection(('{host}', {port}), 3)"
        project.exec("flask", "python", "-c", connect)
        probe = ["curl", "-sS", "--connect-timeout", "2", f"telnet://{host}:{port}"]
        refused = project.exec("nginx", *probe, check=False)
        assert refused.returncode in (6, 7, 28), refused  # no such name, refused, timed out


def test_backnet_has_no_way_out(project):
    """Docker forwards nothing between an internal network and the outside."""
    network = f"{project.env['COMPOSE_PROJECT_NAME']}_backnet"
    inspected = subprocess.check_output(["docker", "network", "inspect", network])
    assert json.loads(inspected)[0]["Internal"]
    for service in ("db", "redis", *JOBS):
        assert list(project.inspect(service)["NetworkSettings"]["Networks"]) == [network]


def test_bad_setting_is_one_line_and_flask_never_starts(make_project, project):
    bad = make_project("test-compose-bad", TOTAL_RECORDS="many")
    assert bad.compose("up", "--wait", check=False).returncode != 0
    assert bad.inspect("data-populator")["State"]["ExitCode"] == 2
    lines = bad.compose("logs", "--no-log-prefix", "data-populator").stdout.splitlines()
    assert len(lines) == 1
    assert "TOTAL_RECORDS is 'many': expected a whole number" in lines[0]
    for service in ("data-query", *REPLICAS, "nginx"):
        assert bad.inspect(service)["State"]["Status"] == "created"


def test_restart_of_a_replica_loses_no_request(project):
    before = moment(project.inspect("flask"), "StartedAt")
    with project.start("restart", "flask") as restart:
        while restart.poll() is None:
            assert project.serving()
    assert restart.returncode == 0
    assert moment(project.inspect("flask"), "StartedAt") > before
    poll(lambda: project.serving() == "flask", 30)


def test_second_up_finds_everything_there(project):
    identity = {name: project.inspect(name)["Id"] for name in LONG_RUNNING}
    project.up()
    assert identity == {name: project.inspect(name)["Id"] for name in LONG_RUNNING}


def test_start_after_down_serves_the_data_that_stayed(project):
    """Also those of a stack from before the replicas had a role, and with other passwords."""
    psql = ["psql", "-At", "-U", "weather", "-d", "weather", "-c"]
    project.exec("db", *psql, "drop owned by weather_app; drop role weather_app")
    project.compose("down")
    project.env |= {"POSTGRES_APP_PASSWORD": "other", "REDIS_PASSWORD": "other"}
    project.compose("up", "--detach")
    poll(project.serving, 60)
    log = project.compose("logs", "data-populator").stdout
    assert f"{RECORDS}/{RECORDS}" in log
    ready = {"ready": True, "postgresql": "up", "redis": "up"}
    assert json.loads(project.get("/ready")[1]) == ready


def test_make_up_ends_with_what_the_failed_service_said(make_project):
    """The last test: the images that it builds have the label of its project."""
    bad = make_project("test-compose-make", TOTAL_RECORDS="many")
    env = bad.env | {"COMPOSE_ENV_FILES": os.devnull, "MAKEFLAGS": "--no-print-directory"}
    up = subprocess.run(["make", "up"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert up.returncode != 0
    last = up.stdout.splitlines()[-1]
    assert "data-populator-1  | " in last
    assert "TOTAL_RECORDS is 'many': expected a whole number" in last

"""Passwords from files: they work, mistakes are one clear line, and nothing shows them."""

import http.client
import secrets
import subprocess

import pytest

MOUNTED = "/run/secrets/postgres_app_password"  # data-query's
NAMES = ("POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "REDIS_PASSWORD")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory):
    """The files that hold them, by variable."""
    folder = tmp_path_factory.mktemp("secrets")
    files = {f"{name}_FILE": folder / name.lower() for name in NAMES}
    for path in files.values():
        path.write_text(secrets.token_hex(24) + "\n")
        path.chmod(0o644)
    return files


@pytest.fixture(scope="module")
def project(make_project, passwords):
    """PostgreSQL, Redis, both jobs and one replica."""
    project = make_project(
        "test-compose-secrets",
        COMPOSE_FILE="docker-compose.yaml:docker-compose.secrets.yaml",
        **{name: str(path) for name, path in passwords.items()},
        TOTAL_RECORDS="1000",
    )
    project.compose("build", "data-populator", "data-query", "flask")
    project.compose("up", "--wait", "flask")
    return project


def ask(project, method, path, body=None):
    """Status and the whole answer of the replica."""
    connection = http.client.HTTPConnection("127.0.0.1", project.env["FLASK_PORT"], timeout=10)
    connection.request(method, path, body, FORM)
    answer = connection.getresponse()
    text = f"{answer.headers}{answer.read().decode()}"
    connection.close()
    return answer.status, text


def job(project, *options):
    """What data-query says and its exit code."""
    run = ["run", "--rm", "--no-deps", "-T", *options, "data-query"]
    result = project.compose(*run, check=False)
    return result.returncode, result.stderr + result.stdout


def test_the_passwords_of_the_files_open_the_database_and_redis(project):
    status, answer = ask(project, "POST", "/query", b"location=Nowhere")
    assert status == 200
    assert "No data available" in answer
    status, answer = ask(project, "GET", "/ready")
    assert (status, '"redis": "up"' in answer) == (200, True)


@pytest.fixture
def other_file(project, tmp_path, monkeypatch):
    """Another file in place of the right one, for this test."""
    path = tmp_path / "other"
    path.touch()
    monkeypatch.setitem(project.env, "POSTGRES_APP_PASSWORD_FILE", str(path))
    return path


def test_a_missing_file_is_refused_before_anything_starts(project, other_file):
    other_file.unlink()
    code, output = job(project)
    assert code != 0
    assert f"{other_file}" in output


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"", 0o644, "expected a password, it is empty"),
        (b"\n", 0o644, "expected a password, it is empty"),
        (b"\xff\n", 0o644, "expected a readable file (not UTF-8)"),
        (b"good\n", 0o600, "expected a readable file (Permission denied)"),
    ],
)
def test_an_unusable_file_is_one_line(project, other_file, content, mode, reason):
    other_file.write_bytes(content)
    other_file.chmod(mode)
    code, output = job(project)
    assert code == 2
    assert f"POSTGRES_PASSWORD_FILE is '{MOUNTED}': {reason}\n" in output


def test_both_variables_are_one_line(project):
    code, output = job(project, "-e", "POSTGRES_PASSWORD=one-too-many")
    assert code == 2
    assert "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE: both are set" in output
    assert "one-too-many" not in output


def test_nothing_shows_the_passwords(project, passwords, other_file):
    """Neither the right ones nor a wrong one: in no answer, log or container's settings."""
    wrong = secrets.token_hex(24)
    other_file.write_text(wrong)
    other_file.chmod(0o644)
    seen = []
    for method, path, body, status in (
        ("POST", "/query", b"location=", 400),
        ("POST", "/query", b"x" * 10_000, 413),
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/query", None, 405),
        ("GET", "/ready", None, 200),
    ):
        code, answer = ask(project, method, path, body)
        assert code == status
        seen.append(answer)
    code, output = job(project)
    assert code == 1
    assert "password authentication failed" in output
    seen.append(output)
    project.compose("stop", "db")
    for path in ("/query", "/ready"):
        code, answer = ask(project, "GET" if path == "/ready" else "POST", path, b"location=Any")
        assert code == 503
        seen.append(answer)

    seen.append(project.compose("logs", "--no-log-prefix").stdout)
    assert "password authentication failed" in seen[-1]  # PostgreSQL's own line
    seen.append(project.compose("config").stdout)
    containers = project.compose("ps", "--all", "--quiet").stdout.split()
    seen.append(subprocess.check_output(["docker", "inspect", *containers], text=True))
    assert f"POSTGRES_PASSWORD_FILE={MOUNTED}" in seen[-1]
    shown = [path.read_text().strip() for path in passwords.values()] + [wrong]
    assert not any(word in text for text in seen for word in shown)

"""Log lines: text or JSON, with the id of the request they are about, which SQL has too."""

import json
import logging
import re
import subprocess
import sys

import pytest
from flask_servers import REPOSITORY, locked_table, query, request, send_query, serving
from polling import poll

from weather.factory import create_app
from weather.logs import JsonFormatter, TextFormatter

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
MADE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
def app(settings):
    return create_app(settings)


def record(message="503: %s", arguments=("down",), error=None):
    return logging.LogRecord("weather", logging.WARNING, "", 1, message, arguments, error)


def request_of(app, request_id):
    return app.test_request_context("/", headers={"X-Request-ID": request_id})


def test_a_text_line_ends_with_the_id(app):
    with request_of(app, ID):
        line = TextFormatter().format(record())
    assert re.fullmatch(rf"\[.+ \+\d{{4}}\] \[\d+\] \[WARNING\] 503: down id={ID}", line)


def test_a_json_line_has_the_id(app):
    with request_of(app, ID):
        fields = json.loads(JsonFormatter().format(record()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", fields.pop("time"))
    assert fields.pop("process")
    assert fields == {"level": "warning", "message": "503: down", "request_id": ID}


def test_lines_beside_requests_have_no_id():
    assert "id=" not in TextFormatter().format(record())
    assert "request_id" not in json.loads(JsonFormatter().format(record()))


def test_a_traceback_is_a_part_of_the_json_line():
    try:
        raise KeyError("a\nb")
    except KeyError:
        line = JsonFormatter().format(record(error=sys.exc_info()))
    assert "\n" not in line
    assert json.loads(line)["exception"].startswith("Traceback")


@pytest.mark.parametrize(("options", "enabled"), [([], False), (["--access-logfile", "-"], True)])
def test_gunicorn_prepares_access_lines_only_where_somebody_wants_them(environ, options, enabled):
    """In a process of its own: gunicorn configures logging as the workers' logger is made."""
    code = "from gunicorn.app.wsgiapp import WSGIApplication as A; cfg = A().cfg\n"
    code += "print(cfg.logger_class(cfg).access_log_enabled)"
    command = [
        sys.executable,
        "-c",
        code,
        "--config",
        REPOSITORY / "flask" / "gunicorn.conf.py",
        *options,
    ]
    result = subprocess.run(
        command, cwd=REPOSITORY / "flask", env=environ, capture_output=True, text=True
    )
    assert result.stdout == f"{enabled}\n", result.stderr


@pytest.mark.parametrize("request_id", [ID, "a", "A.b_c:9-", "x" * 64])
def test_an_id_is_taken_over(app, request_id):
    with request_of(app, request_id):
        assert TextFormatter().format(record()).endswith(f" id={request_id}")


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "a*/", "a'", "%s", "ü", "a\tb"])
def test_an_id_that_could_not_stand_in_a_line_or_in_sql_is_made_anew(app, request_id):
    with request_of(app, request_id):
        lines = [TextFormatter().format(record()) for _ in range(2)]
    made = {line.partition(" id=")[2] for line in lines}
    assert len(made) == 1
    assert MADE.fullmatch(made.pop())


def test_a_slow_request_is_logged(app, caplog, monkeypatch):
    monkeypatch.setattr("weather.factory.SLOW_REQUEST", 0)  # seconds
    app.test_client().get("/health-check")
    assert re.fullmatch(r"slow: /health-check 200 took 0\.\d\d s", caplog.messages[-1])
    lines = len(caplog.messages)
    app.test_client().get("/health-check")  # within SLOW_LOG_INTERVAL
    assert len(caplog.messages) == lines


def test_a_fast_request_is_not_logged(app, caplog):
    app.test_client().get("/health-check")
    assert not caplog.messages


@pytest.mark.parametrize("sent", [ID, "'*/; DROP TABLE weather_data --"])
def test_sql_has_the_id(environ, postgres, valkey, tmp_path, sent):
    waiting = "SELECT query FROM pg_stat_activity WHERE wait_event = 'relation'"
    environ |= {"FLASK_REPLICAS": "1", "POOL_MINCONN": "1"}
    with serving(environ, tmp_path) as port:
        query(port, "Nowhere")  # its connection prepares the statement, which would wait, too
        with locked_table(postgres):
            client = send_query(port, headers={"X-Request-ID": sent})
            [[sql]] = poll(lambda: postgres.rows(waiting))
        with client:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    found = re.fullmatch(r"EXECUTE average \('Portland'\) /\*request_id='(\w+)'\*/", sql)
    assert (found[1] == ID) == (sent == ID)


def test_with_log_format_json_every_line_is_an_object(environ, tmp_path):
    with serving(environ | {"LOG_FORMAT": "json"}, tmp_path) as port:
        assert query(port)[0] == 503
        assert request(port, "GET", "/health-check")[0] == 200
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"level", "message", "process", "time"} == set.intersection(*map(set, lines))
    assert any(line["message"].startswith("Booting worker") for line in lines)
    [refusal] = [line for line in lines if line["message"].startswith("503: ")]
    assert MADE.fullmatch(refusal["request_id"])

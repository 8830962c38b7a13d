"""The open loop, against a server that stalls for 2 s: only the response time shows it."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lab.open_loop import Request, percentile, run
from lab.record_open_loop import record
from lab.recording import between, series
from users.checker import Checker

RATE = 100  # requests/s
SECONDS = 6
CONNECTIONS = 4
STALL = 2.0  # seconds
BODY = b'{"location": "Port Anna", "average_temperature": 12.34, "records": 5}'


@pytest.fixture
def stalling_server():
    """Answers at once, but nobody from the second to the fourth second after the first request."""
    began = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # header and body in one write, or each answer waits 40 ms for an ACK
        begin = 0.0

        def do_GET(self):
            if not began.is_set():
                Handler.begin = time.monotonic()
                began.set()
            since = time.monotonic() - Handler.begin
            if STALL <= since < 2 * STALL:
                time.sleep(2 * STALL - since)
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_stall_is_in_the_response_times_and_nearly_absent_from_the_service_times(
    stalling_server,
):
    request = Request("GET", "/", None, {})
    samples = run(stalling_server, lambda _: request, RATE, SECONDS, CONNECTIONS)
    assert len(samples) == RATE * SECONDS
    assert {sample.status for sample in samples} == {200}

    # 200 requests were due during the stall, a third of all; the connections sent 4 of them.
    response_times = [sample.response_time for sample in samples]
    service_times = [sample.service_time for sample in samples]
    assert percentile(response_times, 95) > 0.75 * STALL
    assert percentile(service_times, 95) < 0.05
    # Those 4 waited for nearly all of it; a hiccup of a busy machine is no part of the stall.
    assert sum(value > STALL / 2 for value in service_times) == CONNECTIONS
    assert sum(value > 0.1 for value in response_times) > 0.8 * STALL * RATE

    # The recording keeps both.
    lines = record(samples, ["Port Anna"] * len(samples), Checker({}))
    assert len(lines) == SECONDS + 1
    whole = between(lines[0], lines[-1])
    assert (whole["requests"], whole["failures"]) == (RATE * SECONDS, 0)
    assert whole["p95_ms"] == pytest.approx(percentile(response_times, 95) * 1000, abs=1)
    assert whole["service_p95_ms"] == pytest.approx(percentile(service_times, 95) * 1000, abs=1)

    # As many were due in each second; nearly none was answered during the stall, and many after it.
    points = series(lines)
    assert {point["requests"] for point in points} == {RATE}
    answered = [point["requests_per_second"] for point in points]
    assert min(answered) <= CONNECTIONS
    assert max(answered) > 2 * RATE


def test_wrong_answers_and_lost_ones_are_failures(stalling_server):
    request = Request("GET", "/", None, {})
    samples = run(stalling_server, lambda _: request, RATE, 0.1)
    samples += run("http://127.0.0.1:1", lambda _: request, RATE, 0.1)
    checker = Checker({"Port Anna": (99.0, 5)})
    last = record(samples, ["Port Anna"] * len(samples), checker)[-1]
    assert last["failures"] == last["requests"] == 20
    errors = {error["error"]: error["count"] for error in last["errors"]}
    assert errors.pop("wrong answer: wrong average") == 10
    assert [name.split(":")[0] for name in errors] == ["ConnectionRefusedError"]

"""The open loop, against a server that stalls, refuses, errs and hangs up."""

import time

import gevent
import pytest
from gevent.server import StreamServer

from lab import open_loop
from lab.open_loop import OpenLoop
from lab.recording import summary
from users.http_connection import Server, request_bytes

RATE = 100  # requests/s
STALL = (1.0, 3.5)  # seconds after the first request: nobody is answered between
ANSWER = b"HTTP/1.1 200 OK\r\nX-Served-By: flask\r\nX-Cache: hit\r\nContent-Length: 2\r\n\r\nok"
REFUSAL = ANSWER.replace(b"200 OK", b"503 Busy").replace(b"X-Cache: hit", b"X-Refused-By: pool")


class Stalling:
    """Answers each request with the same bytes, but nobody in a stretch of time."""

    def __init__(self, answer, stall=(0.0, 0.0)):
        self.connections = 0
        self._answer = answer
        self._stall = stall
        self._began = None

    def __call__(self, client, _address):
        self.connections += 1
        while client.recv(65536):
            now = time.monotonic()
            self._began = self._began or now
            start, end = (self._began + moment for moment in self._stall)
            if start <= now < end:
                gevent.sleep(end - now)
            client.sendall(self._answer)
            if not self._answer:
                return


@pytest.fixture
def run():
    """Runs an open loop against such a server; returns its lines."""
    servers = []

    def run(handler, rate=RATE, seconds=0.1, check=lambda _number, _response: ""):
        listener = StreamServer(("127.0.0.1", 0), handler, backlog=1024)
        listener.start()
        servers.append(listener)
        server = Server(f"http://127.0.0.1:{listener.server_port}")
        request = request_bytes("GET", server.name, "/", {})

        def check_status(number, response):
            return check(number, response) if response.status_code == 200 else "status"

        return OpenLoop(server, lambda _: request, check_status, rate).run(seconds)

    yield run
    for listener in servers:
        listener.stop()


def test_a_stall_does_not_hold_up_the_schedule(run):
    stalling = Stalling(ANSWER, STALL)
    before = time.time()
    lines = run(stalling, seconds=4)
    # As many were due, and sent, in each second, over as many connections as there were to wait.
    assert [line["sent"] for line in lines] == [RATE] * 4
    assert stalling.connections > 2 * RATE
    assert before + 1 < lines[0]["time"] < lines[3]["time"] < time.time()
    result = summary(lines)
    assert result["send_lag_p99_ms"] < 500  # 0.1 on a quiet machine
    # Who was due in the first half second of the stall waited for more than 2 s.
    assert result["failures"].keys() == {"late"}
    assert 0.3 * RATE < result["failed"] < 0.8 * RATE
    assert result["tiers"]["origin"] == 4 * RATE
    assert result["max_ms"] == pytest.approx(2500, abs=400)
    # Hardly anybody was answered during the stall, and all at its end.
    assert [lines[second]["answered"] < 10 for second in range(4)] == [False, True, True, False]
    assert lines[3]["answered"] > 2 * RATE


def test_a_response_time_counts_from_when_a_request_was_due(run):
    def busy(number, _response):
        if number == 0:
            time.sleep(0.5)  # the generator itself, so that the next ones are sent too late
        return ""

    result = summary(run(Stalling(ANSWER), seconds=0.2, check=busy))
    assert result["failed"] == 0
    assert result["send_lag_p99_ms"] > 300
    assert result["p50_ms"] > 250 > result["service_p50_ms"]


def test_what_the_generator_is_too_late_for_is_a_failure_and_not_sent(run, monkeypatch):
    monkeypatch.setattr(open_loop, "PATIENCE", 0.2)
    stalling = Stalling(ANSWER)

    def busy(_number, _response):
        time.sleep(0.5)
        return ""

    result = summary(run(stalling, seconds=0.1, check=busy))
    assert result["sent"] == 0.1 * RATE
    assert 0 < result["unsent"] == result["failures"]["network"] < result["sent"]
    assert result["errors"][0]["error"] == "not sent: the generator was too late"


@pytest.mark.parametrize(
    ("answer", "check", "failure"),
    [
        (REFUSAL, "", "pool"),
        (ANSWER, "wrong average", "wrong"),
        (b"", "", "network"),
        (ANSWER.replace(b"HTTP", b"SMTP"), "", "network"),
    ],
)
def test_every_answer_is_judged(run, answer, check, failure):
    result = summary(run(Stalling(answer), check=lambda _number, _response: check))
    assert result["failures"] == {failure: 10}
    assert (result["good"], result["unsent"], result["service_p50_ms"]) == (0, 0, None)

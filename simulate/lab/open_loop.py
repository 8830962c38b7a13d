"""Requests on a schedule: a fixed arrival rate that a slow server does not slow down.

A closed loop waits for an answer before it asks again, so a server that stalls is asked less and
looks better than it is ("coordinated omission", Gil Tene, "How NOT to measure latency", 2015).
Here request i is due at i / rate, whatever became of the others, and its response time counts from
the moment it was due; its service time counts from the moment it was sent. There are as many
connections as there are requests under way.

Why not a ready-made one: vegeta, k6, wrk2 and oha are not on PyPI, Debian or npm. autocannon is on
npm, but asks over a fixed number of connections that wait for answers, and corrects its histogram
by a formula afterwards.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from typing import Any

import gevent
from gevent.event import Event

from users.http_connection import HttpConnection, ProtocolError, Response, Server
from users.tally import PATIENCE, Tally, Times

TIMEOUT = 10.0  # seconds for each step of a request, as Locust's users have


class Second:
    """What became of the requests that were due in one second."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.service_times = Times()  # of right answers
        self.send_lag = Times()
        self.answered = 0  # requests that ended in this second, whenever they were due
        self.unsent = 0
        self.cpu_seconds = 0.0  # of this process until the second's end

    def as_line(self) -> dict[str, Any]:
        return self.tally.as_line() | {
            "users": 0,
            "workers": 1,
            "seconds": 1.0,
            "answered": self.answered,
            "unsent": self.unsent,
            "service_times": self.service_times.encode(),
            "send_lag": self.send_lag.encode(),
            "cpu_seconds": self.cpu_seconds,
        }


class OpenLoop:
    """Sends ``rate`` requests each second.

    ``make_request`` gives the bytes of request i, ``check`` says what is wrong with its answer,
    empty if nothing is.
    """

    def __init__(
        self,
        server: Server,
        make_request: Callable[[int], bytes],
        check: Callable[[int, Response], str],
        rate: float,
    ) -> None:
        self._server = server
        self._make_request = make_request
        self._check = check
        self._rate = rate
        # The one that was used longest ago comes first: none is idle until nginx closes it.
        self._idle: deque[HttpConnection] = deque()
        self._under_way = 0
        self._begin = 0.0
        self._seconds: list[Second] = []

    def run(self, seconds: float) -> list[dict[str, Any]]:
        """Lines of a recording, one for each second; in the main thread, as the alarm needs it."""
        started = time.time()
        self._begin = time.perf_counter()
        with closing(Alarm()) as alarm:
            for number in range(round(self._rate * seconds)):
                due = number / self._rate
                while len(self._seconds) <= due:
                    self._next_second()
                alarm.sleep_until(self._begin + due)
                self._under_way += 1
                gevent.spawn(self._send, number, due)
        while self._under_way:
            gevent.sleep(0.01)
        self._seconds[-1].cpu_seconds = time.process_time()
        for connection in self._idle:
            connection.close()
        return [
            second.as_line() | {"time": started + number}
            for number, second in enumerate(self._seconds, 1)
        ]

    def _next_second(self) -> None:
        if self._seconds:
            self._seconds[-1].cpu_seconds = time.process_time()
        self._seconds.append(Second())

    def _send(self, number: int, due: float) -> None:
        second = self._seconds[math.floor(due)]
        sent = self._now()
        if sent - due > PATIENCE:
            second.unsent += 1
            second.tally.count(None, "not sent: the generator was too late", sent - due)
        else:
            second.send_lag.record(sent - due)
            self._exchange(number, due, sent, second)
        self._under_way -= 1

    def _exchange(self, number: int, due: float, sent: float, second: Second) -> None:
        connection = self._idle.popleft() if self._idle else HttpConnection(self._server, TIMEOUT)
        response, error = None, None
        try:
            response = connection.exchange(self._make_request(number))
        except (OSError, ProtocolError) as failure:
            error = failure
        ended = self._now()
        self._idle.append(connection)
        if response:
            error = self._check(number, response)
        second.tally.count(response, error, ended - due)
        if not error:
            second.service_times.record(ended - sent)
        if ended < len(self._seconds):
            self._seconds[math.floor(ended)].answered += 1

    def _now(self) -> float:
        """Seconds since the begin."""
        return time.perf_counter() - self._begin


class Alarm:
    """Wakes within 0.1 ms of a moment; gevent's timers, on epoll_wait(), round up to whole ms."""

    def __init__(self) -> None:
        self._rang = Event()
        self._watcher = gevent.get_hub().loop.signal(signal.SIGALRM)
        self._watcher.start(self._rang.set)

    def sleep_until(self, moment: float) -> None:
        """Let others run until then, in seconds of time.perf_counter(), and once at least."""
        left = moment - time.perf_counter()
        if left <= 0:
            gevent.sleep(0)
            return
        self._rang.clear()
        signal.setitimer(signal.ITIMER_REAL, left)
        self._rang.wait()

    def close(self) -> None:
        self._watcher.close()

"""What all Locust files share: users who think 1 to 2 s and check every answer."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
from gevent import GreenletExit
from locust import FastHttpUser, between, events, task
from locust.env import Environment
from locust.exception import CatchResponseError, StopTest
from locust.runners import MasterRunner

import page.start  # noqa: F401 - guards Locust's page
import users.thresholds  # noqa: F401 - adds options to Locust's own
from users.api import QUERY_PATH, ApiError, Averages, Client, query_request
from users.checker import Checker
from users.http_connection import HttpConnection, ProtocolError, Server
from users.patterns import PATTERNS, NewUser
from users.seconds import Seconds

SAMPLE = 100  # locations whose averages are asked for before the load begins


class WeatherUser(FastHttpUser):
    """A user who asks for averages; the classes that inherit from it choose the locations.

    Queries go over a connection of their own: through FastHttpUser's client a request takes 90 us
    of CPU, this way 21 us, and the generator shares the machine with what it measures.
    """

    abstract = True
    wait_time = between(1, 2)  # seconds
    connection_timeout = 10.0  # seconds
    network_timeout = 10.0  # seconds
    # Read from the stack before the first user starts.
    locations: ClassVar[list[str]]
    known: ClassVar[list[str]]  # those of them whose averages are known beforehand
    _patterns: ClassVar[dict[str, NewUser]]
    _checker: ClassVar[Checker]
    _requests: ClassVar[dict[str, bytes]]
    _server: ClassVar[Server]
    _problem: ClassVar[str] = ""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if self._problem:
            raise StopTest(self._problem)
        self._connection = HttpConnection(self._server, self.network_timeout)

    def on_start(self) -> None:
        """Ask first at any moment of a second: Locust starts all users of a second at once."""
        gevent.sleep(random.random())

    def on_stop(self) -> None:
        self._connection.close()

    def query(self, location: str) -> None:
        """POST /query; an answer that is not right counts as a failure."""
        response, failure = None, None
        started = time.perf_counter()
        try:
            response = self._connection.exchange(self._requests[location])
        except (OSError, ProtocolError) as error:
            failure = error
        except GreenletExit:
            Seconds.tally.cut_off += 1
            raise
        milliseconds = (time.perf_counter() - started) * 1000
        if response and (problem := self._checker.failure(location, response)):
            failure = CatchResponseError(problem)
        self.environment.events.request.fire(
            request_type="POST",
            name=QUERY_PATH,
            response_time=milliseconds,
            response_length=len(response.content) if response else 0,
            response=response,
            exception=failure,
            context={},
        )

    @classmethod
    def read_stack(cls, base_url: str) -> None:
        """Read what all users need to know; raises ApiError, OSError."""
        cls._server = Server(base_url)
        with Client(base_url) as client:
            cls.locations = client.all_locations()
            averages = _known_averages(client, cls.locations)
        cls.known, cls._checker = list(averages), Checker(averages)
        cls._patterns = {
            name: pattern.prepare(cls.locations, random) for name, pattern in PATTERNS.items()
        }
        cls._requests = {
            location: query_request(cls._server.name, location) for location in cls.locations
        }


class PatternUser(WeatherUser):
    """A user who asks for what its pattern chooses."""

    abstract = True
    pattern: ClassVar[str]  # a key of PATTERNS

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._choose = self._patterns[self.pattern]()

    @task
    def ask(self) -> None:
        self.query(self._choose())


def _known_averages(client: Client, locations: list[str]) -> Averages:
    """From the file that an experiment wrote from the database, or asked for now, one by one."""
    path = os.environ.get("EXPECTED_AVERAGES")
    if path:
        return json.loads(Path(path).read_text())
    return client.averages(random.sample(locations, min(SAMPLE, len(locations))))


@events.test_start.add_listener
def read_stack(environment: Environment, **_: Any) -> None:
    """Runs in every process that has users, before the first of them starts."""
    if isinstance(environment.runner, MasterRunner) or not environment.host:
        return
    WeatherUser._problem = ""
    try:
        WeatherUser.read_stack(environment.host)
    except (ApiError, OSError) as error:
        WeatherUser._problem = f"{environment.host}: {error}"
        environment.process_exit_code = 1

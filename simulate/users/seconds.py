"""Counts each second what became of the requests of Locust's users, of one process or of several.

Locust's own statistics keep two digits of a time, mix refusals with answers, and reach the master
every 3 s. Here every process closes its tally at each whole second; workers send theirs to the
master, which is the one that knows of all users.
"""

import time
from typing import Any, ClassVar

import gevent
from locust import events
from locust.env import Environment
from locust.event import EventHook
from locust.runners import MasterRunner, WorkerRunner

from users.tally import Tally, add_up

MESSAGE = "second"
PATIENCE_OF_MASTER = 0.3  # seconds for the workers' messages of a second

# Fired where all users are known: with the line of a second, and after the last one.
each_second = EventHook()
ended = EventHook()


class Seconds:
    """The counting of this process."""

    tally: ClassVar[Tally] = Tally()  # of the second under way

    def __init__(self, environment: Environment) -> None:
        self._runner = environment.runner
        self._is_worker = isinstance(self._runner, WorkerRunner)
        self._delay = 0.0
        if isinstance(self._runner, MasterRunner):
            self._delay = PATIENCE_OF_MASTER
            self._runner.register_message(MESSAGE, self._receive)
        self._received: list[dict[str, Any]] = []
        self._cpu_of_workers: dict[str, float] = {}
        self._ended = time.time()
        self._ticking = gevent.spawn(self._tick)

    def count(self, response: Any, exception: object, response_time: float, **_: Any) -> None:
        """Listener for Locust's event request; its time is in ms."""
        self.tally.count(response, exception, response_time / 1000)

    def end(self) -> None:
        """Pass on what the second under way has; a worker's when its users have stopped."""
        line = self.tally.as_line()
        Seconds.tally = Tally()
        cpu_seconds = time.process_time()
        if self._is_worker:
            self._runner.send_message(MESSAGE, line | {"cpu_seconds": cpu_seconds})
            return
        if self._received:
            line = add_up([line, *self._received]).as_line()
            self._received = []
        now = time.time() - self._delay
        line |= {
            "time": now,
            "seconds": now - self._ended,
            "users": self._runner.user_count,
            "workers": self._runner.worker_count,
            "cpu_seconds": cpu_seconds + sum(self._cpu_of_workers.values()),
            "worker_cpu_seconds": dict(self._cpu_of_workers),  # by worker, for itself
        }
        self._ended = now
        each_second.fire(line=line)

    def stop(self, environment: Environment, **_: Any) -> None:
        """Listener for Locust's event quitting; pass on what the last users and workers report."""
        if isinstance(self._runner, MasterRunner):
            self._runner.quit()
        else:
            self._runner.stop()
        self._ticking.kill()
        self.end()
        ended.fire(environment=environment)

    def _tick(self) -> None:
        while True:
            # To the next whole second; who wakes a little before one waits for the one after it.
            gevent.sleep(1.5 - (time.time() - self._delay + 0.5) % 1)
            self.end()

    def _receive(self, msg: Any, **_: Any) -> None:
        self._cpu_of_workers[msg.node_id] = msg.data.pop("cpu_seconds")
        self._received.append(msg.data)


@events.init.add_listener
def start(environment: Environment, **_: Any) -> None:
    seconds = Seconds(environment)
    environment.events.request.add_listener(seconds.count)
    if isinstance(environment.runner, WorkerRunner):
        environment.events.test_stop.add_listener(lambda **_: seconds.end())
    else:
        environment.events.quitting.add_listener(seconds.stop)

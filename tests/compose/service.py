"""The stack in containers under load, and what it must answer."""

import itertools
import json
import random
import subprocess
import time
from contextlib import contextmanager
from decimal import Decimal
from threading import Thread

from databases import sql_averages
from drill import in_time
from scheduled_load import Request, run

RATE = 50  # requests/s
LONGEST = 5.0  # seconds that an answer may take
HOT = 3  # locations that are asked for again and again
REPLICAS = ["flask", "flask_replica_1", "flask_replica_2"]


class Service:
    """The running stack, what it must answer, and locations nobody has asked for yet."""

    def __init__(self, project):
        self.project = project
        # Its network has no way out, but this machine has an address in it.
        self.client_environ = {"POSTGRES_HOST": project.address("db", "backnet")}
        self.client_environ |= {"POSTGRES_PORT": "5432", "POSTGRES_DB": "weather"}
        self.client_environ |= {"POSTGRES_USER": "weather", "POSTGRES_PASSWORD": "weather"}
        self.averages = sql_averages(self.client_environ)
        names = random.Random(0).sample(list(self.averages), len(self.averages))
        self.hot, self._fresh = names[:HOT], iter(names[HOT:])
        self._turns = itertools.count()

    def request(self, _number):
        """In turn one for a hot location and one for a fresh one."""
        turn = next(self._turns)
        name = next(self._fresh) if turn % 2 else self.hot[turn // 2 % HOT]
        body = json.dumps({"location": name}).encode()
        return Request("POST", "/query", body, {"Content-Type": "application/json"})

    @contextmanager
    def loaded(self, seconds, truths=None, rate=RATE):
        """Load from outside during these seconds; the list given has all samples at the end.

        ``truths`` gives the averages and records that are right for each location, then; without
        it they are those of the start.
        """
        samples = []
        thread = Thread(
            target=lambda: samples.extend(
                run(self.project.url, self.request, rate, seconds, timeout=2 * LONGEST)
            )
        )
        thread.start()
        try:
            yield samples
        finally:
            thread.join()
        right = truths() if truths else {name: {truth} for name, truth in self.averages.items()}
        for sample in samples:
            assert sample.status in (200, 503), sample
            assert in_time(sample.response_time, LONGEST), sample
            if sample.status == 200:
                assert answer(sample) in right[location(sample)], sample
            else:
                assert sample.headers["Retry-After"], sample

    @contextmanager
    def paused(self, *services):
        """All their processes stand still; gives the seconds since, and until its end."""
        containers = [self.project.inspect(name)["Id"] for name in services]
        begun = time.monotonic()
        subprocess.run(["docker", "pause", *containers], check=True, capture_output=True)
        to_pause = time.monotonic() - begun
        try:
            yield lambda: time.monotonic() - begun + to_pause
        finally:
            subprocess.run(["docker", "unpause", *containers], check=True, capture_output=True)

    def empty_caches(self):
        """FLUSHALL, and new workers in every replica."""
        self.project.exec("redis", "redis-cli", "flushall")
        self.project.compose("kill", "--signal", "HUP", *REPLICAS)

    def memory(self, name):
        """What a container uses, as Docker says it."""
        stats = ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}"]
        container = self.project.inspect(name)["Id"]
        return subprocess.check_output([*stats, container], text=True).split(" / ")[0]

    def last_log_lines(self):
        return self.project.compose("logs", "--tail", "10").stdout


def location(sample):
    return json.loads(sample.request.body)["location"]


def answer(sample):
    """Average and records of an answer."""
    fields = json.loads(sample.body, parse_float=Decimal)
    return fields["average_temperature"], fields["records"]


def failed(samples):
    return [sample for sample in samples if sample.status != 200]

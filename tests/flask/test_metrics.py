"""GET /metrics: what is counted, under which names, and over all workers of a replica."""

import dataclasses
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic

import psutil
import pytest
from flask_servers import REPOSITORY, query, request, serving
from polling import poll
from prometheus_client.parser import text_string_to_metric_families

from weather import metrics
from weather.cache import X_CACHE, Cache
from weather.connect import connect
from weather.factory import create_app
from weather.pool import Pool
from weather.queries import Average
from weather.redis_client import RedisClient, RedisDownError
from weather.waiting import deadline_from_now

NAME = re.compile(r"weather(_[a-z]+)+")
GAUGE_UNITS = ("_connections", "_requests", "_info", "_open")


@pytest.fixture
def make_client(settings):
    """A client of a new application, which counts where all others of this process do."""
    apps = []

    def make(**changes):
        apps.append(create_app(dataclasses.replace(settings, **changes)))
        return apps[-1].test_client()

    yield make
    for app in apps:
        app.extensions["database"].close()


def parse(text):
    """Values by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((name, frozenset(labels.items())), 0)


class Counted:
    """What has been counted in this process since this was made."""

    def __init__(self):
        self._before = self._now()

    def _now(self):
        return parse(metrics.exposition().decode())

    def __call__(self, name, **labels):
        return value(self._now(), name, **labels) - value(self._before, name, **labels)


def gauge(name):
    return value(parse(metrics.exposition().decode()), name)


def test_every_tier_is_counted(make_client, postgres, valkey):
    first, second = make_client(), make_client()
    uncached = make_client(cache=False)
    counted = Counted()
    for client in (first, first, first, second, uncached):
        assert client.post("/query", data={"location": "Portland"}).status_code == 200
    expected = {"computed": 1, "memory": 2, "redis": 1, "uncached": 1, "stale": 0}
    assert {tier: counted("weather_answers_total", tier=tier) for tier in X_CACHE} == expected
    took = "weather_http_request_duration_seconds_count"
    assert {tier: counted(took, route="/query", tier=tier) for tier in X_CACHE} == expected


def test_requests_are_counted_by_route_and_status(make_client, postgres, valkey):
    client = make_client()
    counted = Counted()
    requests = partial(counted, "weather_http_requests_total")
    client.get("/?q=port")
    client.post("/query", data={})
    for path in ("/nowhere", "/nowhere/else"):
        client.get(path)
    client.get("/query")
    client.get("/static/style.css?v=1").close()
    client.get("/metrics")
    assert requests(route="/", status="200") == 1
    assert requests(route="/query", status="400") == 1
    assert requests(route="unknown", status="404") == 2
    assert requests(route="unknown", status="405") == 1
    assert requests(route="/static/<path:filename>", status="200") == 1
    assert requests(route="/metrics", status="200") == 1
    took = "weather_http_request_duration_seconds_count"
    assert counted(took, route="/query", tier="none") == 1


def test_refusals_are_counted_by_reason(make_client, valkey):
    client = make_client()  # without PostgreSQL
    counted = Counted()
    refused = partial(counted, "weather_refused_total")
    late = {"X-Request-Start": str(time.time() - 3)}
    for headers in ({}, {}, late):
        assert client.post("/query", data={"location": "A"}, headers=headers).status_code == 503
    reasons = {reason: refused(reason=reason) for reason in metrics.REASONS}
    assert reasons == {"database": 2, "time": 1, "pool": 0}


def test_who_joins_a_flight_is_counted(settings, valkey):
    cache = Cache(settings)
    may_answer = threading.Event()
    counted = Counted()

    def compute(location, deadline):
        may_answer.wait(10)
        return Average(12.34, 750)

    with ThreadPoolExecutor(3) as threads:
        answers = [
            threads.submit(cache.fetch, "Portland", monotonic() + 10, compute) for _ in range(3)
        ]
        poll(lambda: counted("weather_flights_joined_total") == 2)
        may_answer.set()
        assert {answer.result()[1] for answer in answers} == {"computed"}


def test_the_pool_shows_its_state(postgres, settings):
    counted = Counted()
    pool = Pool(partial(connect, settings), minconn=0, maxconn=1)

    def state():
        names = ("connections", "in_use_connections", "waiting_requests", "max_connections")
        return [gauge(f"weather_pool_{name}") for name in names]

    assert state()[3] == 1
    connection = pool.acquire(monotonic() + 2)
    assert state() == [1, 1, 0, 1]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.acquire, monotonic() + 10)
        poll(lambda: state() == [1, 1, 1, 1])
        pool.release(connection)
        assert waiting.result() is connection
    assert state() == [1, 1, 0, 1]
    pool.release(connection)
    assert state() == [1, 0, 0, 1]
    pool.close_idle()
    assert state() == [0, 0, 0, 1]
    assert counted("weather_connections_opened_total") == 1


def test_a_read_tells_how_long_it_waited_for_its_connection(make_client, postgres):
    client = make_client(cache=False)
    counted = Counted()
    client.post("/query", data={"location": "Portland"})
    assert counted("weather_connection_wait_seconds_count") == 1


def test_redis_errors_and_the_breaker(settings, valkey, monkeypatch):
    monkeypatch.setattr("weather.redis_client.PAUSE", 0)  # seconds
    redis = RedisClient(settings)
    counted = Counted()
    redis.execute("PING", deadline=deadline_from_now())
    valkey.kill()
    with pytest.raises(RedisDownError):
        redis.execute("PING", deadline=deadline_from_now())
    assert counted("weather_redis_errors_total") == 1
    assert gauge("weather_redis_breaker_open") == 1
    valkey.start()
    redis.execute("PING", deadline=deadline_from_now())
    assert counted("weather_redis_errors_total") == 1
    assert gauge("weather_redis_breaker_open") == 0


def test_names_follow_prometheus_rules(make_client):
    make_client()
    families = list(text_string_to_metric_families(metrics.exposition().decode()))
    ours = [family for family in families if family.name.startswith("weather")]
    assert len(ours) >= 15
    for family in ours:
        assert NAME.fullmatch(family.name), family.name
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        elif family.type == "gauge":
            assert family.name.endswith(GAUGE_UNITS)
        else:
            assert family.type == "counter"
            assert {sample.name for sample in family.samples} <= {f"{family.name}_total"}


def test_the_readme_names_them_all(make_client):
    make_client()
    families = text_string_to_metric_families(metrics.exposition().decode())
    named = {family.name + "_total" * (family.type == "counter") for family in families}
    section = (REPOSITORY / "flask" / "README.md").read_text().partition("\n## Metrics\n")[2]
    table = section.partition("\n## ")[0]
    ours = {name for name in named if name.startswith("weather")}
    assert set(re.findall(r"`(weather_\w+)`", table)) == ours


def test_versions_and_settings_are_labels_without_secrets(make_client):
    client = make_client(pool_maxconn=7, redis_password="redis-word")
    response = client.get("/metrics")
    text = response.get_data(as_text=True)
    assert response.content_type.startswith("text/plain; version=")
    [build] = re.findall(r"^weather_build_info\{(.*)\} 1.0$", text, re.M)
    assert 'python="3.' in build
    assert 'flask="3.' in build
    assert re.search(
        r'^weather_settings_info\{.*hostname="flask".*pool_maxconn="7".*\} 1.0$', text, re.M
    )
    assert not [word for word in ("secret-word", "redis-word", "postgres=") if word in text]


def folders(process):
    """The folders in which the workers keep their metrics."""
    return {
        Path(one.path).parent
        for worker in process.children()
        for one in worker.memory_maps()
        if "weather-metrics-" in one.path
    }


def cpu_seconds(master):
    """Of gunicorn and its workers, those that ended included."""
    times = master.cpu_times()
    running = [one for child in master.children() for one in child.cpu_times()[:2]]
    return sum(times[:4]) + sum(running)


def test_each_worker_shows_the_metrics_of_all(environ, postgres, valkey, tmp_path):
    environ |= {"WEB_CONCURRENCY": "2", "FLASK_REPLICAS": "1", "POOL_MINCONN": "2"}

    def samples():
        return parse(request(port, "GET", "/metrics")[1].decode())

    def answers():
        found = samples()
        return sum(value(found, "weather_answers_total", tier=tier) for tier in X_CACHE)

    with serving(environ, tmp_path) as port:
        programs = psutil.Process().children(recursive=True)
        [master] = [
            one for one in programs if f"127.0.0.1:{port}" in one.cmdline() and one.children()
        ]
        poll(lambda: value(samples(), "weather_pool_connections") == 2)
        assert value(samples(), "weather_pool_max_connections") == 14
        for _ in range(30):
            assert query(port)[0] == 200
        assert answers() == 30
        before = cpu_seconds(master)
        shown = value(samples(), "process_cpu_seconds_total")
        assert 0 < before - 0.02 <= shown <= cpu_seconds(master) + 0.02
        [folder] = folders(master)
        victim = master.children()[0]
        victim.send_signal(signal.SIGKILL)
        # one for the check at the start, one of each worker, and one of the next
        poll(lambda: value(samples(), "weather_connections_opened_total") == 4)
        assert value(samples(), "weather_pool_connections") == 2
        assert value(samples(), "weather_pool_max_connections") == 14
        assert answers() == 30
    assert not folder.exists()

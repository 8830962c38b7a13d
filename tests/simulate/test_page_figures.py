"""Figures of the tab "Stack" and of Locust's metrics, from numbers that are known."""

import random
from bisect import bisect_right

import pytest
from prometheus_client.parser import text_string_to_metric_families

from page.environment import ConfigError
from page.load import BUCKETS, Load
from page.replicas import Replica, Sample, quantile
from page.settings import Settings
from page.view import view
from users.tally import Tally, Times

INFINITY = "+Inf"


def sample(moment, **values):
    """Answers by tier at a moment."""
    return Sample(
        moment,
        {
            ("weather_answers_total", frozenset({("tier", tier)})): value
            for tier, value in values.items()
        },
    )


def test_a_rate_is_the_growth_between_two_looks():
    replica = Replica("flask", sample(12.0, memory=130, redis=20), sample(10.0, memory=100))
    assert replica.by("weather_answers_total", "tier") == {"memory": 15.0, "redis": 10.0}
    assert replica.rate("weather_answers_total") == 25.0
    assert replica.rate("weather_answers_total", tier="redis") == 10.0


def test_a_counter_that_fell_began_anew():
    replica = Replica("flask", sample(12.0, memory=30), sample(10.0, memory=100))
    assert replica.rate("weather_answers_total") == 15.0


@pytest.mark.parametrize(
    ("now", "before"),
    [
        (sample(12.0, memory=1), None),
        (sample(12.0, memory=1), Sample(10.0, {}, problem="no answer")),
        (Sample(12.0, {}, problem="no answer"), sample(10.0, memory=1)),
    ],
)
def test_without_two_answers_there_is_no_rate(now, before):
    assert Replica("flask", now, before).rate("weather_answers_total") is None


def test_answers_of_the_edge_cache_have_their_share():
    replica = Replica("flask", sample(12.0, memory=130), sample(10.0, memory=100))
    tiers = view([replica], 45.0).tiers
    assert [tier.share for tier in tiers] == [0.75, 0.25, 0, 0, 0, 0]
    assert [tier.share for tier in view([replica], 0.0).tiers] == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ({"0.1": 100, "0.2": 100, INFINITY: 100}, 0.095),
        ({"0.1": 90, "0.2": 100, INFINITY: 100}, 0.15),  # the middle of the second bucket
        ({"0.1": 0, "0.2": 20, INFINITY: 20}, 0.195),
        ({"0.1": 90, "0.2": 90, INFINITY: 100}, 0.2),  # above the last bound
        ({"0.1": 0, INFINITY: 0}, None),
        ({}, None),
    ],
)
def test_a_percentile_is_interpolated_in_its_bucket(buckets, expected):
    assert quantile(0.95, buckets) == (None if expected is None else pytest.approx(expected))


def test_times_are_counted_into_buckets():
    rng = random.Random(1)
    seconds = sorted(rng.lognormvariate(-4, 2) for _ in range(2000))
    times = Times()
    for value in seconds:
        times.record(value)
    counts, total, summed = times.until(BUCKETS)
    assert total == len(seconds)
    assert summed == pytest.approx(sum(seconds), rel=0.01)
    for bound, count in zip(BUCKETS, counts, strict=True):
        assert bisect_right(seconds, bound / 1.01) <= count <= bisect_right(seconds, bound * 1.01)


class Answer:
    status_code = 200
    headers = {"X-Edge-Cache": "hit"}  # noqa: RUF012 - never changed


def test_seconds_add_up_to_counters_that_never_fall():
    load = Load()
    for number in (1, 2):
        tally = Tally()
        tally.count(Answer, None, 0.02)
        tally.count(Answer, None, 3.0)
        tally.count(None, OSError("gone"), 1.0)
        load.add(
            tally.as_line()
            | {"users": 7, "workers": 2, "seconds": 2.0, "cpu_seconds": float(number)}
        )
    assert (load.users, load.cpu, load.edge) == (7, 0.5, 1.0)
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(load.exposition().decode())
        for sample in family.samples
    }
    assert samples["locust_requests_total", "good"] == 2
    assert samples["locust_requests_total", "late"] == 2
    assert samples["locust_requests_total", "network"] == 2
    assert samples["locust_requests_total", "pool"] == 0
    assert samples["locust_response_time_seconds_bucket", "0.025"] == 2
    assert samples["locust_response_time_seconds_bucket", "+Inf"] == 4
    assert samples[("locust_response_time_seconds_sum",)] == pytest.approx(6.04, rel=0.01)


OPEN = {"LOCUST_BIND_ADDRESS": "0.0.0.0"}


@pytest.mark.parametrize(
    ("environ", "web_host"),
    [
        ({}, "127.0.0.1"),
        ({}, "localhost"),
        ({}, "::1"),
        ({"LOCUST_BIND_ADDRESS": "127.0.0.1"}, "0.0.0.0"),  # a container
    ],
)
def test_on_loopback_there_is_no_login(environ, web_host):
    settings = Settings.from_env(environ, web_host)
    assert (settings.user, settings.password, settings.flask_urls) == ("locust", None, ())


@pytest.mark.parametrize(("environ", "web_host"), [({}, ""), ({}, "10.0.0.1"), (OPEN, "127.0.0.1")])
def test_open_to_others_it_needs_a_password(environ, web_host, tmp_path):
    with pytest.raises(ConfigError, match="LOCUST_PASSWORD and LOCUST_PASSWORD_FILE: neither"):
        Settings.from_env(environ, web_host)
    (tmp_path / "password").write_text("secret\n")
    named = {"LOCUST_PASSWORD_FILE": str(tmp_path / "password"), "LOCUST_USER": "me"}
    settings = Settings.from_env(environ | named, web_host)
    assert (settings.user, settings.password) == ("me", "secret")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LOCUST_BIND_ADDRESS", "everywhere", "an IP address"),
        ("FLASK_URLS", "flask:5000", "URLs such as http://127.0.0.1:5000, with commas between"),
        ("FLASK_URLS", "http://", "URLs such as http://127.0.0.1:5000, with commas between"),
    ],
)
def test_a_bad_value_is_one_line(name, value, expected):
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({name: value, "LOCUST_PASSWORD": "x"}, "127.0.0.1")
    assert str(caught.value) == f"{name} is {value!r}: expected {expected}"


def test_urls_of_replicas():
    settings = Settings.from_env({"FLASK_URLS": "http://a:5000,http://b:5000/"}, "127.0.0.1")
    assert settings.flask_urls == ("http://a:5000", "http://b:5000")

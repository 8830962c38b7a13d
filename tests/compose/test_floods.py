"""Containers: many users at once, while the machine is busy, a part stands still, rows come."""

import faults
import pytest
from drill import Row, all_answered, in_time
from floods import ARRIVAL, burst, capacity, flood_maker, held, share, thinking_users
from growth import committed_truths
from scheduled_load import percentile
from service import REPLICAS, failed

from users.tally import PATIENCE

USERS = 1000
STOPPED = 1.5  # seconds
P99_LIMIT = 2.0  # seconds
CLOSED, OPEN = 64, 4000  # connections
HELD = 10_000
HELD_P99 = 0.05  # seconds
OVERLOADS = (1.5, 2, 5)  # times the capacity
REFUSAL = 2.2  # seconds until the last refusal; 10 and more where nginx accepts one at a time


@pytest.fixture
def flood(started, tmp_path):
    """Makes a generator of heavy load; takes its seconds and the options of flood.py."""
    return flood_maker(started.project.url, started.averages, tmp_path)


@pytest.fixture
def direct_flood(started, tmp_path):
    """The same, past Docker's proxy of the published port: thousands of connections end it."""
    address = started.project.address("nginx", "frontnet")
    return flood_maker(f"http://{address}:8080", started.averages, tmp_path)


@pytest.fixture(scope="module")
def edge_cache(started):
    """nginx anew, with its own cache."""
    started.project.env["EDGE_CACHE"] = "on"
    started.project.compose("up", "--detach", "--wait", "--no-deps", "nginx")
    yield
    del started.project.env["EDGE_CACHE"]
    started.project.compose("up", "--detach", "--wait", "--no-deps", "nginx")


def row_of(name, samples):
    """The line of a drill whose load was light; it has checked that no answer is wrong."""
    p99 = percentile([sample.response_time for sample in samples], 99)
    return Row(name, len(samples), len(failed(samples)), 0, p99, 0.0)


def test_a_busy_machine(started, flood, rows, lasting):
    started.empty_caches()
    with thinking_users(flood, USERS, lasting(4, 20), hot=0) as load:
        faults.wait(ARRIVAL)
        faults.squeeze(lasting(1, 5), lasting(1, 3))
    rows.append(load.row(f"containers: {USERS} users, then 2 and then 6 busy processes"))
    assert all_answered(load.failed, load.answers)
    assert in_time(load.p99, P99_LIMIT)


@pytest.mark.long
@pytest.mark.parametrize("services", [REPLICAS, ["db"]], ids=["replicas", "PostgreSQL"])
def test_a_pause(started, flood, rows, services):
    started.empty_caches()
    with thinking_users(flood, USERS, 10, hot=0) as load:
        faults.wait(ARRIVAL)
        with started.paused(*services) as since:
            faults.wait(STOPPED - since())
    rows.append(load.row(f"containers: {USERS} users, {', '.join(services)} paused, {STOPPED} s"))
    assert all_answered(load.failed, load.answers)
    assert in_time(load.p99, P99_LIMIT)


@pytest.mark.long
def test_a_thousand_at_once(flood, rows):
    load = burst(flood, 1000, 0.1, hot=0)
    rows.append(load.row("containers: 1,000 connections ask within 100 ms"))
    assert all_answered(load.failed, load.answers)


@pytest.mark.long
def test_ten_thousand_held(started, rows):
    # Not the published port: Docker's proxy needs two files for each connection.
    address = started.project.address("nginx", "frontnet"), 8080
    with held(address, HELD), started.loaded(20, rate=100) as samples:
        memory = [started.memory(name) for name in ["nginx", *REPLICAS]]
    name = f"containers: {HELD:,} connections held, memory of nginx and replicas {memory}"
    rows.append(row := row_of(name, samples))
    assert not failed(samples)
    assert in_time(row.p99, HELD_P99)


@pytest.mark.long
@pytest.mark.parametrize("factor", OVERLOADS)
def test_overload(direct_flood, rows, factor):
    """As tests/faults/test_overload.py, with warm caches."""
    flood = direct_flood
    before = flood(10, connections=CLOSED, hot=0.5).run()
    rate = factor * capacity(before)
    overload = flood(30, connections=OPEN, rate=rate, hot=0.5, patience=PATIENCE).run()
    after = flood(10, connections=CLOSED, hot=0.5).run()
    got = share(overload, sum(overload.goodput()) / overload.seconds, before, after)
    refused = overload.slowest_refusal
    name = f"containers: {factor} x capacity: {got}, refused in {refused * 1000:.0f} ms"
    rows.append(overload.row(name))
    # 0.97, 0.85 and 0.55: nginx takes 0.4 cores for 18,000 refusals/s.
    assert got.per_core >= 0.4
    assert in_time(refused, REFUSAL)


@pytest.mark.long
@pytest.mark.parametrize(("connections", "seconds"), [(1000, 0.1), (10_000, 1)])
def test_all_at_once_with_the_edge_cache(direct_flood, rows, edge_cache, connections, seconds):
    direct_flood(1, connections=32, hot=1).run()  # the edge cache fills
    load = burst(direct_flood, connections, seconds, hot=1)
    rows.append(load.row(f"containers: {connections:,} connections at once, edge cache"))
    assert all_answered(load.failed, load.answers)


def test_a_table_grows_while_it_is_served(started, rows, lasting):
    """The last one: what is cached stays right for as long as it may be kept, and SQL says more."""
    before = sum(records for _, records in started.averages.values())
    after = before + lasting(100_000, 5_000_000)

    def truths():
        return committed_truths(started.client_environ, before)

    with started.loaded(lasting(6, 45), truths) as samples:
        started.project.env["TOTAL_RECORDS"] = str(after)  # also of the next `up`
        started.project.compose("run", "--rm", "--no-deps", "data-populator")
    rows.append(row_of(f"containers: {before:,} rows become {after:,}", samples))
    assert not failed(samples), started.last_log_lines()

"""The pool against a real server: bounded waits, no leaks, broken connections, outages."""

import dataclasses
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic

import psycopg2
import pytest
from databases import frozen_server, shut_down
from flask_servers import DATA, exact_average
from polling import poll
from processes import free_ports

from weather import queries
from weather.connect import connect
from weather.connection_budget import budget_problem
from weather.pool import Database, Pool
from weather.waiting import Breaker, UnavailableError

APPLICATION = "flask flask"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


@pytest.fixture
def pool(settings):
    pool = Pool(partial(connect, settings), minconn=1, maxconn=3)
    yield pool
    assert pool.in_use == 0
    pool.close_idle()


@contextmanager
def database_of(settings, **changes):
    database = Database(dataclasses.replace(settings, **changes))
    try:
        yield database
    finally:
        database.close()


def sessions(postgres):
    return postgres.value(SESSIONS, APPLICATION)


def no_sessions(postgres):
    poll(lambda: sessions(postgres) == 0)


def average(name):
    return lambda connection: queries.average(connection, name, "test")


def sleep(seconds):
    return lambda connection: connection.run("SELECT pg_sleep(%s)", (seconds,))


def deadline(seconds=2.0):
    return monotonic() + seconds


def test_averages(postgres, settings):
    with database_of(settings) as database:
        for name, values in DATA.items():
            assert database.read(average(name), deadline()) == (exact_average(name), len(values))
        assert database.read(average("Nowhere"), deadline()) == (None, 0)
        assert database.read(average("' OR 1=1--"), deadline()) == (None, 0)


def test_locations(postgres, settings):
    with database_of(settings) as database:
        assert dict(database.read(queries.locations, deadline())) == {
            name: len(values) for name, values in DATA.items()
        }


def test_the_statement_is_prepared_once_per_connection(postgres, pool):
    connection = pool.acquire(deadline())
    for _ in range(3):
        queries.average(connection, "Portland", "test")
    cursor = connection.run("SELECT count(*) FROM pg_prepared_statements")
    assert cursor.fetchone() == (1,)
    pool.release(connection)


def test_the_wait_for_a_connection_is_bounded(postgres, pool):
    taken = [pool.acquire(deadline()) for _ in range(3)]
    with pytest.raises(UnavailableError, match="all 3 connections"):
        pool.acquire(deadline(0.05))
    for connection in taken:
        pool.release(connection)


def test_a_waiting_thread_gets_the_connection_that_comes_back(postgres, pool):
    taken = [pool.acquire(deadline()) for _ in range(3)]
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pool.acquire, deadline())
        poll(lambda: pool.waiting == 1)
        pool.release(taken[0])
        assert waiting.result(1) is taken[0]
    for connection in taken:
        pool.release(connection)


def test_the_request_with_the_least_time_left_is_next(postgres, pool):
    """Whoever came first: after a stall all are in time."""
    taken = [pool.acquire(deadline()) for _ in range(3)]
    order = []

    def take(seconds):
        connection = pool.acquire(deadline(seconds))
        order.append(seconds)
        pool.release(connection)

    with ThreadPoolExecutor() as threads:
        for number, seconds in enumerate((30, 10, 20), 1):
            threads.submit(take, seconds)
            poll(lambda number=number: pool.waiting == number)
        pool.release(taken.pop())
    assert order == [10, 20, 30]
    for connection in taken:
        pool.release(connection)


def test_never_more_than_maxconn_under_load(postgres, settings):
    no_sessions(postgres)
    most = 0
    with database_of(settings, pool_minconn=1, pool_maxconn=4) as database:
        names = list(DATA) * 10
        with ThreadPoolExecutor(30) as threads:
            results = [threads.submit(database.read, average(name), deadline(10)) for name in names]
            while wait(results, timeout=0.001).not_done:
                most = max(most, sessions(postgres))
        assert all(
            result.result().records == len(DATA[name])
            for name, result in zip(names, results, strict=True)
        )
        assert 1 <= most <= 4


def test_connections_come_back_after_errors(postgres, settings):
    def broken_query(connection):
        connection.run("SELECT no_such_column")

    def broken_code(connection):
        raise KeyError

    with database_of(settings, pool_minconn=1, pool_maxconn=1) as database:
        for _ in range(3):
            with pytest.raises(UnavailableError, match="no_such_column"):
                database.read(broken_query, deadline())
            with pytest.raises(KeyError):
                database.read(broken_code, deadline())
        assert database.read(average("Portland"), deadline()).records == 1


def test_idle_connections_above_minconn_are_closed_later(postgres, pool):
    taken = [pool.acquire(deadline()) for _ in range(3)]
    for connection in taken:
        pool.release(connection)
    poll(lambda: sessions(postgres) == 3)
    for connection in taken:
        connection.idle_since -= 61
    for _ in range(3):
        pool.release(pool.acquire(deadline()))
    assert pool.size == 1


def test_a_terminated_session_costs_no_request(postgres, settings):
    with database_of(settings, pool_minconn=3, pool_maxconn=3) as database:
        database.warm_up()
        poll(lambda: sessions(postgres) == 3)
        postgres.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            APPLICATION,
        )
        no_sessions(postgres)
        for _ in range(6):
            assert database.read(average("Portland"), deadline()).records == 1


def test_a_session_terminated_within_a_query_costs_no_request(postgres, settings):
    def query(connection):
        if not killed:
            killed.append(connection.info.backend_pid)
            postgres.rows("SELECT pg_terminate_backend(%s, 5000)", killed[0])
        return queries.average(connection, "Portland", "test")

    killed = []
    with database_of(settings) as database:
        assert database.read(query, deadline()).records == 1


def test_heals_after_a_restart(postgres_server, postgres, settings):
    with database_of(settings) as database:
        assert database.read(average("Portland"), deadline()).records == 1
        shut_down(postgres_server, signal.SIGQUIT)
        with pytest.raises(UnavailableError, match="cannot connect"):
            database.read(average("Portland"), deadline())
        postgres_server.start()
        poll(lambda: _succeeds(database), seconds=2)


def _succeeds(database):
    try:
        return database.read(average("Portland"), deadline()).records == 1
    except UnavailableError:
        return False


def test_failing_connects_do_not_stampede(settings):
    attempts = []

    def refuse(_deadline):
        attempts.append(1)
        raise psycopg2.OperationalError("refused")

    pool = Pool(refuse, minconn=1, maxconn=5)
    start = monotonic()
    for _ in range(1000):
        with pytest.raises(UnavailableError):
            pool.acquire(deadline())
    assert len(attempts) <= 2 + (monotonic() - start) / 0.5
    assert pool.size == 0


def test_a_pool_that_cannot_grow_shares_what_it_has(postgres, settings):
    attempts = []

    def only_one(limit):
        attempts.append(1)
        if len(attempts) > 1:
            raise psycopg2.OperationalError("too many clients")
        return connect(settings, limit)

    pool = Pool(only_one, minconn=1, maxconn=5)
    first = pool.acquire(deadline())
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(pool.acquire, deadline())
        poll(lambda: len(attempts) == 2 and pool.waiting == 1)
        pool.release(first)
        assert waiting.result(1) is first
    pool.release(first)
    pool.close_idle()


def test_other_clients_hold_every_connection(postgres, settings):
    held = []
    try:
        with suppress(psycopg2.OperationalError):
            while True:
                held.append(postgres.connect())
        with (
            database_of(settings) as database,
            pytest.raises(UnavailableError, match="too many clients"),
        ):
            database.read(average("Portland"), deadline())
    finally:
        for connection in held:
            connection.close()


def test_a_slow_query_ends_in_time_and_keeps_its_connection(postgres, settings):
    with database_of(settings, pool_minconn=1, pool_maxconn=1) as database:
        database.warm_up()
        with pytest.raises(UnavailableError, match="statement timeout"):
            database.read(sleep(10), deadline())
        assert sessions(postgres) == 1
        assert database.read(average("Portland"), deadline()).records == 1


def test_who_gives_up_leaves_a_connection_that_is_used_again(postgres, settings):
    """Closed at once it would leave a session that works on, beside a new one."""

    def pid(connection):
        return connection.info.backend_pid

    with database_of(settings, pool_minconn=1, pool_maxconn=1) as database:
        first = database.read(pid, deadline())
        with pytest.raises(UnavailableError, match="did not answer in time"):
            database.read(sleep(0.5), deadline(0.05))
        assert database.read(pid, deadline()) == first
        assert database.read(average("Portland"), deadline()).records == 1


def test_a_frozen_server_is_given_up(postgres_server, postgres, settings):
    with database_of(settings) as database:
        database.warm_up()
        with frozen_server(postgres_server), pytest.raises(UnavailableError, match="in time"):
            database.read(average("Portland"), deadline())
        poll(lambda: _succeeds(database), seconds=2)
        # The query that nobody waited for comes back last; a closed pool would keep its session.
        poll(lambda: not database._source.in_use)


def test_a_server_that_accepts_and_says_nothing_is_given_up(settings):
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as mute:
        where = dataclasses.replace(settings.postgres, port=mute.getsockname()[1])
        silent = dataclasses.replace(settings, postgres=where)
        for use_pooling in (True, False):
            database = Database(dataclasses.replace(silent, use_pooling=use_pooling))
            with pytest.raises(UnavailableError, match="did not answer in time"):
                database.read(average("Portland"), deadline())


def test_without_pooling_each_read_has_its_own_connection(postgres, settings):
    no_sessions(postgres)
    pids = set()

    def query(connection):
        pids.add(connection.info.backend_pid)
        return queries.average(connection, "Portland", "test")

    with database_of(settings, use_pooling=False) as database:
        database.warm_up()
        for _ in range(3):
            assert database.read(query, deadline()).records == 1
    assert len(pids) == 3
    no_sessions(postgres)


def test_the_pool_is_shared_out_over_the_workers(postgres, settings):
    no_sessions(postgres)
    with database_of(settings, pool_minconn=5, pool_maxconn=15, web_concurrency=2) as database:
        database.warm_up()
        assert sessions(postgres) == 2
        with ThreadPoolExecutor(14) as threads:
            list(threads.map(lambda query: database.read(query, deadline()), [sleep(0.05)] * 14))
        assert sessions(postgres) == 7


def test_budget(postgres, settings):
    # The server allows 40 - 3 for superusers - 5 for others = 32.
    assert budget_problem(dataclasses.replace(settings, flask_replicas=2, pool_maxconn=16)) is None
    problem = budget_problem(dataclasses.replace(settings, flask_replicas=3, pool_maxconn=11))
    assert "FLASK_REPLICAS 3 x POOL_MAXCONN 11 = 33 connections" in problem
    assert "PostgreSQL has 32" in problem
    assert "POOL_MAXCONN of at most 10" in problem
    assert "max_connections of at least 41" in problem
    assert "\n" not in problem
    too_many = dataclasses.replace(settings, pool_maxconn=1000, use_pooling=False)
    assert budget_problem(too_many) is None


def test_budget_without_a_server(settings):
    with pytest.raises(UnavailableError):
        budget_problem(settings)


def test_breaker_lets_one_caller_probe():
    breaker = Breaker(pause=0.05)
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    time.sleep(0.06)
    barrier = threading.Barrier(20)

    def ask():
        barrier.wait()
        return breaker.allows()

    with ThreadPoolExecutor(20) as threads:
        assert sum(threads.map(lambda _: ask(), range(20))) == 1
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()

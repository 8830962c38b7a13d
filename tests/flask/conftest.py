"""A real PostgreSQL and a real Valkey with a few rows, and the application's modules."""

from contextlib import closing

import databases
import pytest
from flask_servers import DATA, RedisServer

from weather.redis_client import Connection
from weather.settings import Settings


@pytest.fixture(scope="session")
def postgres_server():
    with databases.postgres_server(max_connections=40, fsync="off") as server:
        yield server


@pytest.fixture(scope="session")
def weather(postgres_server):
    """A database with the rows of DATA in tables as data-populator makes them."""
    database = databases.Databases(postgres_server).make()
    with closing(database.connect()) as connection:
        databases.create_schema(connection)
    rows = [(name, value) for name, values in DATA.items() for value in values]
    for number, (name, value) in enumerate(rows):
        database.execute(
            "INSERT INTO weather_data VALUES (%s, %s, %s, 50, 5, now())", number, name, value
        )
    database.execute(
        "INSERT INTO weather_locations"
        " SELECT location, count(*), sum(temperature) FROM weather_data GROUP BY location"
    )
    return database


@pytest.fixture
def postgres(postgres_server, weather):
    """The database; its server is started again if the test before stopped it."""
    weather.disconnect()
    if not postgres_server.server.running:
        postgres_server.start()
    return weather


@pytest.fixture(scope="session")
def redis_server():
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture
def valkey(redis_server):
    """The server, empty; started again if the test before stopped it."""
    if redis_server.process.poll() is not None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture(autouse=True)
def redis_connections(monkeypatch):
    """The ports that the application connected to; it keeps connections open, tests must not."""
    attempts, opened = [], []
    connect = Connection.connect

    def connect_and_note(connection):
        attempts.append(connection.port)
        opened.append(connection)
        connect(connection)

    monkeypatch.setattr(Connection, "connect", connect_and_note)
    yield attempts
    for connection in opened:
        connection.disconnect()


@pytest.fixture
def environ(request):
    """Variables that lead to the servers of these tests, as far as the test uses them."""
    variables = {"HOSTNAME": "flask", "REDIS_HOST": "127.0.0.1"}
    if "postgres" in request.fixturenames:
        variables |= request.getfixturevalue("postgres").environ
    else:
        variables |= {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": "1"}
        variables["POSTGRES_PASSWORD"] = "secret-word"
    if "valkey" in request.fixturenames:
        variables["REDIS_PORT"] = str(request.getfixturevalue("valkey").port)
    else:
        variables["CACHE"] = "false"
    return variables


@pytest.fixture
def settings(environ):
    return Settings.from_env(environ)

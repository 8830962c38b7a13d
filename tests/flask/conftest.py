"""A real PostgreSQL and a real Valkey with a few rows, and the application's modules."""

import pytest
from flask_servers import DATA, PostgresServer, RedisServer, answers
from redis import Redis

from weather.settings import Settings


@pytest.fixture(scope="session")
def postgres_server():
    server = PostgresServer()
    try:
        load(server)
        yield server
    finally:
        server.remove()


def load(server):
    """Make the tables as data-populator does, with the rows of DATA."""
    connection = server.connect("postgres")
    connection.cursor().execute("CREATE DATABASE weather")
    connection.close()
    server.sql(
        'CREATE TABLE weather_data (id integer PRIMARY KEY, location text COLLATE "C" NOT NULL,'
        " temperature double precision NOT NULL);"
        " CREATE INDEX weather_data_location_temperature ON weather_data (location)"
        " INCLUDE (temperature);"
        ' CREATE TABLE weather_locations (location text COLLATE "C" PRIMARY KEY,'
        " records integer NOT NULL, temperature_sum numeric NOT NULL)"
    )
    rows = [(name, value) for name, values in DATA.items() for value in values]
    for number, (name, value) in enumerate(rows):
        server.sql("INSERT INTO weather_data VALUES (%s, %s, %s)", number, name, value)
    server.sql(
        "INSERT INTO weather_locations"
        " SELECT location, count(*), sum(temperature) FROM weather_data GROUP BY location"
    )


@pytest.fixture
def postgres(postgres_server):
    """The server; started again if the test before stopped it."""
    if not answers(postgres_server.port):
        postgres_server.start()
    return postgres_server


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
def _redis_connections_are_closed(monkeypatch):
    """The application keeps them as long as its process lives, tests must not."""
    opened = []

    def connect(**options):
        opened.append(Redis(**options))
        return opened[-1]

    monkeypatch.setattr("weather.redis_client.redis.Redis", connect)
    yield
    for client in opened:
        client.close()


@pytest.fixture
def environ(request):
    """Variables that lead to the servers of these tests, as far as the test uses them."""
    variables = {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PASSWORD": "secret-word"}
    variables |= {"HOSTNAME": "flask", "REDIS_HOST": "127.0.0.1"}
    if "postgres" in request.fixturenames:
        variables["POSTGRES_PORT"] = str(request.getfixturevalue("postgres").port)
    else:
        variables["POSTGRES_PORT"] = "1"
    if "valkey" in request.fixturenames:
        variables["REDIS_PORT"] = str(request.getfixturevalue("valkey").port)
    else:
        variables["CACHE"] = "false"
    return variables


@pytest.fixture
def settings(environ):
    return Settings.from_env(environ)

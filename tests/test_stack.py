"""The whole local stack, as its users and their scripts meet it: nginx, replicas, caches, data."""

import collections
import json
import os
import random
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg2
import pytest

QUERY = Path(__file__).parents[1] / "data-query" / "query.py"
REPLICAS = {"flask", "flask_replica_1", "flask_replica_2"}


class Answer:
    """Status, headers and text of an HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self):
        assert self.headers.get_content_type() == "application/json", self.text
        return json.loads(self.text)


def request(stack, path, data=None, method=None, **headers):
    """Send a request through nginx; header names with _ for -."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    message = urllib.request.Request(stack.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(message, timeout=10) as response:
            return Answer(response)
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error)


def ask(stack, location, **headers):
    """POST /query as a form, for JSON unless told otherwise."""
    body = urllib.parse.urlencode({"location": location}).encode()
    return request(stack, "/query", body, **({"Accept": "application/json"} | headers))


@pytest.fixture(scope="module")
def averages(stack):
    """Every location's average and number of records, by SQL over all rows."""
    environ = stack.client_environ
    with closing(
        psycopg2.connect(
            host=environ["POSTGRES_HOST"],
            port=environ["POSTGRES_PORT"],
            dbname=environ["POSTGRES_DB"],
            user=environ["POSTGRES_USER"],
            password=environ["POSTGRES_PASSWORD"],
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT location, round(avg(temperature::numeric), 2), count(*)"
            " FROM weather_data GROUP BY 1"
        )
        return {location: (average, records) for location, average, records in cursor}


def test_200_random_locations_have_the_average_that_sql_says(stack, averages):
    for location in random.Random(1).sample(sorted(averages), 200):
        answer = ask(stack, location).json
        average, records = averages[location]
        assert answer["location"] == location
        assert Decimal(str(answer["average_temperature"])) == average
        assert answer["records"] == records


def test_all_replicas_serve(stack):
    served = collections.Counter(
        request(stack, "/health-check").headers["X-Served-By"] for _ in range(60)
    )
    assert set(served) == REPLICAS
    assert min(served.values()) >= 10


def test_the_first_question_misses_and_the_second_hits(stack, averages):
    location = sorted(averages)[0]
    first, second = ask(stack, location), ask(stack, location)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.json == second.json
    assert first.headers["X-Edge-Cache"] == "off"


def test_the_form_lists_locations(stack):
    page = request(stack, "/")
    assert page.status == 200
    assert page.headers.get_content_type() == "text/html"
    assert page.text.count("<option") == 100
    assert 'action="/query"' in page.text


def test_the_filter_works_without_javascript(stack, averages):
    location = sorted(averages)[-1]
    page = request(stack, "/?" + urllib.parse.urlencode({"q": location.upper()}))
    assert f">{location}</option>" in page.text


def test_the_answer_is_a_page_for_browsers(stack, averages):
    location = sorted(averages)[1]
    page = ask(stack, location, Accept="text/html")
    average, records = averages[location]
    assert page.headers.get_content_type() == "text/html"
    assert location in page.text
    assert f"{average}" in page.text
    assert f"{records} records" in page.text


def test_json_in_json_out(stack, averages):
    location = sorted(averages)[2]
    body = json.dumps({"location": location}).encode()
    answer = request(stack, "/query", body, Content_Type="application/json")
    assert answer.json["records"] == averages[location][1]


def test_an_unknown_location_has_no_data(stack):
    assert ask(stack, "Atlantis").json == {
        "location": "Atlantis",
        "average_temperature": None,
        "records": 0,
    }
    page = ask(stack, "Atlantis", Accept="text/html")
    assert page.status == 200
    assert "No data available" in page.text


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"location=", b"location=%20", b"location=a&location=b", b"city=a"),
        *(b"location=%00", b"location=%ff", b"location=" + b"x" * 101),
    ],
)
def test_unusable_input_is_refused_with_a_reason(stack, body):
    answer = request(stack, "/query", body, Accept="application/json")
    assert answer.status == 400
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/query", 405),
        ("DELETE", "/", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/locations?limit=0", 400),
        ("GET", "/locations?limit=ten", 400),
    ],
)
def test_wrong_requests_get_their_status(stack, method, path, status):
    answer = request(stack, path, method=method)
    assert answer.status == status
    assert (answer.headers["Allow"] is not None) == (status == 405)
    assert answer.headers["X-Served-By"] in REPLICAS


def test_a_large_body_and_a_foreign_type_are_refused(stack):
    assert request(stack, "/query", b"location=" + b"x" * 5000).status == 413
    assert request(stack, "/query", b"<a/>", Content_Type="text/xml").status == 415


def test_locations_are_searched(stack, averages):
    found = request(stack, "/locations?q=PORT&limit=1000").json
    assert len(found) == min(1000, sum("port" in name.lower() for name in averages))
    assert all("port" in name.lower() for name in found)
    assert len(request(stack, "/locations?limit=10").json) == 10


def test_readiness_names_postgresql_and_redis(stack):
    answer = request(stack, "/ready")
    assert answer.status == 200
    assert answer.json == {"ready": True, "postgresql": "up", "redis": "up"}


def test_every_answer_is_hardened(stack):
    for path in ("/", "/nowhere", "/health-check", "/locations"):
        headers = request(stack, path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"]
        assert headers["Set-Cookie"] is None
        assert headers["Server"] == "nginx"


def test_health_check_says_success(stack):
    assert request(stack, "/health-check").text.strip() == "success"


def test_the_gate_refuses_another_number_of_rows(stack):
    environ = os.environ | stack.client_environ | {"TOTAL_RECORDS": "200001"}
    gate = subprocess.run([sys.executable, QUERY], env=environ, capture_output=True, text=True)
    assert gate.returncode == 1
    assert gate.stderr == "data-query: weather_data holds 200000 rows, expected 200001\n"

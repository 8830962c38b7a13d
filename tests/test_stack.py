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
from decimal import Decimal
from pathlib import Path

import pytest
from databases import sql_averages

QUERY = Path(__file__).parents[1] / "data-query" / "query_db.py"
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


def request(stack, path, data=None, **headers):
    """Send a request through nginx; header names with _ for -."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    message = urllib.request.Request(stack.url + path, data, headers)
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
    return sql_averages(stack.client_environ)


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
    answers = (ask(stack, location) for location in sorted(averages))  # other tests asked for some
    first = next(answer for answer in answers if answer.headers["X-Cache"] == "miss")
    second = ask(stack, first.json["location"])
    assert second.headers["X-Cache"] == "hit"
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


def test_locations_are_searched(stack, averages):
    found = request(stack, "/locations?q=PORT&limit=1000").json
    assert len(found) == min(1000, sum("port" in name.lower() for name in averages))
    assert all("port" in name.lower() for name in found)
    assert len(request(stack, "/locations?limit=10").json) == 10


def test_readiness_names_postgresql_and_redis(stack):
    answer = request(stack, "/ready")
    assert answer.status == 200
    assert answer.json == {"ready": True, "postgresql": "up", "redis": "up"}


def test_nginx_adds_the_headers_that_the_app_has_without_it(stack):
    names = ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy")
    for path in ("/", "/nowhere", "/health-check", "/locations", "/static/style.css"):
        direct, proxied = (request(server, path).headers for server in (stack.replicas[0], stack))
        for name in names:
            assert proxied.get_all(name) == direct.get_all(name)
            assert len(direct.get_all(name)) == 1
        assert proxied["Set-Cookie"] is None
        assert proxied["Server"] == "nginx"


def test_health_check_says_success(stack):
    assert request(stack, "/health-check").text.strip() == "success"


def test_the_gate_refuses_another_number_of_rows(stack):
    environ = os.environ | stack.client_environ | {"TOTAL_RECORDS": "200001"}
    gate = subprocess.run([sys.executable, QUERY], env=environ, capture_output=True, text=True)
    assert gate.returncode == 1
    assert gate.stderr == "data-query: weather_data holds 200000 rows, expected 200001\n"

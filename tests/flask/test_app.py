"""Every route, header and error of the application, with a real database and cache behind it."""

import dataclasses
import json
import re
import signal
import socket
import time

import pytest
from databases import shut_down
from flask_servers import DATA, exact_average
from processes import free_ports

from weather.factory import create_app

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def app(settings):
    app = create_app(settings)
    yield app
    app.extensions["database"].close()


@pytest.fixture
def client(app, postgres, valkey):
    return app.test_client()


@pytest.fixture
def offline(settings):
    """A client of an application whose database and cache do not answer."""
    return create_app(dataclasses.replace(settings, cache=True, redis_port=1)).test_client()


def ask(client, location, **headers):
    return client.post("/query", data={"location": location}, headers=headers)


def check_headers(response):
    headers = response.headers
    assert headers["X-Served-By"] == "flask"
    assert headers["X-Cache"] in ("hit", "miss", "stale", "bypass")
    assert headers["Content-Security-Policy"].startswith("default-src 'self'; frame-ancestors")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "Set-Cookie" not in headers
    for name in ("X-Cache", "Cache-Control"):
        assert len(headers.getlist(name)) == 1


def test_form_page(client):
    response = client.get("/")
    page = response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert page.count("<option>") == 100
    assert "The 100 locations with the most records" in page
    assert "155 locations" in page
    options = re.findall("<option>(.*)</option>", page)
    assert options == sorted(options)
    assert "Port Michael" in options  # 3 records, the most
    check_headers(response)


def test_pages_have_no_inline_code_and_load_only_from_here(client):
    for page in (client.get("/"), ask(client, "Portland"), client.get("/nowhere")):
        text = page.get_data(as_text=True)
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=\"/static/)", text)
        assert "http" not in text


def test_every_location_is_reachable_without_javascript(client):
    for name in DATA:
        page = client.get("/", query_string={"q": name}).get_data(as_text=True)
        assert f"<option>{_escaped(name)}</option>" in page


def _escaped(text):
    for character, entity in zip("&<>\"'", ("amp", "lt", "gt", "#34", "#39"), strict=True):
        text = text.replace(character, f"&{entity};")
    return text


def test_filter_without_a_match(client):
    page = client.get("/?q=<b>nowhere").get_data(as_text=True)
    assert "No location matches" in page
    assert "<b>nowhere" not in page
    assert 'value="&lt;b&gt;nowhere"' in page


def test_query_as_html(client):
    response = ask(client, "Port Michael")
    page = response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert "20.00&nbsp;°C" in page
    assert "3 records" in page
    assert "<code>flask</code>" in page
    assert 'href="/"' in page
    assert response.headers["X-Cache"] == "miss"
    check_headers(response)
    again = ask(client, "Port Michael")
    assert again.headers["X-Cache"] == "hit"
    assert "from the cache (<code>hit</code>)" in again.get_data(as_text=True)


def test_a_replica_that_keeps_its_name_to_itself(settings, postgres, valkey):
    client = create_app(dataclasses.replace(settings, x_served_by=False)).test_client()
    for response in (client.get("/"), client.get("/nowhere"), ask(client, "Port Michael")):
        assert "X-Served-By" not in response.headers
        assert "<code>flask</code>" not in response.get_data(as_text=True)
    assert "The answer is computed by PostgreSQL" in response.get_data(as_text=True)


def test_too_many_arguments_are_refused_wherever_they_are_read(offline):
    for path in ("/", "/locations", "/static/style.css"):
        response = offline.get(path + "?" + "a&" * 1000)
        assert response.status_code == 400
        assert "there are more than 20 fields" in response.get_data(as_text=True)


@pytest.mark.parametrize("name", [name for name in DATA if not name.startswith("Town")])
def test_query_as_json(client, name):
    expected = {
        "location": name,
        "average_temperature": exact_average(name),
        "records": len(DATA[name]),
    }
    for response in (
        client.post("/query", json={"location": name}),
        ask(client, name, Accept="application/json"),
    ):
        assert response.content_type == "application/json"
        assert response.get_json() == expected
        check_headers(response)


def test_json_body_and_html_wanted(client):
    response = client.post("/query", json={"location": "Portland"}, headers={"Accept": "text/html"})
    assert "-9.99&nbsp;°C" in response.get_data(as_text=True)


@pytest.mark.parametrize(
    "name",
    [
        *("Nowhere", "locations", "null", "undefined", "0", "a" * 100, "🌦" * 100, "שלום", "مدينة"),
        *("' OR 1=1--", '"; DROP TABLE weather_data; --', "%", "_", "\\", "../../etc/passwd"),
        *("<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "</title>", "&lt;"),
        *("{{7*7}}", "${7*7}", "{% raw %}", "%s%n", "\u202eevil", "\ufeff", "a\u0301", "a\u2028b"),
    ],
)
def test_unknown_location(client, name):
    response = ask(client, name)
    page = response.get_data(as_text=True)
    assert response.status_code == 200
    assert "No data available" in page
    assert f"<h1>{_escaped(name)}</h1>" in page
    assert response.headers["X-Accel-Expires"] == "0"
    as_json = client.post("/query", json={"location": name})
    assert as_json.get_json() == {"location": name, "average_temperature": None, "records": 0}


def test_html_is_escaped(client):
    page = ask(client, "Saint-Ä<b>&'\"").get_data(as_text=True)
    assert "Saint-Ä&lt;b&gt;&amp;&#39;&#34;" in page
    assert "<b>" not in page


def edge_seconds(response):
    """Seconds until nginx serves the answer no more; it still does in the one that is named."""
    return int(response.headers["X-Accel-Expires"].removeprefix("@")) + 1 - time.time()


def test_the_edge_may_keep_an_answer_for_the_rest_of_its_life(client, settings):
    for _ in range(2):
        seconds = edge_seconds(ask(client, "Portland"))
        assert settings.cache_expiry * 0.9 - 5 <= seconds <= settings.cache_expiry
    assert "X-Accel-Expires" not in ask(client, "").headers


@pytest.mark.parametrize("path", ["/", "/?q=port", "/locations", "/locations?q=port"])
def test_the_edge_may_keep_a_page_as_long_as_its_list(client, settings, path):
    first, second = (edge_seconds(client.get(path)) for _ in range(2))
    assert settings.cache_expiry - 5 <= second < first <= settings.cache_expiry


@pytest.mark.parametrize("path", ["/?q=nowhere", "/locations?q=nowhere"])
def test_the_edge_keeps_no_page_without_a_location(client, path):
    assert client.get(path).headers["X-Accel-Expires"] == "0"


def test_the_edge_keeps_nothing_in_its_last_second(settings, postgres, valkey):
    app = create_app(dataclasses.replace(settings, cache_expiry=1))
    for response in (app.test_client().get("/"), ask(app.test_client(), "Portland")):
        assert response.headers["X-Accel-Expires"] == "0"
    app.extensions["database"].close()


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"", FORM, "location is missing"),
        (b"", "", "location is missing"),
        (b"location=", FORM, "location is empty"),
        (b"location=a&location=b", FORM, "more than once"),
        (b"location=" + b"a" * 101, FORM + "; charset=utf-8", "longer than 100"),
        (b"location=%00", FORM, "control characters"),
        (b"location=%ff", FORM, "UTF-8"),
        (b"[" * 4000, "application/json", "JSON"),
        (b"[]", "application/json", "not an object"),
        (b"{", "application/json", "not valid JSON"),
        (b'{"location": 1}', "application/json; charset=utf-8", "not a string"),
    ],
)
def test_bad_input(client, body, content_type, words):
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post("/query", data=body, headers=headers)
    assert response.status_code == 400
    assert words in response.get_data(as_text=True)
    assert response.is_json == ("json" in content_type)
    check_headers(response)
    as_json = client.post("/query", data=body, headers=headers | {"Accept": "application/json"})
    assert words in as_json.get_json()["error"]
    assert ask(client, "Portland").status_code == 200


def test_wrong_method(client):
    response = client.get("/query")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    check_headers(response)
    for method in ("put", "delete", "patch"):
        assert getattr(client, method)("/").status_code == 405


def test_too_large(client):
    for data in (b"location=" + b"a" * 4096, b"{" * 5000):
        response = client.post("/query", data=data, content_type=FORM)
        assert response.status_code == 413
        check_headers(response)
    assert client.post("/query", data=b"a=" + b"a" * 4094, content_type=FORM).status_code == 400


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data; boundary=x", "x", ";"]
)
def test_other_content_types(client, content_type):
    response = client.post("/query", data=b"location=Portland", content_type=content_type)
    assert response.status_code == 415
    check_headers(response)


def test_a_body_without_a_content_type(client):
    response = client.post("/query", data=b"location=Portland", content_type="")
    assert response.status_code == 415
    check_headers(response)


def test_not_found(client):
    response = client.get("/nowhere")
    assert response.status_code == 404
    assert "Back to the form" in response.get_data(as_text=True)
    check_headers(response)
    as_json = client.get("/nowhere", headers={"Accept": "application/json"})
    assert "error" in as_json.get_json()


def test_a_fault_of_the_application_has_the_headers_too(app, postgres, valkey):
    @app.get("/fault")
    def fault():
        raise KeyError("secret detail")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    response = app.test_client().get("/fault")
    assert response.status_code == 500
    assert "secret detail" not in response.get_data(as_text=True)
    check_headers(response)


def test_locations(client):
    response = client.get("/locations?q=PORT")
    assert response.get_json() == ["Port Michael", "Portland", "lower port", "New Port"]
    assert response.headers["X-Total-Count"] == "4"
    check_headers(response)
    assert client.get("/locations?q=port&limit=2").get_json() == ["Port Michael", "Portland"]
    assert len(client.get("/locations").get_json()) == 100
    assert len(client.get("/locations?limit=1000").get_json()) == len(DATA)
    assert client.get("/locations?q=nowhere").get_json() == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=", "q=%00"])
def test_bad_locations_request(client, query):
    for path in ("/locations?" + query, "/locations?q=" + "a" * 101):
        response = client.get(path)
        assert response.status_code == 400
        assert response.get_json()["error"]


def test_health_check_touches_nothing(offline):
    response = offline.get("/health-check")
    assert (response.status_code, response.data) == (200, b"success")
    check_headers(response)


def test_ready(client):
    response = client.get("/ready")
    assert response.status_code == 200
    assert response.get_json() == {"ready": True, "postgresql": "up", "redis": "up"}


def test_ready_without_redis(settings, postgres):
    app = create_app(dataclasses.replace(settings, cache=True, redis_port=1))
    response = app.test_client().get("/ready")
    assert response.status_code == 200
    assert response.get_json() == {"ready": True, "postgresql": "up", "redis": "down"}
    app.extensions["database"].close()


def test_without_postgresql(offline):
    for response in (
        offline.get("/ready"),
        offline.get("/"),
        offline.get("/locations"),
        ask(offline, "Portland"),
    ):
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        check_headers(response)
    assert offline.get("/ready").get_json()["postgresql"] == "down"


def test_cached_answers_and_the_page_outlive_the_database(
    settings, postgres_server, postgres, valkey
):
    app = create_app(settings)
    client = app.test_client()
    assert ask(client, "Portland").status_code == 200
    assert client.get("/").status_code == 200
    shut_down(postgres_server, signal.SIGQUIT)
    try:
        assert ask(client, "Portland").headers["X-Cache"] == "hit"
        assert client.get("/").status_code == 200
        response = ask(client, "New Port")
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.headers["X-Refused-By"] == "database"
    finally:
        postgres_server.start()
        app.extensions["database"].close()


@pytest.mark.parametrize("path", ["/", "/locations", "/query"])
def test_a_request_that_waited_too_long_is_refused_before_any_work(client, valkey, path):
    started = {"X-Request-Start": str(time.time() - 3)}
    if path == "/query":
        response = ask(client, "Portland", **started)
    else:
        response = client.get(path, headers=started)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.headers["X-Refused-By"] == "time"
    check_headers(response)
    with valkey.client() as redis_client:
        assert redis_client.dbsize() == 0


@pytest.mark.parametrize("age", [0.5, -2, 60])
def test_a_request_in_time_or_from_another_clock_is_answered(client, age):
    started = {"X-Request-Start": str(time.time() - age)}
    assert ask(client, "Portland", **started).status_code == 200


@pytest.mark.parametrize("started", ["", "now", "nan", "-1", "1" * 400])
def test_a_start_that_is_no_time_is_now(client, started):
    assert ask(client, "Portland", **{"X-Request-Start": started}).status_code == 200


def test_secrets_are_not_shown(caplog, settings):
    silent = dataclasses.replace(settings, cache=False)
    page = create_app(silent).test_client().post("/query", data={"location": "x"})
    assert page.status_code == 503
    assert "secret-word" not in page.get_data(as_text=True) + caplog.text


def test_static_files_are_kept_while_their_url_names_the_content(client):
    page = client.get("/").get_data(as_text=True)
    urls = re.findall(r'"(/static/[^"]+)"', page)
    assert len(urls) == 3
    for url in urls:
        response = client.get(url, buffered=True)
        assert response.status_code == 200
        assert "max-age=31536000" in response.headers["Cache-Control"]
        check_headers(response)
        for other in (url[:-1] + "x", url.partition("?")[0]):
            assert client.get(other, buffered=True).headers.getlist("Cache-Control") == ["no-cache"]
    assert client.get("/static/../settings.py").status_code == 404


def test_stored_values_are_json(client, valkey):
    ask(client, "Portland")
    with valkey.client() as redis_client:
        (key,) = redis_client.keys()
        assert key == b"weather:avg:1:Portland"
        assert json.loads(redis_client.get(key))["records"] == 1


def test_no_connection_is_made_before_the_first_request(settings):
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as server:
        server.settimeout(0)
        where = dataclasses.replace(settings.postgres, port=server.getsockname()[1])
        create_app(dataclasses.replace(settings, postgres=where))
        with pytest.raises(BlockingIOError):
            server.accept()

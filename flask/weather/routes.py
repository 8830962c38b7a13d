"""The routes: what each URL answers when all is well."""

import functools
import json
import time
from pathlib import Path

from flask import Flask, Response, request

from weather import metrics, queries
from weather.cache import X_CACHE, Answer, Cache
from weather.input import (
    HTML,
    JSON,
    body_kind,
    check_text,
    read_arguments,
    read_body,
    read_limit,
    read_location,
    read_request_id,
    wants_json,
)
from weather.locations import DROPDOWN_SIZE, Index, Locations
from weather.pool import Database
from weather.settings import Settings
from weather.waiting import UnavailableError, read_deadline

MAX_LOCATIONS = 1000  # names in one answer of /locations


def add_routes(
    app: Flask, settings: Settings, database: Database, cache: Cache, locations: Locations
) -> None:
    """Add the form and its answers, then what only programs ask for."""
    _add_form(app, locations)
    _add_query(app, settings, database, cache)
    _add_locations(app, locations)
    _add_service_routes(app, database, cache)


def _add_form(app: Flask, locations: Locations) -> None:
    form_page = app.jinja_env.get_template("form.html")

    # The page without a filter is the same until the list of locations changes; rendering it takes
    # most of its time: at 800 requests/s p99 is 4 ms instead of 31 ms (2 cores).
    @functools.lru_cache(maxsize=1)
    def start_page(index: Index) -> str:
        names = index.most_records
        return form_page.render(text="", names=names, matches=len(index), total=len(index))

    @app.get("/")
    def form() -> Response:
        deadline = read_deadline(request.environ)
        text = read_arguments(request.environ).get("q", "")
        check_text("q", text)
        index = locations.index(deadline)
        if text:
            names, matches = index.search(text, DROPDOWN_SIZE)
            page = form_page.render(text=text, names=names, matches=matches, total=len(index))
        else:
            page, matches = start_page(index), len(index)
        headers = {"X-Accel-Expires": _edge_expires(index.expires if matches else 0)}
        return Response(page, headers=headers, content_type=HTML)


def _add_query(app: Flask, settings: Settings, database: Database, cache: Cache) -> None:
    result_page = app.jinja_env.get_template("result.html")
    replica = settings.hostname if settings.x_served_by else ""

    def average(location: str, deadline: float) -> queries.Average:
        request_id = read_request_id(request.environ)
        return database.read(
            lambda connection: queries.average(connection, location, request_id), deadline
        )

    @app.post("/query")
    def query() -> Response:
        environ = request.environ
        deadline = read_deadline(environ)
        kind = body_kind(environ)
        location = read_location(kind, read_body(environ))
        answer, tier = cache.fetch(location, deadline, average)
        environ["weather.tier"], source = tier, X_CACHE[tier]
        headers = {"X-Cache": source, "X-Accel-Expires": _edge_expires(answer.expires)}
        if wants_json(environ.get("HTTP_ACCEPT", ""), kind):
            return Response(as_json(location, answer), headers=headers, content_type=JSON)
        page = result_page.render(
            location=location, average=answer.average, source=source, replica=replica
        )
        return Response(page, headers=headers, content_type=HTML)

    def as_json(location: str, answer: Answer) -> str:
        temperature, records = answer.average
        fields = {"location": location, "average_temperature": temperature, "records": records}
        return json.dumps(fields)


def _add_locations(app: Flask, locations: Locations) -> None:
    @app.get("/locations")
    def list_locations() -> Response:
        deadline = read_deadline(request.environ)
        arguments = read_arguments(request.environ)
        text = arguments.get("q", "")
        check_text("q", text)
        limit = read_limit(arguments.get("limit"), DROPDOWN_SIZE, MAX_LOCATIONS)
        index = locations.index(deadline)
        names, matches = index.search(text, limit)
        headers = {
            "X-Total-Count": str(matches),
            "X-Accel-Expires": _edge_expires(index.expires if matches else 0),
        }
        return Response(json.dumps(names), headers=headers, content_type=JSON)


def _edge_expires(expires: float) -> str:
    """X-Accel-Expires for what ends at ``expires``, in seconds since 1970.

    nginx serves a copy through the second that it is told, so that is the last whole one. What
    shows nothing ends at 0: made-up names must not push real answers out.
    """
    last_second = int(expires) - 1
    return f"@{last_second}" if last_second >= time.time() else "0"


def _add_service_routes(app: Flask, database: Database, cache: Cache) -> None:
    description = Path(__file__).with_name("openapi.yaml").read_bytes()

    @app.get("/openapi.yaml")
    def openapi() -> Response:
        return Response(description, content_type="application/yaml")

    @app.get("/health-check")
    def health_check() -> Response:
        return Response("success", content_type="text/plain; charset=utf-8")

    @app.get("/metrics")
    def show_metrics() -> Response:
        """For the inside network: nginx does not pass it on."""
        return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE)

    @app.get("/ready")
    def ready() -> Response:
        """Redis may be down: it makes answers faster, it is not needed for them."""
        try:
            database.read(queries.ping, read_deadline(request.environ))
            postgresql = "up"
        except UnavailableError:
            postgresql = "down"
        is_ready = postgresql == "up"
        body = {"ready": is_ready, "postgresql": postgresql, "redis": cache.state()}
        headers = {} if is_ready else {"Retry-After": "1"}
        status = 200 if is_ready else 503
        return Response(json.dumps(body), status, headers=headers, content_type=JSON)

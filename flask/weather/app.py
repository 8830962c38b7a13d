"""The application: its routes, headers and error pages."""

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from weather import queries
from weather.cache import Answer, Cache
from weather.input import (
    FORM,
    JSON,
    MAX_BODY,
    InputError,
    check_text,
    media_type,
    read_limit,
    read_location,
    wants_json,
)
from weather.locations import DROPDOWN_SIZE, Index, Locations
from weather.pool import Database
from weather.settings import Settings
from weather.waiting import UnavailableError

HTML = "text/html; charset=utf-8"
MAX_LOCATIONS = 1000  # names in one answer of /locations
STATIC_MAX_AGE = 31_536_000  # seconds, a year: the URL changes with the content
LOG_INTERVAL = 1.0  # seconds; an outage fails thousands of requests in the same way

# Every answer has these, errors and static files included, unless it sets its own.
# no-cache: a browser may show an answer again when the user goes back, but asks before it reuses
# one. The edge goes by X-Accel-Expires instead: seconds it may keep the answer.
DEFAULT_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "X-Accel-Expires": "0",
    "X-Cache": "bypass",
}

log = logging.getLogger("gunicorn.error")


class DefaultHeaders:
    """WSGI middleware that adds the headers an answer does not have yet."""

    def __init__(self, wsgi_app: Callable, headers: dict[str, str]) -> None:
        self._wsgi_app = wsgi_app
        self._headers = list(headers.items())

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable:
            present = {name for name, _ in headers}
            headers += [header for header in self._headers if header[0] not in present]
            return start_response(status, headers, exc_info)

        return self._wsgi_app(environ, start)


def create_app(settings: Settings) -> Flask:
    """Build the application; it connects to nothing before the first request or warm_up()."""
    app = Flask(__name__)
    app.wsgi_app = DefaultHeaders(
        app.wsgi_app, DEFAULT_HEADERS | {"X-Served-By": settings.hostname}
    )
    database = Database(settings)
    cache = Cache(settings)
    locations = Locations(lambda: database.read(queries.locations), settings.cache_expiry)
    app.extensions["database"] = database
    _version_static_files(app)
    _add_pages(app, settings, database, cache, locations)
    _add_service_routes(app, database, cache, locations)
    _add_error_handlers(app)
    return app


def _add_pages(
    app: Flask, settings: Settings, database: Database, cache: Cache, locations: Locations
) -> None:
    form_page = app.jinja_env.get_template("form.html")
    result_page = app.jinja_env.get_template("result.html")

    # The page without a filter is the same until the list of locations changes; rendering it takes
    # most of its time: at 800 requests/s p99 is 4 ms instead of 31 ms (2 cores).
    @functools.lru_cache(maxsize=1)
    def start_page(index: Index) -> str:
        names = index.most_records
        return form_page.render(text="", names=names, matches=len(index), total=len(index))

    @app.get("/")
    def form() -> Response:
        text = request.args.get("q", "")
        check_text("q", text)
        index = locations.index()
        if not text:
            return Response(start_page(index), content_type=HTML)
        names, matches = index.search(text, DROPDOWN_SIZE)
        page = form_page.render(text=text, names=names, matches=matches, total=len(index))
        return Response(page, content_type=HTML)

    def average(location: str) -> queries.Average:
        return database.read(lambda connection: queries.average(connection, location))

    @app.post("/query")
    def query() -> Response:
        environ = request.environ
        kind = _body_kind(environ)
        location = read_location(kind, _read_body(environ))
        answer, source = cache.fetch(location, average)
        if wants_json(environ.get("HTTP_ACCEPT", ""), kind):
            content_type = JSON
            fields = {
                "location": location,
                "average_temperature": answer.average.temperature,
                "records": answer.average.records,
            }
            body = json.dumps(fields)
        else:
            content_type = HTML
            body = result_page.render(
                location=location, average=answer.average, source=source, replica=settings.hostname
            )
        headers = [
            ("Content-Type", content_type),
            ("X-Cache", source),
            ("X-Accel-Expires", _edge_seconds(answer)),
        ]
        return Response(body, headers=headers)


def _read_body(environ: dict) -> bytes:
    """The body of a /query; raises RequestEntityTooLarge above MAX_BODY.

    Reads the server's stream itself: for bodies this small, request.get_data() takes 30 us longer.
    """
    # Without a length the body is chunked, and gunicorn's stream ends where the last chunk does.
    length = int(environ.get("CONTENT_LENGTH") or MAX_BODY + 1)
    body = environ["wsgi.input"].read(min(length, MAX_BODY + 1))
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(f"The request body is larger than {MAX_BODY} bytes.")
    return body


def _body_kind(environ: dict) -> str:
    """FORM or JSON; raises UnsupportedMediaType for anything else."""
    content_type = environ.get("CONTENT_TYPE", "")
    if content_type == FORM:
        return FORM
    if not content_type and environ.get("CONTENT_LENGTH", "0") in ("", "0"):
        return FORM  # an empty body: the answer is that location is missing
    kind = media_type(content_type)
    if kind not in (FORM, JSON):
        raise UnsupportedMediaType(f"Content-Type is neither {FORM} nor {JSON}.")
    return kind


def _edge_seconds(answer: Answer) -> str:
    """How long the edge may keep the answer, so that all tiers together keep CACHE_EXPIRY."""
    if answer.average.records == 0:
        return "0"  # as in Redis: made-up names must not push real answers out
    return str(max(0, int(answer.expires - time.time())))


def _add_service_routes(app: Flask, database: Database, cache: Cache, locations: Locations) -> None:
    @app.get("/locations")
    def list_locations() -> Response:
        text = request.args.get("q", "")
        check_text("q", text)
        limit = read_limit(request.args.get("limit"), DROPDOWN_SIZE, MAX_LOCATIONS)
        names, matches = locations.index().search(text, limit)
        headers = {"X-Total-Count": str(matches)}
        return Response(json.dumps(names), headers=headers, content_type=JSON)

    description = Path(__file__).with_name("openapi.yaml").read_bytes()

    @app.get("/openapi.yaml")
    def openapi() -> Response:
        return Response(description, content_type="application/yaml")

    @app.get("/health-check")
    def health_check() -> Response:
        return Response("success", content_type="text/plain; charset=utf-8")

    @app.get("/ready")
    def ready() -> Response:
        """Redis may be down: it makes answers faster, it is not needed for them."""
        try:
            database.read(queries.ping)
            postgresql = "up"
        except UnavailableError:
            postgresql = "down"
        is_ready = postgresql == "up"
        body = {"ready": is_ready, "postgresql": postgresql, "redis": cache.state()}
        headers = {} if is_ready else {"Retry-After": "1"}
        status = 200 if is_ready else 503
        return Response(json.dumps(body), status, headers=headers, content_type=JSON)


def _version_static_files(app: Flask) -> None:
    """Put a hash of the content into the URL of each static file, and let browsers keep it."""
    folder = Path(app.static_folder)
    versions = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in folder.iterdir()
    }

    def static_url(name: str) -> str:
        return f"{app.static_url_path}/{name}?v={versions[name]}"

    def max_age(name: str | None) -> int | None:
        return STATIC_MAX_AGE if request.args.get("v") == versions.get(name) else None

    app.jinja_env.globals["static_url"] = static_url
    app.get_send_file_max_age = max_age


def _add_error_handlers(app: Flask) -> None:
    error_page = app.jinja_env.get_template("error.html")
    last_log = 0.0

    def error_body(status: int, title: str, message: str) -> tuple[str, str]:
        """The body and its content type, as the client asks for it."""
        kind = media_type(request.environ.get("CONTENT_TYPE", ""))
        if request.path == "/locations":
            kind = JSON  # what it answers with when all is well
        if wants_json(request.headers.get("Accept", ""), kind):
            return json.dumps({"error": message}), JSON
        return error_page.render(status=status, title=title, message=message), HTML

    @app.errorhandler(InputError)
    def bad_input(error: InputError) -> Response:
        body, content_type = error_body(400, "This can't be answered", f"{error}.")
        return Response(body, 400, content_type=content_type)

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        nonlocal last_log
        if time.monotonic() - last_log > LOG_INTERVAL:
            last_log = time.monotonic()
            log.warning("503: %s", error)
        message = "The database did not answer in time. Please try again in a moment."
        body, content_type = error_body(503, "Not available at the moment", message)
        return Response(body, 503, headers={"Retry-After": "1"}, content_type=content_type)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = error.get_response()  # with Allow of a 405, Location of a redirect
        body, content_type = error_body(error.code, error.name, error.description)
        response.set_data(body)
        response.content_type = content_type
        return response

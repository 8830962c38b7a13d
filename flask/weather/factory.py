"""Builds the application from its parts."""

import hashlib
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from flask import Flask, Response, request

from weather import metrics, queries
from weather.cache import Cache
from weather.errors import add_error_pages
from weather.input import read_arguments
from weather.locations import Locations
from weather.pool import Database
from weather.routes import add_routes
from weather.settings import Settings

STATIC_MAX_AGE = 31_536_000  # seconds, a year: the URL changes with the content

SLOW_REQUEST = 1.0  # seconds; half of what a request is worth
SLOW_LOG_INTERVAL = 1.0  # seconds; an overload makes thousands of requests slow

log = logging.getLogger("gunicorn.error")

# Every answer has these, errors and static files included, unless it sets its own.
# no-cache: a browser may show an answer again when the user goes back, but asks before it reuses
# one. The edge goes by X-Accel-Expires where an answer has it: until when it may be kept.
DEFAULT_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "X-Cache": "bypass",
}


def create_app(settings: Settings) -> Flask:
    """Build the application; it connects to nothing before the first request or warm_up()."""
    app = Flask(__name__)
    database = Database(settings)
    cache = Cache(settings)
    locations = Locations(partial(database.read, queries.locations), settings.cache_expiry)
    app.extensions["database"] = database
    metrics.describe(settings)
    _version_static_files(app)
    served_by = {"X-Served-By": settings.hostname} if settings.x_served_by else {}
    _finish_answers(app, DEFAULT_HEADERS | served_by)
    add_routes(app, settings, database, cache, locations)
    add_error_pages(app)
    return app


def _finish_answers(app: Flask, defaults: dict[str, str]) -> None:
    """Add the default headers to every answer, count it, and log one that is slow."""
    answer = app.wsgi_app
    last_log = 0.0

    def timed(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["weather.started"] = monotonic()
        return answer(environ, start_response)

    # One function for both, as Flask takes 2 us to call one.
    @app.after_request
    def finish(response: Response) -> Response:
        add_missing_headers(response)
        watch(response)
        return response

    def add_missing_headers(response: Response) -> None:
        present = {name for name, _ in response.headers}
        for name, value in defaults.items():
            if name not in present:
                response.headers.add(name, value)

    def watch(response: Response) -> None:
        nonlocal last_log
        current = request._get_current_object()  # each look through the proxy takes 0.6 us
        environ, rule, now = current.environ, current.url_rule, monotonic()
        route = rule.rule if rule else metrics.UNKNOWN_ROUTE
        tier = environ.get("weather.tier", metrics.NO_TIER)
        seconds = now - environ["weather.started"]
        metrics.count_request(route, response.status_code, tier, seconds)
        if seconds >= SLOW_REQUEST and now - last_log > SLOW_LOG_INTERVAL:
            last_log = now
            log.warning("slow: %s %s took %.2f s", route, response.status_code, seconds)

    app.wsgi_app = timed


def _version_static_files(app: Flask) -> None:
    """Put a hash of the content into the URL of each static file, and let all caches keep it."""
    versions = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in Path(app.static_folder).iterdir()
    }

    def static_url(name: str) -> str:
        return f"{app.static_url_path}/{name}?v={versions[name]}"

    def max_age(name: str | None) -> int | None:
        version = read_arguments(request.environ).get("v")
        # after None Flask asks again, with the whole path
        return STATIC_MAX_AGE if version and version == versions.get(name) else None

    app.jinja_env.globals["static_url"] = static_url
    app.get_send_file_max_age = max_age

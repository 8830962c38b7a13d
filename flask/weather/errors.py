"""Answers for what goes wrong: pages, or JSON where the client asks for that."""

import json
import logging
from time import monotonic

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from weather import metrics
from weather.input import HTML, JSON, InputError, media_type, wants_json
from weather.waiting import UnavailableError

LOG_INTERVAL = 1.0  # seconds; an outage fails thousands of requests in the same way

log = logging.getLogger("gunicorn.error")


def add_error_pages(app: Flask) -> None:
    """Answer InputError with 400, UnavailableError with 503, and Flask's errors as they say."""
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
        metrics.REFUSED[error.refused_by].inc()
        if monotonic() - last_log > LOG_INTERVAL:
            last_log = monotonic()
            log.warning("503: %s", error)
        message = "The database did not answer in time. Please try again in a moment."
        body, content_type = error_body(503, "Not available at the moment", message)
        headers = {"Retry-After": "1", "X-Refused-By": error.refused_by}
        return Response(body, 503, headers=headers, content_type=content_type)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = error.get_response()  # with Allow of a 405, Location of a redirect
        body, content_type = error_body(error.code, error.name, error.description)
        response.set_data(body)
        response.content_type = content_type
        return response

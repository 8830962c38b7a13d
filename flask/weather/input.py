"""Reads and checks what clients send: the location, the filter, the kind of answer they want."""

import functools
import json
import re
import uuid
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_accept_header

MAX_BODY = 4096  # bytes; 100 characters take at most 1,200 in a form
MAX_LENGTH = 100  # characters of a location; the longest real one has about 30
MAX_FIELDS = 20  # of a form or a query string; 2,000 in 4 KB take 20 times a query's CPU
MAX_ACCEPT = 256  # bytes; a browser's has 140
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
HTML = "text/html; charset=utf-8"

# Control characters, and halves of surrogate pairs, which JSON can smuggle in as "\ud800" and
# which have no UTF-8 form.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


# An id goes into log lines and into SQL, as a comment: nothing in it may end that.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class InputError(ValueError):
    """The request can't be answered; the text tells the client why."""


def media_type(content_type: str) -> str:
    """The type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def body_kind(environ: dict[str, Any]) -> str:
    """FORM or JSON; raises UnsupportedMediaType for anything else."""
    kind = media_type(environ.get("CONTENT_TYPE", ""))
    if not kind and environ.get("CONTENT_LENGTH", "0") in ("", "0"):
        return FORM  # an empty body: the answer is that location is missing
    if kind not in (FORM, JSON):
        raise UnsupportedMediaType(f"Content-Type is neither {FORM} nor {JSON}.")
    return kind


def read_body(environ: dict[str, Any]) -> bytes:
    """The body of a request; raises RequestEntityTooLarge above MAX_BODY.

    From the server's stream: request.get_data() takes 13 us more of the 60 that a hit takes.
    """
    # Without a length the body is chunked, and gunicorn's stream ends where the last chunk does.
    length = int(environ.get("CONTENT_LENGTH") or MAX_BODY + 1)
    body = environ["wsgi.input"].read(min(length, MAX_BODY + 1))
    if len(body) > MAX_BODY:
        raise RequestEntityTooLarge(f"The request body is larger than {MAX_BODY} bytes.")
    return body


def read_location(kind: str, body: bytes) -> str:
    """The field ``location`` of a body of the media type FORM or JSON; raises InputError."""
    try:
        text = body.decode()
        values = _json_values(text) if kind == JSON else _form_values(text)
    except UnicodeDecodeError:
        raise InputError("the request body is not valid UTF-8") from None
    if not values:
        raise InputError("location is missing")
    if len(values) > 1:
        raise InputError("location is given more than once")
    return check_location(values[0])


def check_location(value: Any) -> str:
    """Return a location that PostgreSQL can be asked for; raises InputError."""
    if not isinstance(value, str):
        raise InputError("location is not a string")
    if not value.strip():
        raise InputError("location is empty")
    check_text("location", value)
    return value


def check_text(name: str, value: str) -> None:
    """Raises InputError for a text that is too long or has control characters."""
    if len(value) > MAX_LENGTH:
        raise InputError(f"{name} is longer than {MAX_LENGTH} characters")
    if not value.isprintable() and _FORBIDDEN.search(value):
        raise InputError(f"{name} contains control characters or broken Unicode")


def read_request_id(environ: dict[str, Any]) -> str:
    """X-Request-ID, which nginx sets; a new one where it is missing or could not stand in SQL."""
    request_id = environ.get("HTTP_X_REQUEST_ID", "")
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = environ["HTTP_X_REQUEST_ID"] = uuid.uuid4().hex
    return request_id


def read_limit(value: str | None, default: int, highest: int) -> int:
    """The number of names asked for; raises InputError."""
    if value is None:
        return default
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= highest:
        raise InputError(f"limit is not a whole number from 1 to {highest}")
    return int(value)


def read_arguments(environ: dict[str, Any]) -> dict[str, str]:
    """The query string, of each name the first value; raises InputError for too many.

    request.args has no bound.
    """
    text = environ.get("QUERY_STRING", "").encode("latin-1").decode(errors="replace")
    return dict(reversed(_fields(text, "replace"))) if text else {}


@functools.lru_cache(maxsize=256)  # clients send a handful of different headers, over and over
def wants_json(accept: str, kind: str) -> bool:
    """Whether the answer is to be JSON; without a preference it is of the kind that was sent.

    An Accept of more than MAX_ACCEPT is none: 8 KB of "a/a," take 12 ms to parse.
    """
    if len(accept) > MAX_ACCEPT:
        return kind == JSON
    accepted = parse_accept_header(accept, MIMEAccept)
    as_json, as_html = accepted.quality(JSON), accepted.quality("text/html")
    return kind == JSON if as_json == as_html else as_json > as_html


def _form_values(text: str) -> list[str]:
    return [value for name, value in _fields(text, "strict") if name == "location"]


def _fields(text: str, errors: str) -> list[tuple[str, str]]:
    if text.count("&") >= MAX_FIELDS:
        raise InputError(f"there are more than {MAX_FIELDS} fields")
    return parse_qsl(text, keep_blank_values=True, errors=errors)


def _json_values(text: str) -> list[Any]:
    try:
        # Pairs instead of a dict, to see a field that is there twice.
        fields = json.loads(text, object_pairs_hook=_Pairs)
    except RecursionError:
        raise InputError("the JSON body is nested too deeply") from None
    except ValueError:
        raise InputError("the request body is not valid JSON") from None
    if not isinstance(fields, _Pairs):
        raise InputError("the JSON body is not an object")
    return [value for name, value in fields if name == "location"]


class _Pairs(list):
    """A JSON object as a list of (name, value)."""

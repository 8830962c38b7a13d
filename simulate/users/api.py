"""The stack's HTTP API as its clients use it: read the locations, ask for averages."""

import http.client
import json
import string
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, urlencode, urlsplit

from users.http_connection import request_bytes

QUERY_PATH = "/query"
QUERY_HEADERS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
LARGEST_LIMIT = 1000  # names in one answer of /locations
LETTERS = " " + string.ascii_lowercase  # what names of locations consist of
TIMEOUT = 30.0  # seconds

Averages = Mapping[str, Sequence[float]]  # location: average in degC, records


class ApiError(Exception):
    """The stack does not answer as agreed; the text is one line for the user."""


class Client:
    """One kept-alive connection for what is asked beside the load."""

    def __init__(self, base_url: str) -> None:
        address = urlsplit(base_url)
        self._base_url = base_url
        https = address.scheme == "https"
        connect = http.client.HTTPSConnection if https else http.client.HTTPConnection
        self._http = connect(address.hostname, address.port, timeout=TIMEOUT)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def query(self, location: str) -> bytes:
        """The answer to one query; raises ApiError unless its status is 200."""
        return self._ask("POST", QUERY_PATH, query_body(location))[0]

    def locations(self, text: str = "", limit: int = LARGEST_LIMIT) -> tuple[list[str], int]:
        """The first names that contain ``text``, and the number of all that do."""
        path = f"/locations?limit={limit}&q={quote(text)}"
        body, headers = self._ask("GET", path, None)
        return json.loads(body), int(headers["X-Total-Count"])

    def all_locations(self) -> list[str]:
        """Every location, sorted.

        /locations names 1,000 at most, those that begin with the text first. So where all of them
        begin with it there may be more, and the text is made one letter longer: 245 requests
        for 13,309 locations, 1 s.
        """
        _, total = self.locations(limit=1)
        found: set[str] = set()

        def walk(prefix: str) -> None:
            if len(found) == total:
                return
            names, _ = self.locations(prefix)
            found.update(names)
            if sum(name.casefold().startswith(prefix) for name in names) == LARGEST_LIMIT:
                for letter in LETTERS:
                    walk(prefix + letter)

        walk("")
        if not total or len(found) != total:
            raise ApiError(f"{self._base_url} names {len(found)} of its {total} locations")
        return sorted(found)

    def averages(self, locations: Iterable[str]) -> Averages:
        """Ask for each location once."""
        answers = (json.loads(self.query(location)) for location in locations)
        return {
            answer["location"]: (answer["average_temperature"], answer["records"])
            for answer in answers
        }

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[bytes, Mapping[str, str]]:
        try:
            self._http.request(method, path, body, QUERY_HEADERS)
            response = self._http.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self._base_url} does not answer: {error!r}") from error
        if response.status != 200:
            raise ApiError(f"{self._base_url}{path} answers {response.status}")
        return content, response.headers


def query_body(location: str) -> bytes:
    return urlencode({"location": location}).encode()


def query_request(host: str, location: str) -> bytes:
    """For an HttpConnection."""
    return request_bytes("POST", host, QUERY_PATH, QUERY_HEADERS, query_body(location))

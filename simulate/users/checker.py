"""Tells right answers to a query from wrong ones."""

import json

from users.api import Averages
from users.http_connection import Response

TOLERANCE = 0.0051  # degC; averages have 2 decimals


class Checker:
    """Remembers what answers must say.

    What is known of a location beforehand must be in its answers; of all others the first answer
    is taken as true, and later ones must agree. An answer that was seen before costs one
    comparison of bytes, so that every answer can be checked.
    """

    def __init__(self, known: Averages) -> None:
        self._known = dict(known)
        self._right: dict[str, bytes] = {}

    def failure(self, location: str, response: Response) -> str:
        """Why an answer to a query is a failure; empty for a right one."""
        if response.status_code != 200:
            return f"status {response.status_code}"
        problem = self.problem(location, response.content)
        return problem and f"wrong answer: {problem}"

    def problem(self, location: str, body: bytes) -> str:
        """What is wrong with the answer to a query; empty if nothing is."""
        if self._right.get(location) == body:
            return ""
        try:
            answer = json.loads(body)
            echo, average, records = (
                answer[name] for name in ("location", "average_temperature", "records")
            )
        except (ValueError, TypeError, KeyError):
            return "not the agreed JSON"
        if echo != location:
            return "the answer is for another location"
        if not _is_average(average, records):
            return "neither a temperature nor null with 0 records"
        known_average, known_records = self._known.setdefault(location, (average, records))
        if records != known_records:
            return "wrong number of records"
        if average != known_average and abs(average - known_average) > TOLERANCE:
            return "wrong average"
        self._right[location] = body
        return ""


def _is_average(average: object, records: object) -> bool:
    if records == 0:
        return average is None
    return isinstance(records, int) and records > 0 and isinstance(average, (int, float))

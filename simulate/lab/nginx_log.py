"""Counts the queries in nginx's access log: what the stack says it was asked."""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

LINE = re.compile(rb'"POST /query HTTP/1.1" (\d+) .* edge=(\S+) upstream=(.+?) upstream_status=')
FLUSH_LIMIT = 5.0  # seconds; nginx writes its log once a second


class NginxLog:
    """Reads an access log on from where it was left.

    ``replicas`` maps the addresses (host:port) of upstreams to their names.
    """

    def __init__(self, path: Path, replicas: dict[str, str]) -> None:
        self._file = path.open("rb")
        self._replicas = replicas
        self._part = b""  # of a line that is not written to its end yet

    def close(self) -> None:
        self._file.close()

    def read(self, expected: int) -> dict[str, Any]:
        """Queries logged since the last call: number, by status, tier and replica.

        Waits up to FLUSH_LIMIT until the expected number of them is there.
        """
        statuses, edge, replicas = Counter(), Counter(), Counter()
        deadline = time.monotonic() + FLUSH_LIMIT
        while True:
            for line in self._lines():
                if found := LINE.search(line):
                    status, tier, upstream = (group.decode() for group in found.groups())
                    statuses[status] += 1
                    edge[tier] += 1
                    last = re.split("[ ,:]+(?=[0-9.]+:)", upstream)[-1]
                    replicas[self._replicas.get(last, "none")] += 1
            if statuses.total() >= expected or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return {
            "requests": statuses.total(),
            "statuses": dict(statuses),
            "edge": dict(edge),
            "replicas": dict(replicas),
        }

    def _lines(self) -> list[bytes]:
        *lines, self._part = (self._part + self._file.read()).split(b"\n")
        return lines

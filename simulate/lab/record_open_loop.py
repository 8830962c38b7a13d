"""Sends queries at a fixed rate (an open loop), and records a line of JSON for each second."""

import argparse
import gc
import json
import os
import random
import resource
from contextlib import suppress
from pathlib import Path

from lab.open_loop import OpenLoop
from users.api import Client, query_request
from users.checker import Checker
from users.http_connection import Response, Server
from users.patterns import PATTERNS

USERS = 1000  # virtual users who take turns; only the pattern `fixed` tells them apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--pattern", choices=PATTERNS, default="random")
    parser.add_argument("--rate", type=float, required=True, help="requests/s")
    parser.add_argument("--seconds", type=int, required=True)
    options = parser.parse_args()

    with Client(options.host) as client:
        locations = client.all_locations()
    new_user = PATTERNS[options.pattern].prepare(locations, random)
    users = [new_user() for _ in range(USERS)]
    asked = [users[number % USERS]() for number in range(round(options.rate * options.seconds))]
    server = Server(options.host)
    requests = {location: query_request(server.name, location) for location in locations}
    checker = Checker(json.loads(Path(os.environ["EXPECTED_AVERAGES"]).read_text()))

    def make_request(number: int) -> bytes:
        return requests[asked[number]]

    def check(number: int, response: Response) -> str:
        return checker.failure(asked[number], response)

    real_time = keep_time()
    lines = OpenLoop(server, make_request, check, options.rate).run(options.seconds)
    with Path(os.environ["RECORDING"]).open("w") as file:
        for line in lines:
            file.write(json.dumps(line | {"real_time": real_time}) + "\n")


def keep_time() -> bool:
    """See to it that nothing but the generator's own speed holds up its schedule.

    Returns whether the kernel lets it go first whenever it is due (SCHED_RR).
    """
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # a connection is a file
    gc.freeze()  # a full collection would go through all requests
    # The stack shares the machine, and who wakes up waits for its time slices: send lag p99 is 0.2
    # instead of 4 ms beside 5 busy processes on 2 cores. Needs root; the recording has the lag.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR


if __name__ == "__main__":
    main()

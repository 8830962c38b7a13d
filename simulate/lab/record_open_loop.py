"""Sends queries at a fixed rate (an open loop), and records them as record_locust.py does."""

import argparse
import bisect
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

from lab import open_loop
from users.api import QUERY_HEADERS, QUERY_PATH, TIERS, Client, query_body
from users.checker import Checker
from users.patterns import PATTERNS

USERS = 1000  # virtual users who take turns; only the pattern `fixed` tells them apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--pattern", choices=PATTERNS, default="random")
    parser.add_argument("--rate", type=float, required=True, help="requests/s")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()

    with Client(arguments.host) as client:
        locations = client.all_locations()
    new_user = PATTERNS[arguments.pattern].prepare(locations, random)
    users = [new_user() for _ in range(USERS)]
    total = round(arguments.rate * arguments.seconds)
    asked = [users[number % USERS]() for number in range(total)]

    def make_request(number: int) -> open_loop.Request:
        return open_loop.Request("POST", QUERY_PATH, query_body(asked[number]), QUERY_HEADERS)

    clock = time.time() - time.monotonic()
    samples = open_loop.run(arguments.host, make_request, arguments.rate, arguments.seconds)
    expected = json.loads(Path(os.environ["EXPECTED_AVERAGES"]).read_text())
    lines = record(samples, asked, Checker(expected))
    with Path(os.environ["RECORDING"]).open("w") as file:
        for line in lines:
            file.write(json.dumps(line | {"time": line["time"] + clock}) + "\n")


def record(samples: list[open_loop.Sample], asked: list[str], checker: Checker) -> list[dict]:
    """A line for each second; a request counts in the second in which it was due.

    Only ``answered`` goes by when it ended: the throughput of a stack that falls behind.
    """
    ended = sorted(sample.ended for sample in samples)
    requests = failures = 0
    response_times, service_times = Counter(), Counter()
    answers, errors = Counter(), Counter()
    lines = []

    def end_second(moment: float) -> None:
        lines.append(
            {
                "time": moment,
                "users": 0,
                "workers": 1,
                "requests": requests,
                "answered": bisect.bisect(ended, moment),
                "failures": failures,
                "response_times": dict(response_times),
                "service_times": dict(service_times),
                "cut_off": 0,
                "answers": dict(answers),
            }
        )

    second = samples[0].due
    end_second(second)
    for sample, location in zip(samples, asked, strict=True):
        while sample.due >= second + 1:
            second += 1
            end_second(second)
        requests += 1
        response_times[round(sample.response_time * 1000)] += 1
        service_times[round(sample.service_time * 1000)] += 1
        problem = sample.error or _problem(sample, location, checker)
        if problem:
            failures += 1
            errors[problem] += 1
        answers.update(f"{name} {sample.headers.get(name, '')}" for name in TIERS)
    end_second(second + 1)
    lines[-1]["errors"] = [{"error": error, "count": count} for error, count in errors.items()]
    return lines


def _problem(sample: open_loop.Sample, location: str, checker: Checker) -> str:
    if sample.status != 200:
        return f"status {sample.status}"
    problem = checker.problem(location, sample.body)
    return f"wrong answer: {problem}" if problem else ""


if __name__ == "__main__":
    main()

"""Options that end a headless run with exit code 1: --fail-ratio and --p95.

Locust prints its --help before it reads a Locust file, so they can't be in there.
"""

import logging
import math
from typing import Any

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from users.seconds import each_second, ended
from users.tally import Times

log = logging.getLogger(__name__)
times = Times()  # of right answers, of all processes


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group(
        "Thresholds", "A headless run that misses one of them says so and ends with exit code 1."
    )
    group.add_argument(
        "--fail-ratio",
        type=_number(1),
        metavar="SHARE",
        help="highest share of requests that may fail, such as 0.01",
    )
    group.add_argument(
        "--p95",
        type=_number(math.inf),
        metavar="MS",
        help="highest 95th percentile of the right answers' times, in ms, such as 250",
    )


def _number(most: float) -> Any:
    def number(text: str) -> float:
        """Raises ValueError, of which argparse makes a line."""
        value = float(text)
        if not 0 <= value <= most:
            raise ValueError
        return value

    number.__name__ = f"number from 0 to {most}" if most < math.inf else "number from 0"
    return number


@each_second.add_listener
def add(line: dict[str, Any]) -> None:
    times.add(line["times"])


@ended.add_listener
def judge(environment: Environment) -> None:
    options = environment.parsed_options
    if not options.headless:
        return
    problems = _missed(environment)
    for problem in problems:
        log.error(problem)
    if problems:
        environment.process_exit_code = 1
    elif options.fail_ratio is not None and not environment.runner.exceptions:
        # Locust itself ends with 1 after a single failed request.
        environment.process_exit_code = environment.process_exit_code or 0


def _missed(environment: Environment) -> list[str]:
    options, total = environment.parsed_options, environment.stats.total
    problems = []
    if options.fail_ratio is not None and total.fail_ratio > options.fail_ratio:
        problems.append(
            f"--fail-ratio {options.fail_ratio:g}: {total.num_failures} of {total.num_requests}"
            f" requests failed, {total.fail_ratio:.3g}"
        )
    if options.p95 is not None:
        p95 = times.percentiles()["p95_ms"]
        if p95 is None:
            problems.append(f"--p95 {options.p95:g}: there was no right answer")
        elif p95 > options.p95:
            problems.append(f"--p95 {options.p95:g}: p95 of right answers was {p95:g} ms")
    return problems

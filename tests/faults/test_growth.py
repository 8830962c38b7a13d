"""The populator makes a served table three times as large: nobody fails, every answer is right."""

import json
import os
import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import pytest
from databases import connect, sql_averages
from drill import Questions, Witness, breakable_stack
from growth import committed_truths
from scheduled_load import Sample
from stack import JOBS, ROOT

JOB_LIMIT = 600  # seconds


class GrowthQuestions(Questions):
    """Right is what SQL says of the rows before and any of the whole batches that came since.

    A cached answer may be of an earlier batch, so this does not prove an answer to be the newest.
    """

    def set_truths(self, truths: dict[str, set[tuple[Decimal, int]]]) -> None:
        """The possible averages and numbers of records of every location."""
        self._truths = truths

    def is_right(self, sample: Sample) -> bool:
        if sample.request.body is None:
            return super().is_right(sample)
        answer = json.loads(sample.body, parse_float=Decimal)
        truth = answer["average_temperature"], answer["records"]
        return truth in self._truths[self.location(sample.request)]


@pytest.fixture(scope="module")
def initial_rows(lasting):
    return lasting(100_000, 5_000_000)


@pytest.fixture(scope="module")
def stack(initial_rows):
    with breakable_stack(initial_rows) as stack:
        yield stack


@pytest.fixture(scope="module")
def questions(stack):
    return GrowthQuestions(sql_averages(stack.client_environ))


@pytest.fixture(scope="module")
def witness(stack):
    return Witness(stack)


def test_a_table_grows_while_it_is_served(stack, drill, questions, initial_rows):
    indexes = index_ids(stack)
    with drill(f"growth: {initial_rows:,} rows become {3 * initial_rows:,}") as run:
        for room, script in JOBS.items():
            run_job(stack, ROOT / room / script, 3 * initial_rows)
        run.over()
        questions.set_truths(committed_truths(stack.client_environ, initial_rows))
    assert not run.failed
    assert index_ids(stack) == indexes  # so few rows as in CI can be served without them
    averages = sql_averages(stack.client_environ)
    fresh = [one for one in run.afterwards if one.headers["X-Cache"] == "miss"]
    assert fresh
    for sample in fresh:
        average, records = averages[questions.location(sample.request)]
        answer = json.loads(sample.body)
        assert (answer["average_temperature"], answer["records"]) == (float(average), records)


def index_ids(stack):
    """The indexes of weather_data, other ones after they were built anew."""
    with closing(connect(stack.client_environ)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT indexrelid FROM pg_index WHERE indrelid = 'weather_data'::regclass")
        return set(cursor)


def run_job(stack, program, total_records):
    environ = os.environ | stack.client_environ | {"TOTAL_RECORDS": str(total_records)}
    done = subprocess.run(
        [sys.executable, program], env=environ, capture_output=True, text=True, timeout=JOB_LIMIT
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""What the tests of simulate/ share: right answers, and what a run recorded."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest
from databases import connect


@pytest.fixture(scope="session")
def expected_averages(stack):
    """From the table itself, not from what the populator counted or the application answers."""
    with closing(connect(stack.client_environ)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT location, avg(temperature), count(*) FROM weather_data GROUP BY 1")
        return {location: (average, records) for location, average, records in cursor}


@pytest.fixture(scope="session")
def locust_environ():
    """The shell's variables without Locust's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}


@pytest.fixture(scope="session")
def recorded():
    """What one cell recorded: 300 users, default settings, 200,000 rows."""
    return json.loads(Path(__file__).with_name("recorded.json").read_text())

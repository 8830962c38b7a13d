"""flask/weather/openapi.yaml tells the truth: the stack answers good and bad input as it says."""

from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import schemathesis
from hypothesis import assume, settings

DESCRIPTION = Path(__file__).parents[1] / "flask" / "weather" / "openapi.yaml"
EXAMPLES = 100  # made-up requests per operation, besides those at the edges of its rules
LONGEST = 4000  # bytes of a query string; nginx refuses longer ones whatever the route (414)

api = schemathesis.openapi.from_path(DESCRIPTION)


@pytest.fixture(scope="module", params=["application/json", "text/html"])
def accept(request):
    return request.param


@api.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
def test_the_stack_answers_as_described(case, stack, accept):
    assume(len(urlencode(case.query or {}, doseq=True)) < LONGEST)
    case.call_and_validate(stack.url, headers={"Accept": accept})


def test_the_app_serves_its_description(stack):
    with urlopen(stack.url + "/openapi.yaml", timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/yaml"
        assert answer.read() == DESCRIPTION.read_bytes()

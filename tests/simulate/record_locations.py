"""Loaded beside a Locust file: writes down how often each location was asked for."""

import json
import os
from collections import Counter
from pathlib import Path

from locust import events

asked = Counter()


@events.request.add_listener
def count(response, request_type, **_):
    if request_type == "POST" and response is not None:
        asked[json.loads(response.content)["location"]] += 1


@events.quit.add_listener
def write(**_):
    Path(os.environ["ASKED"]).write_text(json.dumps(asked))

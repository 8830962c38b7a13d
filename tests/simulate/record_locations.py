"""Loaded beside a Locust file: writes down how often each location was asked for, and when."""

import json
import os
import time
from collections import Counter
from pathlib import Path

from locust import events

asked = Counter()
started = []  # Unix time of each request


@events.request.add_listener
def count(response, request_type, response_time, **_):
    if request_type == "POST" and response is not None:
        asked[json.loads(response.content)["location"]] += 1
        started.append(time.time() - response_time / 1000)


@events.quit.add_listener
def write(**_):
    Path(os.environ["ASKED"]).write_text(json.dumps({"asked": asked, "started": sorted(started)}))

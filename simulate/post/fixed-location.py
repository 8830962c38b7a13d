"""Each user picks one location and keeps asking for it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from locust import task

from users.weather_user import WeatherUser


class FixedLocation(WeatherUser):
    pattern = "fixed"

    @task
    def ask(self) -> None:
        self.query(self.choose())

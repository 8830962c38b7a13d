"""Every request asks for any of all locations: the hardest case for the caches."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from locust import task

from users.weather_user import WeatherUser


class RandomLocations(WeatherUser):
    pattern = "random"

    @task
    def ask(self) -> None:
        self.query(self.choose())

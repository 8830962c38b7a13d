"""Ten locations, read from the stack at the start: the API and, behind its caches, the database."""

import random

from locust import task

from users.weather_user import WeatherUser

LOCATIONS = 10


class TenLocations(WeatherUser):
    @task
    def ask(self) -> None:
        self.query(random.choice(self.locations[:LOCATIONS]))

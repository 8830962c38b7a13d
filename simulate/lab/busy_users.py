"""A Locust file of users who do not think: a few of them keep a stack busy, and none is refused."""

import random

from locust import constant, task

from users.weather_user import WeatherUser


class BusyUser(WeatherUser):
    """Asks for any of the locations whose averages are known beforehand, each as likely."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        self.query(random.choice(self.known))

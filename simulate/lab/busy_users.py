"""A Locust file of users who do not think: a few of them keep a stack busy, and none is refused."""

from locust import constant

from users.weather_user import PatternUser


class BusyUser(PatternUser):
    pattern = "random"
    wait_time = constant(0)

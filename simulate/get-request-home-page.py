"""The form, as a browser without a cache gets it; neither PostgreSQL nor Redis is asked."""

from locust import task

from users.weather_user import WeatherUser

FORM = b'<select id="location" name="location"'


class HomePage(WeatherUser):
    @task
    def open_form(self) -> None:
        with self.client.get("/", catch_response=True) as response:
            if response.status_code == 200 and FORM not in response.content:
                response.failure("wrong answer: no form with locations")

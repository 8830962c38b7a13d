"""Makes Locust's page what this package says, whichever Locust file is started."""

import sys
from typing import Any

import psutil
from flask import Response
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from prometheus_client import CONTENT_TYPE_LATEST

from page.environment import ConfigError
from page.guard import protect
from page.load import Load
from page.settings import LOOPBACK, Settings
from page.stack_tab import StackTab
from users.seconds import each_second


@events.init_command_line_parser.add_listener
def listen_on_loopback(parser: LocustArgumentParser) -> None:
    """Unless somebody asks for more; Locust's own default is every address of the machine."""
    parser.set_defaults(web_host=LOOPBACK)


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Runs before the page is served; workers and headless runs have none."""
    web_ui = environment.web_ui
    if web_ui is None:
        return
    try:
        settings = Settings.from_env(web_host=web_ui.host)
    except ConfigError as error:
        print(error, file=sys.stderr)
        for worker in psutil.Process().children():  # of --processes; Locust would leave them
            worker.terminate()
        sys.exit(2)
    load = Load()
    each_second.add_listener(load.add)
    StackTab(load, settings.flask_urls).add_to(web_ui)
    protect(web_ui, settings)

    @web_ui.app.get("/metrics")
    def metrics() -> Response:
        """For Prometheus, without a login: there is nothing in it but how much load runs."""
        return Response(load.exposition(), content_type=CONTENT_TYPE_LATEST)

"""The tab "Stack" of Locust's page, and the same at /stack: what the replicas do now."""

from collections.abc import Sequence
from functools import partial

from flask import Blueprint, Response, render_template, request
from locust.web import WebUI

from page.load import Load
from page.replicas import Replicas
from page.view import view

KEY = "stack"  # of the tab, in Locust's URLs
LONGEST = 2  # seconds: the last bound of the replicas' histograms


class StackTab:
    """Its routes and its place in Locust's page."""

    def __init__(self, load: Load, urls: Sequence[str]) -> None:
        self._load = load
        self._replicas = Replicas(urls)

    def add_to(self, web_ui: WebUI) -> None:
        """Register the routes and the tab; the page is not served yet."""
        stack = Blueprint(
            "stack",
            __name__,
            url_prefix=web_ui.environment.parsed_options.web_base_path,
            static_folder="static",
            static_url_path="/stack/static",
            template_folder="templates",
        )
        for path, template in (("/stack", "stack.html"), ("/stack/now", "now.html")):
            show = web_ui.auth_required_if_enabled(partial(self._show, template))
            stack.add_url_rule(path, template.partition(".")[0], show)
        web_ui.app.jinja_env.filters.update(number=_number, ms=_milliseconds, percent=_percent)
        web_ui.app.register_blueprint(stack)
        web_ui.app.after_request(_add_script)
        # Documented for tables, which stand still while no load runs; here a script fills the tab.
        web_ui.template_args["extended_tabs"] = [{"title": "Stack", "key": KEY}]

    def _show(self, template: str) -> str:
        urls = self._replicas.urls
        now = view(self._replicas.look(), self._load.edge) if urls else None
        return render_template(template, view=now, load=self._load)


def _add_script(response: Response) -> Response:
    """Locust's page has no place for a script, which the tab needs."""
    if request.endpoint == "locust.index" and response.mimetype == "text/html":
        tags = render_template("tags.html")
        response.set_data(response.get_data(as_text=True).replace("</head>", f"{tags}</head>", 1))
    return response


def _number(value: float | None) -> str:
    """A rate with a digit after the point where it is small; a dash where it is not known."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.1f}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    longest = seconds >= LONGEST
    return f"{'≥ ' if longest else ''}{float(f'{seconds * 1000:.3g}'):,g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}".replace("%", " %")

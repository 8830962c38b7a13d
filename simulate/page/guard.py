"""Who may use Locust's page: no other page in the user's browser, and with a login nobody without.

Locust itself answers every origin and every Host, so that any site that is open in the browser
could start load against any address.
"""

import hmac
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, redirect, request, session, url_for
from flask_login import LoginManager, UserMixin, login_user
from locust.web import WebUI
from werkzeug import Request, Response

from page.settings import Settings, is_address

OWN_SITE = ("same-origin", "none")  # of Sec-Fetch-Site; none: typed in, or a bookmark
SAFE_METHODS = ("GET", "HEAD")
# No frame of another page may hold this one: its buttons would be clicked in there unseen.
HEADERS = [("Content-Security-Policy", "frame-ancestors 'self'")]


def protect(web_ui: WebUI, settings: Settings) -> None:
    """Put the guard in front of the page, and a login where there is a password."""
    names = None if settings.password else {"localhost", socket.gethostname().lower()}
    web_ui.app.wsgi_app = Guard(web_ui.app.wsgi_app, names)
    if settings.password:
        _require_login(web_ui, settings)


class Guard:
    """WSGI middleware that refuses what another page sends, and lets no other page read.

    Techniques: a resource isolation policy by Fetch metadata (web.dev/articles/fetch-metadata);
    Origin for browsers that send none of these, as over plain HTTP from another machine; Host
    against DNS rebinding, by which another page reaches this one under its own name.
    """

    def __init__(self, app: Callable, names: set[str] | None) -> None:
        """``names``: hosts that the page answers to; None: all, as a session belongs to a host."""
        self._app = app
        self._names = names

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        request = Request(environ)
        problem = self._foreign_host(request.host) or _from_another_page(request)
        if problem:
            return Response(f"{problem}\n", 403)(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable:
            own = [pair for pair in headers if not pair[0].lower().startswith("access-control-")]
            return start_response(status, own + HEADERS, exc_info)

        return self._app(environ, start)

    def _foreign_host(self, host: str) -> str:
        name = _host_name(host)
        if self._names is None or name in self._names or is_address(name):
            return ""
        return (
            f"Host is {name}: this page answers to {', '.join(sorted(self._names))} and addresses,"
            " to other names only with a login (LOCUST_PASSWORD)"
        )


def _from_another_page(request: Request) -> str:
    headers = request.headers
    if _is_link(request.method, headers):
        return ""
    if headers.get("Sec-Fetch-Site", "none") not in OWN_SITE:
        return "another page may not use this one"
    origin = headers.get("Origin")
    if origin and urlsplit(origin).netloc.lower() != request.host.lower():
        return f"a page of {origin} may not use this one"
    return ""


def _is_link(method: str, headers: Mapping[str, str]) -> bool:
    """Whether the browser opens the page in a window of its own; no GET changes anything."""
    return (
        method in SAFE_METHODS
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and headers.get("Sec-Fetch-Dest") == "document"
    )


def _host_name(host: str) -> str:
    """Host without port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class Person(UserMixin):
    """The one who knows the password."""

    id = "person"


def _require_login(web_ui: WebUI, settings: Settings) -> None:
    """Locust's own login page, whose form comes here.

    Source: Locust's documentation, "Adding authentication to the web UI".
    """
    app = web_ui.app
    app.secret_key = secrets.token_bytes(32)  # a restart ends all sessions
    app.config.update(SESSION_COOKIE_NAME="locust_session", SESSION_COOKIE_SAMESITE="Lax")
    manager = LoginManager(app)
    manager.login_view = "locust.login"
    manager.user_loader(lambda name: Person() if name == Person.id else None)
    web_ui.web_login, web_ui.login_manager = True, manager
    base_path = web_ui.environment.parsed_options.web_base_path
    web_ui.auth_args = {"username_password_callback": f"{base_path}/login"}
    login = Blueprint("login", __name__, url_prefix=base_path)

    @login.post("/login")
    def check() -> Any:
        given = [request.form.get(name, "") for name in ("username", "password")]
        expected = [settings.user, settings.password]
        if hmac.compare_digest(repr(given).encode(), repr(expected).encode()):
            login_user(Person())
            return redirect(url_for("locust.index"))
        session["auth_error"] = "Wrong user or password"
        return redirect(url_for("locust.login"))

    app.register_blueprint(login)

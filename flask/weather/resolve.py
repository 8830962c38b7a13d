"""Looks host names up within a deadline: libpq's own look-up stops every request of a worker."""

import os
import socket
import threading
from concurrent.futures import Future
from ipaddress import ip_address
from time import monotonic

# By name. One look-up at a time: while DNS is silent each holds a thread of gevent's ten.
_lookups: dict[str, Future] = {}
os.register_at_fork(after_in_child=_lookups.clear)  # those of gunicorn's master end only there


def resolve(host: str, deadline: float) -> list[str]:
    """The addresses of a host, best first; a look-up that is under way is joined.

    Raises socket.gaierror, or TimeoutError at ``deadline``, in seconds of time.monotonic(); the
    look-up then goes on.
    """
    if _is_address(host):
        return [host]
    own = Future()
    lookup = _lookups.setdefault(host, own)
    if lookup is own:
        threading.Thread(target=_look_up, args=(host, own), daemon=True).start()
    try:
        return lookup.result(max(0.0, deadline - monotonic()))
    except TimeoutError:
        raise TimeoutError(f'the name "{host}" was not resolved in time') from None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, lookup: Future) -> None:
    try:  # bytes: Python would check text as an international name, with errors of its own
        found = socket.getaddrinfo(os.fsencode(host), None, type=socket.SOCK_STREAM)
    except Exception as error:
        del _lookups[host]
        lookup.set_exception(error)
    else:
        del _lookups[host]
        lookup.set_result([address[0] for *_, address in found])

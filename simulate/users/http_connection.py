"""A kept-alive HTTP connection on a gevent socket: all that a virtual user needs, at little CPU."""

import re
import ssl
from urllib.parse import urlsplit

from gevent import socket

RECEIVE = 65536  # bytes; an answer to a query has about 600
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class ProtocolError(Exception):
    """The server sent something that is not a complete answer."""


class Server:
    """Where a base URL leads: looked up once, for thousands of connections."""

    def __init__(self, base_url: str) -> None:
        """Raises OSError where the name can't be looked up or nobody listens."""
        address = urlsplit(base_url)
        self.name = address.netloc
        self._hostname = address.hostname
        self._tls = ssl.create_default_context() if address.scheme == "https" else None
        port = address.port or (443 if self._tls else 80)
        with socket.create_connection((address.hostname, port)) as probe:
            self._family, self._address = probe.family, probe.getpeername()

    def connect(self, timeout: float) -> socket.socket:
        """A connected socket whose operations take ``timeout`` seconds each at most."""
        connection = socket.socket(self._family)
        try:
            connection.settimeout(timeout)
            connection.connect(self._address)
            if self._tls:
                return self._tls.wrap_socket(connection, server_hostname=self._hostname)
        except OSError:
            connection.close()
            raise
        return connection


class Headers:
    """The head of an answer, searched only for what somebody asks for."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def get(self, name: str, default: str = "") -> str:
        """The value of a header as it is written, or ``default``."""
        start = self._head.find(b"\r\n%b: " % name.encode())
        if start < 0:
            return default
        start += len(name) + 4
        return self._head[start : self._head.index(b"\r\n", start)].decode("latin-1")


class Response:
    """One answer; ``headers`` finds names in the case that the server writes."""

    def __init__(self, head: bytes, content: bytes) -> None:
        self.status_code = int(head[9:12])
        self.headers = Headers(head)
        self.content = content


class HttpConnection:
    """Sends one request after the other; after a failure the next one connects anew."""

    def __init__(self, server: Server, timeout: float) -> None:
        self._server = server
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def exchange(self, request: bytes) -> Response:
        """Send a request and receive its answer; raises OSError, ProtocolError.

        A request is never sent twice, so the numbers of the client and the server agree.
        """
        if self._socket is None:
            self._socket = self._server.connect(self._timeout)
        try:
            self._socket.sendall(request)
            return self._receive()
        except BaseException:  # a stopped user, too, leaves half an answer behind
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _receive(self) -> Response:
        data = self._more(b"")
        while (end := data.find(b"\r\n\r\n")) < 0:
            data = self._more(data)
        head = data[: end + 2]
        length = CONTENT_LENGTH.search(head)
        if not (head.startswith(b"HTTP/1.1 ") and length):
            raise ProtocolError("not an HTTP/1.1 answer with a Content-Length")
        size = end + 4 + int(length[1])
        while len(data) < size:
            data = self._more(data)
        if len(data) > size:
            raise ProtocolError("more bytes than the answer's Content-Length")
        if b"\r\nConnection: close\r\n" in head:
            self.close()
        return Response(head, data[end + 4 :])

    def _more(self, data: bytes) -> bytes:
        received = self._socket.recv(RECEIVE)
        if not received:
            raise ProtocolError("the connection was closed before the answer was complete")
        return data + received


def request_bytes(
    method: str, host: str, path: str, headers: dict[str, str], body: bytes = b""
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: locust"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body

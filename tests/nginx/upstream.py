"""A small upstream that echoes what it was asked.

Query parameters choose how it answers, or the header X-Answer, written as those are.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = 0

    def do_GET(self):
        Handler.served += 1
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query) + parse_qsl(self.headers.get("X-Answer", "")))
        if "cut" in query:  # the request is here, its answer never comes
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        answer = {
            "name": self.server.name,
            "served": Handler.served,
            "connection": self.client_address[1],
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body,
            "padding": "x" * int(query.get("padding", 0)),
        }
        payload = json.dumps(answer).encode()
        self.send_response(int(query.get("status", 200)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("X-Served-By", self.server.name)
        self.send_header("X-Cache", "miss")
        for header in ("x-accel-expires", "retry-after", "referrer-policy", "x-refused-by"):
            if header in query:
                self.send_header(header, query[header])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    do_POST = do_HEAD = do_GET  # noqa: N815 - names that http.server calls

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    name = sys.argv[1]
    request_queue_size = 128


with Server(("127.0.0.1", int(sys.argv[2])), Handler) as server:
    print("listens", flush=True)
    server.serve_forever()

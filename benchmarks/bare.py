"""The least that Flask can do: what it answers is made before the request comes."""

from flask import Flask, Response

BODY = b'{"location":"Port Michael","average_temperature":15.22,"records":6500}\n'

app = Flask(__name__)


@app.get("/health-check")
@app.post("/query")
def ok() -> Response:
    return Response(BODY, content_type="application/json")

"""Asks one URL in a loop, as Locust's users without think time: how much CPU does a request take?

Its own process, as Locust patches the standard library. Prints a line of JSON.
"""

import argparse
import json
import time

import gevent
from locust import FastHttpUser
from locust.env import Environment

from users.api import QUERY_HEADERS, QUERY_PATH, query_body, query_request
from users.http_connection import HttpConnection, Server

USERS = 64
LOCATION = "Port Michael"
TIMEOUT = 10.0  # seconds


def locusts_own(environment: Environment):
    user = FastHttpUser(environment)
    body = query_body(LOCATION)

    def ask() -> None:
        options = {"headers": QUERY_HEADERS, "catch_response": True}
        with user.client.post(QUERY_PATH, data=body, **options) as response:
            if response.status_code != 200 or not response.content:
                response.failure("no answer")

    return ask


def ours(environment: Environment):
    server = Server(environment.host)
    connection = HttpConnection(server, TIMEOUT)
    request = query_request(server.name, LOCATION)

    def ask() -> None:
        started = time.perf_counter()
        response = connection.exchange(request)
        failure = None if response.status_code == 200 and response.content else "no answer"
        environment.events.request.fire(
            request_type="POST",
            name=QUERY_PATH,
            response_time=(time.perf_counter() - started) * 1000,
            response_length=len(response.content),
            response=response,
            exception=failure,
            context={},
        )

    return ask


# What makes a function that asks once.
CLIENTS = {"FastHttpUser": locusts_own, "HttpConnection": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()

    environment = Environment(host=arguments.url, user_classes=[FastHttpUser])
    environment.create_local_runner()
    FastHttpUser.host = arguments.url
    end = time.perf_counter() + arguments.seconds

    def loop(ask) -> None:
        while time.perf_counter() < end:
            ask()

    users = [CLIENTS[arguments.client](environment) for _ in range(USERS)]
    cpu = time.process_time()
    gevent.joinall([gevent.spawn(loop, ask) for ask in users], raise_error=True)
    cpu = time.process_time() - cpu
    total = environment.stats.total
    if total.num_failures:
        raise SystemExit(f"{total.num_failures} of {total.num_requests} requests failed")
    requests = total.num_requests
    result = {
        "requests_per_second": requests / arguments.seconds,
        "cpu_us": 1e6 * cpu / requests,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

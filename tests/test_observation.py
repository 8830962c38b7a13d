"""What shows from the inside of a whole stack: metrics, and a request's way through the logs."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from databases import connect
from polling import poll
from stacks import running_stack


def test_each_replica_has_metrics_and_nginx_hides_them(stack):
    for replica in stack.replicas:
        with urlopen(replica.url + "/metrics", timeout=10) as answer:
            assert b"weather_http_requests_total{" in answer.read()
    with pytest.raises(HTTPError) as error:
        urlopen(stack.url + "/metrics", timeout=10)
    with error.value as answer:
        assert answer.code == 404


def ask(url):
    body = json.dumps({"location": "Port Michael"}).encode()
    request = Request(url + "/query", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        return answer.status


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def test_a_slow_request_is_followed_from_nginx_to_sql():
    with (
        running_stack(LOG_FORMAT="json", TOTAL_RECORDS=2000, CACHE="false") as stack,
        closing(connect(stack.client_environ)) as blocker,
        closing(connect(stack.client_environ)) as observer,
        ThreadPoolExecutor() as threads,
    ):
        observer.autocommit = True
        for _ in range(10):  # each replica's next connection has prepared the statement
            assert ask(stack.url) == 200
        blocker.cursor().execute("LOCK TABLE weather_data IN ACCESS EXCLUSIVE MODE")
        request = threads.submit(ask, stack.url)

        def slow_query():
            cursor = observer.cursor()
            cursor.execute(
                "SELECT query FROM pg_stat_activity WHERE wait_event = 'relation'"
                " AND clock_timestamp() - query_start > '1 s'"
            )
            return cursor.fetchone()

        [sql] = poll(slow_query)
        blocker.rollback()
        assert request.result() == 200
        request_id = re.fullmatch(r"EXECUTE .* /\*request_id='([0-9a-f]{32})'\*/", sql)[1]

        def logged(name):
            found = lines(stack.log_dir / f"{name}.log")
            return [line for line in found if line.get("request_id") == request_id]

        [access] = poll(lambda: logged("nginx"))
        assert access["request"] == "POST /query HTTP/1.1"
        assert access["seconds"] > 1
        [line] = [line for replica in stack.replicas for line in logged(replica.name)]
        assert re.fullmatch(r"slow: /query 200 took 1\.\d\d s", line["message"])

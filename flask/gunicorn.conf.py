"""gunicorn's settings; too small a database ends it before a worker starts."""

import logging
import sys

from weather import shared_metrics
from weather.connection_budget import budget_problem
from weather.logs import Logger, log_config
from weather.settings import load_settings
from weather.waiting import UnavailableError

_settings = load_settings()

wsgi_app = "wsgi:app"
bind = "0.0.0.0:5000"
backlog = 4096  # a burst of new connections waits instead of failing; the kernel may lower it
workers = _settings.web_concurrency
# A greenlet for each connection: whoever waits for PostgreSQL holds no thread that the form or
# /health-check would need, and bare Flask answers 1.6 times as much as with sync workers.
worker_class = "weather.worker.OneWriteWorker"  # gevent
worker_connections = 2000  # nginx and clients keep their connections open
limit_request_line = 8190  # bytes, the highest; nginx refuses less, with an error like the app's
keepalive = 75  # seconds; longer than nginx keeps an idle upstream connection (15)
timeout = 30  # seconds without a sign of life until the master kills a worker
graceful_timeout = 20  # seconds for requests under way at a stop; Compose kills after 30
worker_tmp_dir = shared_metrics.MEMORY  # so that the workers' sign of life never waits for a disk
control_socket_disable = True  # nobody uses it, and the root file system is read-only
accesslog = None  # nginx keeps the access log
logging.captureWarnings(True)  # they are log lines, too
logger_class = Logger
logconfig_dict = log_config(_settings.log_format)


def on_starting(server):
    try:
        problem = budget_problem(_settings)
    except UnavailableError as error:
        server.log.warning("the connection budget could not be checked: %s", error)
        return
    if problem:
        shared_metrics.remove()  # on_exit() does not follow
        print(problem, file=sys.stderr)
        sys.exit(1)


def child_exit(server, worker):
    shared_metrics.forget(worker.pid)


def on_exit(server):
    shared_metrics.remove()

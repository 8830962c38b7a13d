"""CPU, memory and network of the container whose processes it shares (Compose: pid: "service:db").

It needs no privilege: /proc shows these figures of every process to every user.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PORT = 9100
FIRST = (
    1  # the container's first process; all that it started descend from it, this program does not
)
NETWORK = Path(f"/proc/{FIRST}/net/dev")


class Container(Collector):
    """What the container has used since it started."""

    def __init__(self) -> None:
        self._cpu = 0.0

    def collect(self) -> Iterator[Metric]:
        """One metric each; the units are in the names."""
        cpu, memory = _cpu_and_memory()
        # A process that ends while it is read is in no sum; the counter must not fall for that.
        self._cpu = max(self._cpu, cpu)
        received, sent = _network()
        machine = psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
        counters = {
            "container_cpu_seconds": ("CPU time of all its processes", self._cpu),
            "container_network_receive_bytes": ("Received, without loopback", received),
            "container_network_transmit_bytes": ("Sent, without loopback", sent),
            "machine_cpu_seconds": ("CPU time of the whole machine", busy),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(name, text, value)
        gauges = {
            "container_memory_bytes": ("Memory of its processes, what they share once", memory),
            "machine_cores": ("Cores of the machine", psutil.cpu_count()),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value)


def _cpu_and_memory() -> tuple[float, int]:
    """Seconds of all processes, ended ones included, and bytes."""
    first = psutil.Process(FIRST)
    cpu, own, shared = 0.0, 0, 0
    for process in [first, *first.children(recursive=True)]:
        try:
            cpu += sum(process.cpu_times()[:4])  # its own, and of its children that ended
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        own += memory.rss - memory.shared
        shared = max(shared, memory.shared)
    return cpu, own + shared


def _network() -> tuple[int, int]:
    """Bytes received and sent by all interfaces but loopback; the layout is that of proc(5)."""
    received = sent = 0
    for line in NETWORK.read_text().splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            fields = numbers.split()
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(Container())
    ProcessCollector(registry=registry)  # what it takes itself
    _, thread = start_http_server(PORT, registry=registry)
    thread.join()

#!/usr/bin/env python3
"""What a number of users needs on AWS: settings for Terraform, vCPU, connections, dollars.

The formulas and prices are those of README.md (Scale, Costs), which a test compares with these; the
measurements behind them are said there. Needs Python alone.
"""

import argparse
import sys
from dataclasses import dataclass
from math import ceil

FLASK_RATE = 500  # requests/s of a flask task of 1 vCPU, half of it Service Connect's proxy
EDGE_RATE = 4500  # requests/s of an nginx task of 1 vCPU from the edge cache; half of it passed on
LOCUST_RATE = 1000  # requests/s of a Locust worker of 1 vCPU
THINK_TIME = 1.5  # seconds between two requests of a user
CACHE_EXPIRY = 300  # seconds until a location is asked for again
LOCATIONS = 13309
PATTERNS = ("random", "fixed", "weighted", "zipf")
HOT_SPOTS = 5  # locations that get all requests of the pattern "weighted"
POOLS = (15, 5)  # connections of a flask task; the smaller one where RDS has too few for the other
MOST_WORKERS = 100  # that locust_workers may be
RESERVED_CONNECTIONS = 10
MAX_CONNECTIONS = 5000  # of any RDS class

# Class and memory in GiB, smallest first; max_connections follow from the memory.
CLASSES = [
    ("db.t4g.medium", 4),
    ("db.m7g.large", 8),
    ("db.r7g.large", 16),
    ("db.r7g.xlarge", 32),
    ("db.r7g.2xlarge", 64),
    ("db.r7g.4xlarge", 128),
]

# US dollars an hour in us-east-1, on demand.
TASK = 0.04048 + 2 * 0.004445  # 1 vCPU, 2 GB
CLASS_PRICES = {"db.t4g.medium": 0.065, "db.m7g.large": 0.168}
GIB = 0.115 / 730
CACHE_NODE, LOAD_BALANCER, NAT, ADDRESS, METRIC, SECRET = (
    0.0128, 0.0225, 0.045, 0.005, 0.30 / 730, 0.40 / 730,
)  # fmt: skip
LOG_GB, LCU, NAT_GB = 0.50, 0.008, 0.045
ADDRESSES, METRICS, SECRETS = 3, 63, 3


class PlanError(Exception):
    """No such stack; the message says what to change."""


@dataclass(frozen=True)
class Plan:
    """A stack for so many users, with Locust in the cluster."""

    requests: float  # per second
    flask: int
    flask_max: int
    nginx: int
    nginx_max: int
    locust: int  # workers
    edge_cache: bool
    records: int
    db_class: str
    storage: int  # GiB
    pool: int  # connections of a flask task
    connections: int  # that flask's tasks open at most, with the reserved ones

    @property
    def vcpu(self) -> int:
        """At the start, with Locust's master and a job."""
        return self.flask + self.nginx + self.locust + 3

    @property
    def vcpu_most(self) -> int:
        """With all tasks that the autoscaling may start, while flask is deployed."""
        return ceil(1.5 * self.flask_max) + self.nginx_max + self.locust + 3

    @property
    def idle(self) -> float | None:
        """Dollars an hour without Locust and load; None where README has no price of the class."""
        if self.db_class not in CLASS_PRICES:
            return None
        return (
            (self.flask + self.nginx) * TASK
            + CLASS_PRICES[self.db_class]
            + self.storage * GIB
            + (CACHE_NODE + LOAD_BALANCER + NAT)
            + ADDRESSES * ADDRESS
            + METRICS * METRIC
            + SECRETS * SECRET
        )

    @property
    def load(self) -> float:
        """Dollars that an hour of load adds: Locust's tasks, the access log, the way there."""
        return load_dollars(self.locust + 1, 1, self.requests * 3600)


def locust_workers(users: int) -> int:
    """Tasks of Locust that so many users need, without the master."""
    return ceil(users / THINK_TIME / LOCUST_RATE) + 1


def load_dollars(tasks: int, hours: float, requests: float) -> float:
    """What load costs: Locust's tasks for so many hours, the access log, the way to the stack.

    A request is 1 KB, and 300 bytes in the log.
    """
    gigabytes = requests * 1000 / 1e9
    return tasks * hours * TASK + gigabytes * (0.3 * LOG_GB + LCU + NAT_GB)


def make_plan(users: int, records: int, edge_cache: bool, pattern: str) -> Plan:
    """Raises PlanError when no class of RDS takes the connections or holds the index."""
    requests = users / THINK_TIME
    nginx = ceil(requests / (EDGE_RATE if edge_cache else EDGE_RATE / 2)) + 2
    asked = requests
    if edge_cache:  # each nginx task asks for each location once until the answer expires
        asked = min(requests, nginx * _locations(pattern, users) / CACHE_EXPIRY)
    flask = max(3, ceil(asked / (0.75 * FLASK_RATE)) + 1)
    flask_max = ceil(1.5 * flask)
    pool, connections, db_class = _database(ceil(1.5 * flask_max), records)
    return Plan(
        requests=requests,
        flask=flask,
        flask_max=flask_max,
        nginx=nginx,
        nginx_max=ceil(1.5 * nginx),
        locust=locust_workers(users),
        edge_cache=edge_cache,
        records=records,
        db_class=db_class,
        storage=max(20, ceil(6 * records / 1e7)),
        pool=pool,
        connections=connections,
    )


def _locations(pattern: str, users: int) -> int:
    """How many locations the users of a pattern ask for."""
    if pattern == "weighted":
        return HOT_SPOTS
    return min(LOCATIONS, users) if pattern == "fixed" else LOCATIONS


def _database(tasks: int, records: int) -> tuple[int, int, str]:
    """Pool of a flask task, connections of all, and the class that takes them."""
    index = 1.28 * records / 1e7  # GiB of memory that keep the covering index there
    for pool in POOLS:
        connections = tasks * pool + RESERVED_CONNECTIONS
        for name, memory in CLASSES:
            allowed = min(memory * 1024**3 // 9531392, MAX_CONNECTIONS)
            if memory >= index and allowed >= connections:
                return pool, connections, name
    raise PlanError(
        f"no RDS class takes {connections} connections and keeps the index of {records} records"
        " in memory: expected --edge-cache, fewer users or fewer records"
    )


def describe(plan: Plan, minutes: int) -> str:
    """The settings as terraform.tfvars takes them; what they come to in comments."""
    settings = {
        "flask_count": plan.flask,
        "flask_max_count": plan.flask_max,
        "nginx_count": plan.nginx,
        "nginx_max_count": plan.nginx_max,
        "nginx_cpu": 1024,
        "nginx_memory": 2048,
        "db_instance_class": f'"{plan.db_class}"',
        "db_allocated_storage": plan.storage,
        "pool_maxconn": plan.pool,
        "total_records": plan.records,
        "edge_cache": str(plan.edge_cache).lower(),
        "locust_workers": min(plan.locust, MOST_WORKERS),
    }
    width = max(map(len, settings))
    lines = [f"{name:{width}} = {value}" for name, value in settings.items()]
    if plan.idle is None:
        cost = f"# dollars: README.md has no price of {plan.db_class}"
    else:
        hour = plan.idle + plan.load
        cost = (
            f"# dollars: {plan.idle:.2f} an hour idle, {hour:.2f} under load,"
            f" {hour * minutes / 60:.2f} for {minutes} minutes of load"
        )
    return "\n".join(
        [
            f"# {plan.requests:,.0f} requests/s",
            f"# vCPU on Fargate: {plan.vcpu}; {plan.vcpu_most} at the autoscaling's limits",
            f"# connections: {plan.connections}",
            f"# Locust workers: {plan.locust}; one deployment has at most {MOST_WORKERS}",
            cost,
            *lines,
        ]
    )


def whole(text: str) -> int:
    """A whole number of at least 1; underscores and commas are allowed in it."""
    try:
        number = int(text.replace(",", ""))
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected a whole number of at least 1")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Print the plan; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=whole, default=10_000)
    parser.add_argument("--records", type=whole, default=10_000_000)
    parser.add_argument("--edge-cache", action="store_true")
    parser.add_argument("--pattern", choices=PATTERNS, default="random")
    parser.add_argument("--minutes", type=whole, default=15, help="of load, for the costs")
    options = parser.parse_args(arguments)
    try:
        plan = make_plan(options.users, options.records, options.edge_cache, options.pattern)
    except PlanError as error:
        print(f"plan.py: {error}", file=sys.stderr)
        return 1
    print(describe(plan, options.minutes))
    return 0


if __name__ == "__main__":
    sys.exit(main())

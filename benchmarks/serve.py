"""Measures how fast the stack answers, against what its parts could do at best, on one machine.

All variants run on the same PostgreSQL and Valkey, one after the other in each round, so that a slow
minute of the machine hits each of them; the claims are ratios within a round.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / folder) for folder in ("local", "simulate", "flask")]

import open_loop
import psycopg2
from bare import BODY
from machine import describe
from processes import free_ports
from proxy import Nginx
from stack import Replica, Stack

CONNECTIONS = 64
LOCATIONS = 1000
FIXED_RATE = 800  # requests/s


@dataclass(frozen=True)
class Variant:
    """One way to answer a query."""

    name: str
    folder: str = "flask"
    app: str = "wsgi:app"
    edge_cache: str = "off"
    cache: str = "true"


BARE = Variant("bare Flask", folder="benchmarks", app="bare:app")
EDGE = Variant("edge cache", edge_cache="on")
REDIS = Variant("Redis")
SQL = Variant("PostgreSQL", cache="false")
VARIANTS = (BARE, EDGE, REDIS, SQL)
REPLICAS = (3, 1)


@contextmanager
def constant_server(folder: Path, stack: Stack) -> Iterator[str]:
    """nginx with the stack's own main configuration, answering BODY itself."""
    nginx = Nginx(folder, free_ports(1)[0], ["127.0.0.1:1"], os.environ, stack.user)
    answer = BODY.decode().strip()
    (folder / "default.conf").write_text(
        "server {\n    include listen.conf;\n    location / {\n"
        f"        default_type application/json;\n        return 200 '{answer}';\n    }}\n}}\n"
    )
    with nginx:
        yield nginx.url


@contextmanager
def variant_server(folder: Path, stack: Stack, variant: Variant, replicas: int) -> Iterator[str]:
    """Replicas of a variant behind an nginx of their own, on the stack's databases."""
    environ = os.environ | stack.client_environ
    environ |= {"CACHE": variant.cache, "EDGE_CACHE": variant.edge_cache}
    started = [
        Replica(f"{variant.app}-{port}", port, folder, environ, ROOT / variant.folder, variant.app)
        for port in free_ports(replicas)
    ]

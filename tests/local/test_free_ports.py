"""Two stacks that start at the same time never get the same port."""

import os
import subprocess
import sys

import pytest
from processes import free_ports

TAKE_THE_FIRST_FREE = """
import random, sys
random.sample = lambda ports, count: [int(sys.argv[1]), *range(10_240, 10_300)]
from processes import free_ports
print(free_ports(1)[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reservations need Linux's abstract sockets")
def test_a_port_that_is_promised_to_one_process_is_not_given_to_another():
    (port,) = free_ports(1)  # nobody listens there yet
    other = subprocess.run(
        [sys.executable, "-c", TAKE_THE_FIRST_FREE, str(port)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(other.stdout) != port

"""Becomes a command where every look-up of a name waits for a DNS server that never answers.

Run by `unshare --mount --net`, as root or with --map-root-user.
"""

import os
import socket
import struct
import subprocess
import sys
import tempfile
from fcntl import ioctl

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)
FILES = {
    "/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:30 attempts:2\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ioctl(server, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
server.bind(("127.0.0.1", 53))
server.set_inheritable(True)  # the command holds it open, and never reads
for path, text in FILES.items():
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        os.chmod(file.name, 0o644)
        subprocess.run(["mount", "--bind", file.name, path], check=True)
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell is wanted

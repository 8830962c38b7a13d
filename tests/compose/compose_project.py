"""A Compose project of a test's own."""

import json
import os
import re
import subprocess
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from processes import free_ports

ROOT = Path(__file__).parents[2]
PORTS = ("NGINX_PORT", "FLASK_PORT", "LOCUST_PORT", "PROMETHEUS_PORT")


class Project:
    """A Compose project on free ports that neither .env nor the shell's settings reach."""

    def __init__(self, name, **settings):
        names = re.findall(r"^([A-Z_]+)=", (ROOT / ".env.sample").read_text(), re.MULTILINE)
        self.env = {k: v for k, v in os.environ.items() if k not in names}
        self.env |= {"COMPOSE_PROJECT_NAME": f"{name}-{os.getpid()}"}
        ports = map(str, free_ports(len(PORTS)))
        self.env |= dict(zip(PORTS, ports, strict=True)) | settings
        self.url = f"http://127.0.0.1:{self.env['NGINX_PORT']}"

    def start(self, *arguments):
        """A docker compose command that goes on while the test does."""
        command = ["docker", "compose", "--env-file", os.devnull, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=self.env, stdout=pipe, stderr=pipe, text=True
        )

    def compose(self, *arguments, check=True):
        """A docker compose command that has ended."""
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate()
        result = subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)
        if check and result.returncode:
            pytest.fail(f"docker compose {' '.join(arguments)}: {result.stderr[-4000:]}")
        return result

    def up(self):
        """Start everything; returns when everything is healthy."""
        result = self.compose("up", "--wait", check=False)
        if result.returncode:
            logs = self.compose("logs", "--tail", "20", check=False).stdout
            pytest.fail(f"up failed: {result.stderr[-2000:]}\n{logs[-6000:]}")

    def down(self):
        """Remove everything, with the volumes."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "5")

    def inspect(self, service):
        container = self.compose("ps", "--all", "--quiet", service).stdout.strip()
        return json.loads(subprocess.check_output(["docker", "inspect", container]))[0]

    def network(self, name):
        """What Docker calls a network of the project."""
        return f"{self.env['COMPOSE_PROJECT_NAME']}_{name}"

    def address(self, service, network):
        """IPv4 address of a container in one of its networks."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return networks[self.network(network)]["IPAddress"]

    def exec(self, service, *command, check=True):
        return self.compose("exec", "-T", service, *command, check=check)

    def get(self, path, **headers):
        with urlopen(Request(self.url + path, headers=headers), timeout=10) as response:
            return response.headers, response.read().decode()

    def serving(self):
        try:
            return self.get("/health-check")[0]["X-Served-By"]
        except (URLError, OSError):
            return None

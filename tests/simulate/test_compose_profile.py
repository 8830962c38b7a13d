"""Locust in containers: its image, and the profile simulate in docker-compose.yaml."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCUST = {"locust", "locust-worker"}


def services(*options):
    command = ["docker", "compose", "--env-file", os.devnull, *options, "config"]
    result = subprocess.run(
        [*command, "--format", "json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(result.stdout)["services"]


@pytest.fixture(scope="module")
def profile(docker_engine):
    return services("--profile", "simulate")


def test_locust_starts_only_with_the_profile(profile):
    assert not LOCUST & services().keys()
    assert profile.keys() - services().keys() == LOCUST


@pytest.mark.parametrize("name", sorted(LOCUST))
def test_hardened_and_without_a_way_to_the_database(profile, name):
    service = profile[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["mem_limit"]) > 0
    assert list(service["networks"]) == ["frontnet"]


def test_only_the_page_is_published_and_on_loopback(profile):
    (port,) = profile["locust"]["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8089", 8089)
    assert "ports" not in profile["locust-worker"]


def test_one_image_serves_page_and_workers(profile):
    assert len({profile[name]["image"] for name in LOCUST}) == 1
    assert "build" not in profile["locust-worker"]


def test_the_image_has_all_that_its_locust_files_import(docker_engine):
    build = ["docker", "build", "--quiet", ROOT / "simulate"]
    image = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    run = ["docker", "run", "--rm", "--read-only", image]
    listed = subprocess.run(
        [*run, "locust", "--config", "simulate/locust.conf", "--list"],
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    files = (ROOT / "simulate").glob("**/*-*.py")  # only Locust files have a dash in their names
    sources = "".join(path.read_text() for path in files)
    assert set(re.findall(r"^ +(\w+)$", listed.stdout, re.M)) == set(
        re.findall(r"^class (\w+)", sources, re.M)
    )

"""What comes from elsewhere: pinned, watched by Dependabot, run as root only if it is root's."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# Other images are pinned to a minor version; why these are not: docs/decisions.md.
MAJOR = {"postgres": r"\d+", "redis": r"\d+-alpine"}
MINOR = r"\d+\.\d+(-\w+)?|v?\d+\.\d+\.\d+"


def folders(pattern):
    """The folders, from the root, that have such a file."""
    return {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}


def images():
    """Every image that a Dockerfile or Compose names and that is not built here."""
    for path in ROOT.glob("[!.]*/**/Dockerfile"):
        yield from re.findall(r"^FROM (\S+)", path.read_text(), re.M)
    for path in ROOT.glob("docker-compose*.yaml"):
        services = yaml.safe_load(path.read_text())["services"].values()
        names = {service["image"] for service in services if "image" in service}
        yield from (name for name in names if not name.startswith("weather-"))


def test_every_image_from_elsewhere_is_pinned():
    found = {image.partition(":")[::2] for image in images()}
    assert {"python", "postgres", "redis", "nginxinc/nginx-unprivileged"} <= {
        name for name, _ in found
    }
    loose = [pin for pin in found if not re.fullmatch(MAJOR.get(pin[0], MINOR), pin[1])]
    assert not loose


def test_an_image_has_one_version_everywhere():
    found = set(images())
    assert len(found) == len({image.partition(":")[0] for image in found})


def test_dependabot_watches_every_folder():
    text = (ROOT / ".github" / "dependabot.yml").read_text()
    watched = {}
    for entry in yaml.safe_load(text)["updates"]:
        directories = entry.get("directories") or [entry["directory"]]
        watched[entry["package-ecosystem"]] = {path.strip("/") or "." for path in directories}
    assert watched == {
        "pip": folders("[!.]*/requirements.in") | folders("[!.]*/*/*.in"),
        "docker": folders("[!.]*/**/Dockerfile"),
        "docker-compose": folders("docker-compose.yaml"),
        "github-actions": {"."},
        "terraform": folders("[!.]*/versions.tf"),
    }


def actions():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        yield from re.findall(r"uses: (.+)$", path.read_text(), re.M)


def test_actions_are_pinned_by_commit():
    """A tag can be moved by whoever takes over its repository. Dependabot moves both."""
    assert list(actions())
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")
    assert not [action for action in actions() if not pinned.fullmatch(action)]


def test_terraforms_lock_file_is_tracked_where_there_is_one():
    ignored = ["git", "check-ignore", "--quiet", "terraform/.terraform.lock.hcl"]
    assert subprocess.run(ignored, cwd=ROOT).returncode == 1


@pytest.fixture
def engine(tmp_path):
    """Runs a checkout's .ci/run without Docker, with an engine helper beside it."""
    shutil.copytree(ROOT / ".ci", tmp_path / "checkout" / ".ci")
    helper = tmp_path / "shared" / "engine" / "up"
    helper.parent.mkdir(parents=True)
    helper.write_text("#!/bin/sh\necho the helper ran\n")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, code in {"docker": 1, "sudo": 1, "make": 0, "terraform": 0, "chromium": 0}.items():
        (commands / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (commands / name).chmod(0o755)
    for path in (tmp_path / "shared", helper.parent, helper):
        path.chmod(0o755)

    def run():
        path = f"{commands}:{os.environ['PATH']}"
        script = tmp_path / "checkout" / ".ci" / "run"
        return subprocess.run([script], env={"PATH": path}, capture_output=True, text=True)

    return run


def refused(result):
    return (
        result.returncode == 1
        and "the helper ran" not in result.stdout
        and "others than root can change it: not started" in result.stderr
    )


def test_ci_starts_an_engine_helper_of_root_alone(engine):
    result = engine()
    if os.geteuid() == 0:
        assert (result.returncode, result.stdout) == (0, "the helper ran\n"), result.stderr
    else:  # the test's files are this user's
        assert refused(result)


@pytest.mark.parametrize("part", ["shared", "shared/engine", "shared/engine/up"])
def test_ci_starts_no_engine_helper_that_others_can_change(engine, tmp_path, part):
    (tmp_path / part).chmod(0o777)
    assert refused(engine())


@pytest.mark.parametrize("part", ["shared", "shared/engine", "shared/engine/up"])
def test_ci_starts_no_engine_helper_of_somebody_else(engine, tmp_path, part):
    if os.geteuid() == 0:
        os.chown(tmp_path / part, 10001, 10001)
    assert refused(engine())

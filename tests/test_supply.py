"""What comes from elsewhere: base images are pinned, and Dependabot watches every folder."""

import re
from pathlib import Path

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

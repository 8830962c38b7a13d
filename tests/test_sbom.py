"""sbom.py on made-up file systems of images; test_build_script.py has it on the real ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bills import DEBIAN, assert_valid, image

SBOM = Path(__file__).parents[1] / "sbom.py"

ALPINE = {
    "etc/os-release": "ID=alpine\nVERSION_ID=3.22.1\n",
    "lib/apk/db/installed": "C:Q1x=\nP:musl\nV:1.2.5-r10\nA:x86_64\nF:lib\n\n"
    "P:nginx\nV:1.30.0-r1\nA:x86_64\n\n",
}
PYTHON = {
    "./usr/local/include/python3.14/patchlevel.h": '#define PY_VERSION             "3.14.1"\n',
    "usr/local/lib/python3.14/site-packages/zope_event-6.2.dist-info/METADATA": "Name: zope.event\n"
    "Version: 6.2\n\nVersion: of the description\n",
    "usr/local/lib/python3.14/site-packages/a.py": "Name: not_a_package\nVersion: 1\n",
}


def run(stdin):
    return subprocess.run([sys.executable, SBOM, "flask", "v1"], input=stdin, capture_output=True)


def purls(files):
    result = run(image(files))
    assert result.returncode == 0, result.stderr
    assert_valid(result.stdout.decode())
    return [c["purl"] for c in json.loads(result.stdout)["components"] if "purl" in c]


def test_debian_packages_that_are_installed():
    assert purls(DEBIAN) == [
        "pkg:deb/debian/attr@1:2.5.2%2Bb1~rc1?arch=amd64&distro=debian-13",
        "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=debian-13",
    ]


@pytest.mark.parametrize("folder", ["lib", "usr/lib"])  # the second one since Alpine 3.23
def test_alpine_packages(folder):
    moved = {name.replace("lib/apk", f"{folder}/apk"): text for name, text in ALPINE.items()}
    assert purls(moved) == [
        "pkg:apk/alpine/musl@1.2.5-r10?arch=x86_64&distro=alpine-3.22.1",
        "pkg:apk/alpine/nginx@1.30.0-r1?arch=x86_64&distro=alpine-3.22.1",
    ]


def test_python_and_its_packages_beside_those_of_the_distribution():
    found = purls(DEBIAN | PYTHON)
    assert found[-2:] == ["pkg:generic/python@3.14.1", "pkg:pypi/zope-event@6.2"]
    assert len(found) == 4


def test_the_bill_names_the_image_and_its_operating_system():
    bill = json.loads(run(image(DEBIAN)).stdout)
    assert bill["metadata"]["component"]["name"] == "flask"
    assert bill["metadata"]["component"]["version"] == "v1"
    assert bill["components"][0] == {
        "type": "operating-system",
        "bom-ref": "os",
        "name": "debian",
        "version": "13",
    }


@pytest.mark.parametrize(
    ("stdin", "reason"),
    [
        (b"", "standard input is no image's file system"),
        (image(DEBIAN)[:600], "standard input is no image's file system"),
        (image({"etc/os-release": "ID=unknown\n"}), "no package found"),
    ],
)
def test_no_bill_without_packages(stdin, reason):
    result = run(stdin)
    assert (result.returncode, result.stdout) == (1, b"")
    assert reason in result.stderr.decode()
    assert result.stderr.count(b"\n") == 1

#!/usr/bin/env python3
"""Lists the packages in a container image as a CycloneDX bill of materials.

docker export CONTAINER | ./sbom.py NAME VERSION >NAME.cdx.json

It reads what the package managers wrote down in the image's file system: dpkg or apk, and pip.
"""

import argparse
import json
import re
import sys
import tarfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from typing import BinaryIO
from urllib.parse import quote

OS_RELEASE = re.compile(r"usr/lib/os-release|etc/os-release")
DPKG = re.compile(r"var/lib/dpkg/status")
APK = re.compile(r"(usr/)?lib/apk/db/installed")
PYTHON_PACKAGE = re.compile(r".+\.dist-info/METADATA")
# The official Python images compile the interpreter themselves: no package manager knows it.
PYTHON = re.compile(r"usr/local/include/python[\d.]+/patchlevel\.h")
WANTED = (OS_RELEASE, DPKG, APK, PYTHON_PACKAGE, PYTHON)


def read_image(stream: BinaryIO) -> dict[re.Pattern, list[str]]:
    """The wanted files in a tar of the image's file system; raises tarfile.TarError."""
    files = {pattern: [] for pattern in WANTED}
    with tarfile.open(fileobj=stream, mode="r|") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            for pattern in WANTED:
                if member.isfile() and pattern.fullmatch(name):
                    files[pattern].append(tar.extractfile(member).read().decode(errors="replace"))
    return files


def components(files: dict[re.Pattern, list[str]]) -> list[dict]:
    """The operating system and the packages, each once, in the order of their names."""
    release = dict(re.findall(r'^(\w+)="?(.*?)"?$', "\n".join(files[OS_RELEASE]), re.M))
    system, version = release.get("ID", "linux"), release.get("VERSION_ID", "")
    packages = [*_distribution_packages(files, system, version), *_python_packages(files)]
    found = {component["bom-ref"]: component for component in packages}
    operating_system = {"type": "operating-system", "bom-ref": "os", "name": system}
    if version:
        operating_system["version"] = version
    return [operating_system, *(found[reference] for reference in sorted(found))]


def _distribution_packages(
    files: dict[re.Pattern, list[str]], system: str, version: str
) -> Iterator[dict]:
    distro = f"&distro={system}-{version}" if version else ""
    for paragraph in "\n\n".join(files[DPKG]).split("\n\n"):
        field = HeaderParser().parsestr(paragraph)
        if field.get("Status", "").endswith(" installed"):
            place = f"deb/{system}", f"?arch={field['Architecture']}{distro}"
            yield _library(place, field["Package"], field["Version"])
    for paragraph in "\n\n".join(files[APK]).split("\n\n"):
        field = dict(re.findall(r"^([PVA]):(.*)$", paragraph, re.M))
        if field:
            place = f"apk/{system}", f"?arch={field['A']}{distro}"
            yield _library(place, field["P"], field["V"])


def _python_packages(files: dict[re.Pattern, list[str]]) -> Iterator[dict]:
    for metadata in files[PYTHON_PACKAGE]:
        field = HeaderParser().parsestr(metadata)
        name = re.sub(r"[-_.]+", "-", field["Name"]).lower()  # as PyPI normalizes names
        yield _library(("pypi", ""), name, field["Version"])
    for header in files[PYTHON]:
        [version] = re.findall(r'^#define PY_VERSION\s+"([^"]+)"', header, re.M)
        yield _library(("generic", ""), "python", version)


def _library(place: tuple[str, str], name: str, version: str) -> dict:
    """A component; ``place`` is what stands before and after the name in its package URL."""
    kind, qualifiers = place
    purl = f"pkg:{kind}/{quote(name, safe='')}@{quote(version, safe=':')}{qualifiers}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }


def bill(name: str, version: str, listed: list[dict]) -> dict:
    """The bill of materials of the image ``name``:``version``."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "tools": {"components": [{"type": "application", "name": "sbom.py"}]},
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": name,
                "version": version,
            },
        },
        "components": listed,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="NAME", help="of the image")
    parser.add_argument("version", metavar="VERSION", help="its tag")
    options = parser.parse_args()
    try:
        listed = components(read_image(sys.stdin.buffer))
    except tarfile.TarError as error:
        print(f"sbom.py: standard input is no image's file system: {error}", file=sys.stderr)
        return 1
    if len(listed) == 1:
        print("sbom.py: no package found in the image", file=sys.stderr)
        return 1
    json.dump(bill(options.name, options.version, listed), sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

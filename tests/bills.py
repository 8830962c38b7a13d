"""Bills of materials: a made-up image to list, and what each bill must conform to."""

import io
import json
import tarfile

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

DEBIAN = {
    "usr/lib/os-release": 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="13"\n',
    "var/lib/dpkg/status": """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 14.2.0-19
Description: GNU Standard C++ Library v3
 Version: not this line

Package: attr
Status: install ok installed
Architecture: amd64
Version: 1:2.5.2+b1~rc1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
""",
}


def image(files):
    """A tar of an image's file system."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


def assert_valid(text):
    """As CycloneDX's own schema has it, with package URLs in their canonical form."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    for component in json.loads(text)["components"]:
        if purl := component.get("purl"):
            assert PackageURL.from_string(purl).to_string() == purl

"""terraform init with the AWS provider of this machine, or of the registry."""

import os
import subprocess
from pathlib import Path

import pytest

PROVIDER = "registry.terraform.io/hashicorp/aws"
# Terraform itself looks into ~/.terraform.d/plugins and /usr/local/share/terraform/plugins.
FOLDERS = (Path("/opt"), Path("/usr/local"))
UNAVAILABLE = ("Failed to query available provider packages", "Failed to install provider")


def plugin_dir(environ=os.environ, folders=FOLDERS):
    """TF_PLUGIN_DIR, else the folder that holds the provider, up to three levels down; or None."""
    if environ.get("TF_PLUGIN_DIR"):
        return Path(environ["TF_PLUGIN_DIR"])
    patterns = [f"{'*/' * depth}{PROVIDER}" for depth in range(4)]
    found = (path for folder in folders for pattern in patterns for path in folder.glob(pattern))
    return next((path.parents[2] for path in found), None)


def init(folder, environ, plugins=None):
    """terraform init; skips the test where there is neither the provider nor its registry."""
    plugins = plugins or plugin_dir()
    option = [f"-plugin-dir={plugins}"] if plugins else []
    result = subprocess.run(
        ["terraform", "init", "-no-color", "-input=false", "-backend=false", *option],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
    )
    if any(message in result.stderr for message in UNAVAILABLE):
        pytest.skip(f"no AWS provider (see TF_PLUGIN_DIR): {' '.join(result.stderr.split())}")
    assert result.returncode == 0, result.stderr

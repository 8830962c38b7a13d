"""Scanners that others wrote find nothing, but for what has its reason here or beside it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from emulated_aws import environment

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv"
CHECKOV_SKIPS = {
    "CKV_DOCKER_2": "Compose and ECS have the health checks, each with its intervals",
}
GIXY_SKIPS = {
    "add_header_redefinition": "nginx's own error pages are no answer of a cache: no X-Cache",
    "hash_without_default": "a map without a default gives an empty string, an empty body here",
    "host_spoofing": "the app reads no Host; a copy that makes links of it should",
    "worker_rlimit_nofile_vs_connections": "worker_connections counts those to the replicas too",
    "status_page_exposed": "stub_status has a port of its own, which nobody publishes",
}


def scan(command, *options):
    """The JSON that a scanner prints, whatever its exit code."""
    path = f"{VENV / 'bin'}{os.pathsep}{VENV / 'checkov' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(command, path=path)
    if not program:
        pytest.skip(f"{command} is not installed")
    environ = environment(PYTHONWARNINGS="ignore")
    result = subprocess.run(
        [program, *options], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    return json.loads(result.stdout)


def test_workflows_have_no_findings():
    """zizmor: what a pull request, a moved tag or a stolen token could do."""
    findings = scan("zizmor", "--offline", "--format", "json", ".github")
    assert [finding["ident"] for finding in findings if not finding["ignored"]] == []


def test_terraform_dockerfiles_and_workflows_have_no_failed_checks():
    """checkov; each check that is skipped beside what it is about has its reason there."""
    kinds = ["dockerfile", "github_actions", "terraform"]
    reports = scan(
        "checkov",
        *("--directory", ".", "--framework", *kinds),
        *("--skip-path", ".venv", "--skip-path", ".local", "--skip-path", "terraform/tests"),
        *("--skip-check", ",".join(CHECKOV_SKIPS)),
        *("--skip-download", "--output", "json"),
    )
    assert sorted(report["check_type"] for report in reports) == kinds
    for report in reports:
        checks = report["results"]
        failed = [(c["check_id"], c["resource"]) for c in checks["failed_checks"]]
        assert failed == []
        assert report["summary"]["passed"] > 20
        reasons = [c["check_result"]["suppress_comment"] for c in checks["skipped_checks"]]
        assert all(len(reason) >= 15 for reason in reasons)


@pytest.mark.parametrize("levers", [{}, {"EDGE_CACHE": "on", "RATE_LIMIT": "10"}])
def test_nginx_has_no_finding_without_a_reason(tmp_path, levers):
    """gixy, on the configuration as configure.sh renders it."""
    settings = {"FLASK_UPSTREAMS": "127.0.0.1:5000 127.0.0.1:5001", "NGINX_STATUS_LISTEN": "8081"}
    configure = ["sh", ROOT / "nginx" / "configure.sh", tmp_path]
    subprocess.run(configure, env={"PATH": os.environ["PATH"], **settings, **levers}, check=True)
    findings = scan("gixy", "--format", "json", str(tmp_path / "nginx.conf"))
    assert {finding["plugin"] for finding in findings} == set(GIXY_SKIPS)

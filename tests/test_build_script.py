"""build_and_push_images.sh: options, order, bills of materials, stopping at the first failure."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from bills import DEBIAN, assert_valid, image

SCRIPT = Path(__file__).parents[1] / "build_and_push_images.sh"
IMAGES = ["data-populator", "data-query", "flask", "nginx", "simulate"]
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"


def run(*options, cwd="/", **environ):
    names = ("REGISTRY", "TAG", "PLATFORMS", "SBOM")
    clean = {k: v for k, v in os.environ.items() if k not in names}
    return subprocess.run(
        [SCRIPT, *options], cwd=cwd, env=clean | environ, capture_output=True, text=True
    )


@pytest.fixture
def recorded(tmp_path):
    """A `docker` that records its arguments; it fails on a line that contains $FAIL_ON.

    Every image has the packages of DEBIAN; their bills of materials go to tmp_path/sbom.
    """
    (tmp_path / "image").write_bytes(image(DEBIAN))
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/sh\n"
        f'echo "$*" >>{tmp_path}/calls\n'
        'case "$1" in login) cat >/dev/null ;; esac\n'
        'case "$*" in *"${FAIL_ON:-nothing}"*) exit 1 ;; esac\n'
        'case "$*" in create*) echo "container-of-$2" ;; esac\n'
        f'case "$*" in export*|*type=tar*) cat {tmp_path}/image ;; esac\n'
    )
    docker.chmod(0o755)

    def run_recorded(*options, **environ):
        path = f"{tmp_path}:{os.environ['PATH']}"
        environ = {"SBOM": "sbom", "PATH": path, **environ}
        result = run(*options, cwd=tmp_path, **environ)
        return result, (tmp_path / "calls").read_text().splitlines()

    return run_recorded


def test_help_names_every_option():
    result = run("--help")
    assert result.returncode == 0
    for option in (
        "--registry",
        "--ecr",
        "--tag",
        "--platforms",
        "--sbom",
        "--build-only",
        "--help",
    ):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nonsense"], "unknown option '--nonsense'"),
        (["--tag"], "--tag needs a value"),
        ([], "no registry"),
        (["--ecr", "--registry", "example.org/me"], "--ecr and --registry (or REGISTRY) exclude"),
        (["--ecr", "--build-only"], "--ecr and --build-only exclude"),
    ],
)
def test_bad_use_is_one_line_and_exit_2(options, message):
    result = run(*options)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_builds_all_images_before_it_pushes_any(recorded):
    result, calls = recorded("--tag", "v1", REGISTRY="example.org/me/")
    assert result.returncode == 0, result.stderr
    builds = [
        call.format(f"example.org/me/{i}:v1", i)
        for i in IMAGES
        for call in (
            "build --tag {} {}",
            "create {}",
            "export container-of-{}",
            "rm container-of-{}",
        )
    ]
    pushes = [f"push example.org/me/{i}:v1" for i in IMAGES]
    assert calls == builds + pushes


def test_platforms_go_through_buildx(recorded):
    result, calls = recorded(
        "--platforms", "linux/amd64,linux/arm64", REGISTRY="example.org/me", TAG="v1"
    )
    assert result.returncode == 0, result.stderr
    command = "buildx build --platform {} "
    both = command.format("linux/amd64,linux/arm64") + "--tag example.org/me/{0}:v1 {1}{0}"
    tars = [
        command.format(f"linux/{a}") + "--output type=tar,dest=- {0}" for a in ("amd64", "arm64")
    ]
    builds = [call.format(image, "") for image in IMAGES for call in (both, *tars)]
    assert calls == builds + [both.format(image, "--push ") for image in IMAGES]


def written(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_image_has_a_bill_of_materials(recorded, tmp_path):
    result, _ = recorded("--build-only", "--tag", "v1", "--sbom", "bills/here", SBOM="elsewhere")
    assert result.returncode == 0, result.stderr
    bills = written(tmp_path / "bills" / "here")
    assert bills.keys() == {f"{image}.cdx.json" for image in IMAGES}
    for name, text in bills.items():
        assert_valid(text)
        described = json.loads(text)["metadata"]["component"]
        assert (f"{described['name']}.cdx.json", described["version"]) == (name, "v1")


def test_every_platform_has_its_own_bill(recorded, tmp_path):
    recorded("--build-only", "--tag", "v1", "--platforms", "linux/amd64,linux/arm/v7")
    names = written(tmp_path / "sbom").keys()
    assert names == {f"{i}-linux-{a}.cdx.json" for i in IMAGES for a in ("amd64", "arm-v7")}


@pytest.mark.parametrize("step", ["create", "export", "rm container"])
def test_an_image_that_cannot_be_listed_stops_before_any_push(recorded, step):
    result, calls = recorded("--registry", "example.org/me", TAG="v1", FAIL_ON=step)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("listing the packages in data-populator failed")
    assert not [call for call in calls if call.startswith("push")]


@pytest.fixture
def ecr(recorded, tmp_path):
    """A `terraform` with repositories and an `aws` with one image, of data-query."""
    urls = tmp_path / "urls.json"
    urls.write_text(json.dumps({image: f"{ECR}/weather/{image}" for image in IMAGES}, indent=2))
    commands = {
        "terraform": f'cat "${{REPOSITORIES:-{urls}}}"\n',
        "aws": 'case "$*" in *describe-images*data-query*) ;; *describe-images*) exit 1 ;;'
        " *) echo password ;; esac\n",
    }
    for name, body in commands.items():
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/calls\n{body}')
        command.chmod(0o755)
    return recorded


def test_ecr_logs_in_and_pushes_to_the_repositories_of_terraform(ecr):
    result, calls = ecr("--ecr", TAG="v1")
    assert result.returncode == 0, result.stderr
    assert calls[0] == "terraform -chdir=terraform output -json ecr_repository_urls"
    assert "aws ecr get-login-password --region eu-central-1" in calls[1:3]
    assert f"login --username AWS --password-stdin {ECR}" in calls[1:3]
    assert f"build --tag {ECR}/weather/flask:v1 flask" in calls
    pushed = [call for call in calls if call.startswith("push")]
    # An immutable tag can't be pushed twice: data-query is there already.
    assert pushed == [f"push {ECR}/weather/{i}:v1" for i in IMAGES if i != "data-query"]
    assert result.stdout.splitlines()[-1] == 'Deploy them with image_tag = "v1"'


def test_ecr_without_repositories(ecr):
    result, calls = ecr("--ecr", TAG="v1", REPOSITORIES=os.devnull)
    assert result.returncode == 2
    assert "terraform has no repositories yet" in result.stderr
    assert len(calls) == 1


def test_ecr_builds_nothing_when_the_login_fails(ecr):
    result, calls = ecr("--ecr", TAG="v1", FAIL_ON="login")
    assert result.returncode == 1
    assert not [call for call in calls if call.startswith("build")]


def test_an_option_wins_over_its_variable(recorded):
    _, calls = recorded("--tag", "v2", "--registry", "b.example", REGISTRY="a.example", TAG="v1")
    assert calls[-1] == "push b.example/simulate:v2"


def test_the_first_failing_build_stops_and_is_named(recorded):
    result, calls = recorded("--build-only", TAG="v1", FAIL_ON="data-query")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("building data-query failed")
    builds = [call for call in calls if call.startswith("build")]
    assert [build.split()[-1] for build in builds] == ["data-populator", "data-query"]


def test_the_tag_defaults_to_the_git_revision(tmp_path):
    copy = tmp_path / SCRIPT.name
    copy.write_bytes(SCRIPT.read_bytes())
    copy.chmod(0o755)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", tmp_path]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    revision = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()

    def built():
        return subprocess.run(
            [copy, "--build-only"], env=os.environ | {"TAG": ""}, capture_output=True, text=True
        ).stdout.splitlines()[0]

    assert built() == f"Building data-populator:{revision}"
    copy.write_text(copy.read_text() + "# edited\n")
    assert built() == f"Building data-populator:{revision}-dirty"


@pytest.fixture
def engine_tag(docker_engine):
    """A tag of this test alone; the images that carry it are removed afterwards."""
    tag = f"test-{os.getpid()}"
    yield tag
    listed = subprocess.check_output(
        ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], text=True
    )
    mine = [name for name in listed.split() if name.endswith(f":{tag}")]
    subprocess.run(["docker", "image", "rm", *mine], check=True, capture_output=True)


def packages(bill, kind):
    """Name and version of the packages of this kind, as in a package URL."""
    found = json.loads(bill)["components"]
    return {
        (c["name"], c["version"]) for c in found if c.get("purl", "").startswith(f"pkg:{kind}/")
    }


def locked(room):
    """The packages that are installed on every platform and Python."""
    lines = (SCRIPT.parent / room / "requirements.txt").read_text()
    return set(re.findall(r"^([\w.-]+)==(\S+) \\", lines, re.MULTILINE))


def test_real_engine_builds_and_lists_all_and_stops_at_a_registry_that_refuses(
    engine_tag, tmp_path
):
    # Nothing listens on port 1.
    result = run("--registry", "127.0.0.1:1/me", TAG=engine_tag, SBOM=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("pushing data-populator failed")
    steps = [
        line for line in result.stdout.splitlines() if line.startswith(("Building", "Pushing"))
    ]
    assert len(steps) == len(IMAGES) + 1
    for name in IMAGES:
        reference = f"127.0.0.1:1/me/{name}:{engine_tag}"
        subprocess.run(["docker", "image", "inspect", reference], check=True, capture_output=True)
    bills = written(tmp_path)
    assert bills.keys() == {f"{name}.cdx.json" for name in IMAGES}
    for name in IMAGES:
        bill = bills[f"{name}.cdx.json"]
        assert_valid(bill)
        system = {package for package, _ in packages(bill, "deb") | packages(bill, "apk")}
        assert system & {"libc6", "musl"}
        if name == "nginx":
            assert "nginx" in system
        else:
            assert packages(bill, "pypi") >= locked(name)

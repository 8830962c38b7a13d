"""build_and_push_images.sh: options, order, bills of materials, stopping at the first failure."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

SCRIPT = Path(__file__).parents[1] / "build_and_push_images.sh"
IMAGES = ["data-populator", "data-query", "flask", "nginx", "simulate"]
TEXT = {"capture_output": True, "text": True}
ECR = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"


def run(*options, cwd="/", **environ):
    names = ("REGISTRY", "TAG", "PLATFORMS", "SBOM")
    clean = {k: v for k, v in os.environ.items() if k not in names}
    return subprocess.run([SCRIPT, *options], cwd=cwd, env=clean | environ, **TEXT)


def fake(folder, name, body=""):
    """A command that appends its name and arguments to folder/calls."""
    command = folder / name
    command.write_text(f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n{body}')
    command.chmod(0o755)


@pytest.fixture
def recorded(tmp_path):
    """Runs the script in tmp_path with a `docker` and a `syft` that record their arguments.

    A call that contains $FAIL_ON fails.
    """
    fails = 'case "$*" in *"${FAIL_ON:-nothing}"*) exit 1 ;; esac\n'
    fake(tmp_path, "docker", f'case "$1" in login) cat >/dev/null ;; esac\n{fails}')
    fake(tmp_path, "syft", fails)

    def run_recorded(*options, **environ):
        path = f"{tmp_path}:{os.environ['PATH']}"
        result = run(*options, cwd=tmp_path, **{"SBOM": "sbom", "PATH": path} | environ)
        return result, (tmp_path / "calls").read_text().splitlines()

    return run_recorded


def syft(source, name, output):
    """The call of syft that lists the packages of an image with the tag v1."""
    return (
        f"syft scan --quiet {source} --source-name {name} --source-version v1"
        f" --output cyclonedx-json@1.6={output}.cdx.json"
    )


def test_help_names_every_option():
    result = run("--help")
    assert result.returncode == 0
    for option in (
        "--registry",
        "--ecr",
        "--tag",
        "--platforms",
        "--sbom",
        "--sign",
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
        (["--sign", "--build-only"], "--sign and --build-only exclude"),
    ],
)
def test_bad_use_is_one_line_and_exit_2(options, message):
    result = run(*options)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_builds_and_lists_all_images_before_it_pushes_any(recorded, tmp_path):
    result, calls = recorded("--tag", "v1", REGISTRY="example.org/me/")
    assert result.returncode == 0, result.stderr
    before = []
    for name in IMAGES:
        reference = f"example.org/me/{name}:v1"
        before += [
            f"docker build --tag {reference} --pull {name}",
            syft(f"docker:{reference}", name, f"{tmp_path}/sbom/{name}"),
        ]
    assert calls == before + [f"docker push example.org/me/{name}:v1" for name in IMAGES]


def test_platforms_go_through_buildx(recorded, tmp_path):
    result, calls = recorded(
        "--platforms", "linux/amd64,linux/arm/v7", REGISTRY="example.org/me", TAG="v1"
    )
    assert result.returncode == 0, result.stderr
    build = "docker buildx build --platform {} "
    both = build.format("linux/amd64,linux/arm/v7") + "--tag example.org/me/{0}:v1 {1} {0}"
    archive = f"{tmp_path}/sbom/image.tar"
    before = []
    for name in IMAGES:
        before.append(both.format(name, "--pull"))
        for platform in ("linux/amd64", "linux/arm/v7"):
            output = f"{tmp_path}/sbom/{name}-{platform.replace('/', '-')}"
            before += [
                build.format(platform) + f"--output type=docker,dest={archive} {name}",
                syft(f"docker-archive:{archive}", name, output),
            ]
    assert calls == before + [both.format(name, "--provenance mode=max --push") for name in IMAGES]


def test_build_only_takes_the_base_images_that_are_here(recorded):
    _, calls = recorded("--build-only", TAG="v1")
    assert "docker build --tag flask:v1 flask" in calls


@pytest.fixture
def signing(recorded, tmp_path):
    """The same with a `cosign`, and a `docker` that knows the digests of what was pushed."""
    digests = (
        'case "$*" in\n'
        "*imagetools*) echo sha256:of-the-index ;;\n"
        '*"image inspect"*) name=${5%:*}; echo "other.example/${name##*/}@sha256:other";'
        ' echo "$name@sha256:of-${name##*/}" ;;\n'
        "esac\n"
    )
    fake(tmp_path, "docker", digests)
    fake(tmp_path, "cosign", 'case "$*" in *"${FAIL_ON:-nothing}"*) exit 1 ;; esac\n')
    return recorded


def test_what_is_pushed_is_signed_by_its_digest(signing, tmp_path):
    result, calls = signing(
        "--sign", REGISTRY="example.org/me", TAG="v1", COSIGN_KEY="awskms:///alias/images"
    )
    assert result.returncode == 0, result.stderr
    key = "--yes --key awskms:///alias/images"
    signed = "example.org/me/flask@sha256:of-flask"
    bill = f"{tmp_path}/sbom/flask.cdx.json"
    assert [call for call in calls if call.startswith("cosign") and call.endswith(signed)] == [
        f"cosign sign {key} {signed}",
        f"cosign attest {key} --type cyclonedx --predicate {bill} {signed}",
    ]
    pushed = calls.index("docker push example.org/me/flask:v1")
    assert pushed < calls.index(f"cosign sign {key} {signed}")
    assert len([call for call in calls if call.startswith("cosign sign")]) == len(IMAGES)


def test_images_for_several_platforms_are_signed_with_each_bill(signing, tmp_path):
    platforms = ["--platforms", "linux/amd64,linux/arm64"]
    _, calls = signing("--sign", *platforms, REGISTRY="example.org/me", TAG="v1", COSIGN_KEY="")
    signed = "example.org/me/flask@sha256:of-the-index"
    assert [call for call in calls if call.startswith("cosign") and call.endswith(signed)] == [
        f"cosign sign --yes {signed}",
        *(
            f"cosign attest --yes --type cyclonedx --predicate {bill} {signed}"
            for bill in (
                tmp_path / "sbom" / "flask-linux-amd64.cdx.json",
                tmp_path / "sbom" / "flask-linux-arm64.cdx.json",
            )
        ),
    ]


@pytest.mark.parametrize("step", ["sign", "attest"])
def test_an_image_that_cannot_be_signed_ends_it(signing, step):
    result, calls = signing("--sign", REGISTRY="example.org/me", TAG="v1", FAIL_ON=f"{step} ")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("signing data-populator failed")
    assert len([call for call in calls if call.startswith("docker push")]) == 1


def test_without_cosign_nothing_is_built_to_be_signed(tmp_path):
    fake(tmp_path, "syft")
    result = run("--sign", REGISTRY="example.org/me", TAG="v1", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (result.returncode, result.stdout) == (2, "")
    assert "cosign is not installed" in result.stderr


def test_bills_go_where_the_option_says(recorded, tmp_path):
    _, calls = recorded("--build-only", "--tag", "v1", "--sbom", "bills/here", SBOM="elsewhere")
    folder = tmp_path / "bills" / "here"
    assert folder.is_dir()
    assert calls[1] == syft("docker:data-populator:v1", "data-populator", folder / "data-populator")


@pytest.mark.parametrize(
    ("step", "options"), [("scan", []), ("dest=", ["--platforms", "linux/amd64"])]
)
def test_an_image_that_cannot_be_listed_stops_before_any_push(recorded, step, options):
    result, calls = recorded("--registry", "example.org/me", *options, TAG="v1", FAIL_ON=step)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("listing the packages in data-populator failed")
    assert not [call for call in calls if "push" in call]


@pytest.fixture
def ecr(recorded, tmp_path):
    """A `terraform` with repositories and an `aws` with one image, of data-query."""
    urls = tmp_path / "urls.json"
    urls.write_text(json.dumps({image: f"{ECR}/weather/{image}" for image in IMAGES}, indent=2))
    images = "*describe-images*data-query*) ;; *describe-images*) exit 1 ;;"
    fake(tmp_path, "terraform", f'cat "${{REPOSITORIES:-{urls}}}"\n')
    fake(tmp_path, "aws", f'case "$*" in {images} *) echo password ;; esac\n')
    return recorded


def test_ecr_logs_in_and_pushes_to_the_repositories_of_terraform(ecr):
    result, calls = ecr("--ecr", TAG="v1")
    assert result.returncode == 0, result.stderr
    assert calls[0] == "terraform -chdir=terraform output -json ecr_repository_urls"
    assert "aws ecr get-login-password --region eu-central-1" in calls[1:3]
    assert f"docker login --username AWS --password-stdin {ECR}" in calls[1:3]
    assert f"docker build --tag {ECR}/weather/flask:v1 --pull flask" in calls
    pushed = [call for call in calls if call.startswith("docker push")]
    # An immutable tag can't be pushed twice: data-query is there already.
    assert pushed == [f"docker push {ECR}/weather/{i}:v1" for i in IMAGES if i != "data-query"]
    assert result.stdout.splitlines()[-1] == 'Deploy them with image_tag = "v1"'


def test_ecr_without_repositories(ecr):
    result, calls = ecr("--ecr", TAG="v1", REPOSITORIES=os.devnull)
    assert result.returncode == 2
    assert "terraform has no repositories yet" in result.stderr
    assert len(calls) == 1


def test_ecr_builds_nothing_when_the_login_fails(ecr):
    result, calls = ecr("--ecr", TAG="v1", FAIL_ON="login")
    assert result.returncode == 1
    assert not [call for call in calls if call.startswith("docker build")]


def test_an_option_wins_over_its_variable(recorded):
    _, calls = recorded("--tag", "v2", "--registry", "b.example", REGISTRY="a.example", TAG="v1")
    assert calls[-1] == "docker push b.example/simulate:v2"


def test_the_first_failing_build_stops_and_is_named(recorded):
    result, calls = recorded("--build-only", TAG="v1", FAIL_ON="data-query")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("building data-query failed")
    builds = [call for call in calls if call.startswith("docker build")]
    assert [build.split()[-1] for build in builds] == ["data-populator", "data-query"]


@pytest.fixture
def copy(tmp_path):
    """The script in a folder of its own, without a virtual environment."""
    copy = tmp_path / SCRIPT.name
    copy.write_bytes(SCRIPT.read_bytes())
    copy.chmod(0o755)
    return copy


def test_without_syft_nothing_is_built(copy):
    result = subprocess.run(
        [copy, "--build-only"], env={"PATH": "/usr/bin:/bin", "TAG": "v1"}, **TEXT
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "syft is not installed" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_tag_defaults_to_the_git_revision(copy, recorded, tmp_path):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", tmp_path]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    revision = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()

    environ = os.environ | {"TAG": "", "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def built():
        return subprocess.run([copy, "--build-only"], env=environ, **TEXT).stdout.splitlines()[0]

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


def test_a_registry_that_refuses_stops_before_the_next_push(recorded):
    result, calls = recorded("--registry", "example.org/me", TAG="v1", FAIL_ON="push example")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith("pushing data-populator failed")
    assert [call.split()[1] for call in calls if call.startswith("docker")] == [
        *["build"] * len(IMAGES),
        "push",
    ]


def test_real_engine_builds_and_lists_all(engine_tag, tmp_path):
    result = run("--build-only", REGISTRY="example.org/me", TAG=engine_tag, SBOM=str(tmp_path))
    assert result.returncode == 0, result.stderr
    for name in IMAGES:
        reference = f"example.org/me/{name}:{engine_tag}"
        subprocess.run(["docker", "image", "inspect", reference], check=True, capture_output=True)
    bills = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert bills.keys() == {f"{name}.cdx.json" for name in IMAGES}
    for name in IMAGES:
        bill = bills[f"{name}.cdx.json"]
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
        described = json.loads(bill)["metadata"]["component"]
        assert (described["name"], described["version"]) == (name, engine_tag)
        system = {package for package, _ in packages(bill, "deb") | packages(bill, "apk")}
        assert system & {"libc6", "musl"}
        if name == "nginx":
            assert "nginx" in system
        else:
            assert packages(bill, "pypi") >= locked(name)

"""What the documents name exists: files, `make` targets, messages, environment variables."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCUMENTS = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/README.md")]
DOCUMENTS += ["README.md", "CONTRIBUTING.md", "SECURITY.md"]
FILE = re.compile(
    r"(?<![\w./*-])(?:[\w.-]+/)*[\w.-]+\."
    r"(?:py|sh|yaml|yml|conf|alternative|json|jsonl|sql|html|css|js|svg|in|txt|md|tf|tfvars|example)\b"
)
# Named in documents, but made by programs or people.
MADE = {
    *(
        "edge_cache.conf",
        "listen.conf",
        "log_format.conf",
        "rate_limit.conf",
        "status.conf",
        "servers.conf",
        "all_servers.conf",
    ),  # nginx/configure.sh
    "IMAGE.cdx.json",
    "port-towns.py",  # the pattern that simulate/README.md adds
    "plan.json",  # a run of the experiments
    "postgres-account.json",
    "valkey-account.conf",
    "report.html",
    "report.md",
    "terraform.tfvars",
}
# Messages of other programs, or put together from words.
NOT_SEARCHED = {
    "Address already in use": "the operating system",
    "Connection refused": "the operating system",
    "could not be resolved": "nginx",
    "no live upstreams": "nginx",
    "port is already allocated": "Docker",
    "too many clients already": "PostgreSQL",
    "PostgreSQL: connection to server": "PostgreSQL",
    "password authentication failed": "PostgreSQL",
    "tag invalid": "ECR",
    "generator used": "simulate/lab/judge.py",
    "ECS went back to the last revision that did": "terraform/",
}
# What differs each time, and what stands between a message and its cause.
VARYING = re.compile(r": |\.local\b|\.\.\.|'[^']*'|\b(?:[A-Z]|NAME|FILE|LAST LINE|None|\d+)\b")
WSGI = {
    "CONTENT_LENGTH",
    "CONTENT_TYPE",
    "HTTP_ACCEPT",
    "HTTP_X_REQUEST_ID",
    "HTTP_X_REQUEST_START",
    "QUERY_STRING",
}  # of a request, not of the process


def text(document):
    return (ROOT / document).read_text()


def code(document):
    """What a document sets as code: in backticks, and fenced."""
    fenced = re.findall(r"^```.*?^```", text(document), re.M | re.S)
    quoted = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text(document), flags=re.M | re.S)
    )
    return [*fenced, *quoted]


def exists(name, folder):
    """Whether a file is there, as seen from the root, from the folder or in a package of it."""
    places = [ROOT, folder, *(path for path in folder.iterdir() if path.is_dir())]
    return any((place / name).exists() for place in places)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_exist(document):
    folder = (ROOT / document).parent
    named = {name for part in code(document) for name in FILE.findall(part)}
    assert not [name for name in named if Path(name).name not in MADE and not exists(name, folder)]


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", [*DOCUMENTS, "docs/decisions.md"])
def test_links_lead_somewhere(document):
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text(document)):
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), path
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", target.read_text(), re.M))


@pytest.mark.parametrize("document", [*DOCUMENTS, ".env.sample", "docker-compose.yaml"])
def test_make_targets_that_are_named_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.M))
    named = set(re.findall(r"(?:`|^|[A-Z]+=\S+ )make (?:-s )?([a-z-]+)", text(document), re.M))
    assert named <= targets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_command_uses_a_name_in_tmp_that_others_can_guess(document):
    """Another user of the machine may have made it, and the command would read or overwrite it."""
    assert not re.findall(r"/tmp/\w+", text(document))  # noqa: S108 that is what is looked for


def messages(document):
    """The first column of the tables on what can go wrong, where it quotes a message."""
    _, _, rest = text(document).partition("\n## Troubleshooting\n")
    rest = rest or text(document).partition("\n## What can go wrong\n")[2]
    for row in re.findall(r"^\| (.+?) \|", rest.partition("\n## ")[0], re.M):
        quoted = re.findall(r"`([^`]+)`", row)
        yield from (message for message in quoted if re.search(r"\w \w", message))


def printed():
    """All source text, with adjacent strings joined and white space made equal."""
    sources = [
        path.read_text()
        for folder in (
            "data-populator",
            "data-query",
            "flask",
            "nginx",
            "simulate",
            "local",
            "observe",
            "terraform",
        )
        for suffix in ("py", "sh", "tf", "conf", "html")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
    ]
    joined = re.sub(r'"\s*\n\s*f?"', "", "\n".join([*sources, text("build_and_push_images.sh")]))
    return re.sub(r"\s+", " ", joined)


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.endswith("README.md")])
def test_messages_that_are_quoted_are_printed(document):
    source = printed()
    quoted = list(messages(document))
    assert quoted
    for message in quoted:
        if any(other in message for other in NOT_SEARCHED):
            continue
        for part in VARYING.split(message):
            assert part.strip(" :,;(") in source, f"nothing prints {part!r} of {message!r}"


def compose_variables():
    """What docker-compose.yaml takes from the shell or .env."""
    compose = text("docker-compose.yaml") + text("docker-compose.secrets.yaml")
    passed = {
        name
        for service in yaml.safe_load(text("docker-compose.yaml"))["services"].values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    return passed | set(re.findall(r"\$\{([A-Z_]+)", compose))


def program_variables():
    """What the programs read from their environment, each with the help of environment.py."""
    modules = [path.parent.glob("*.py") for path in ROOT.glob("[!.]*/**/environment.py")]
    sources = "".join(path.read_text() for module in modules for path in module)
    return set(re.findall(r'environ(?:\.get\(|, )"([A-Z_]+)"', sources)) - WSGI


def test_env_sample_has_every_variable_and_no_other():
    sample = text(".env.sample")
    settable = set(re.findall(r"^(?:# )?([A-Z_]+)=", sample, re.M))
    fixed = set(re.findall(r"\b[A-Z]+_?[A-Z]+\b(?=,|  )", sample.partition("--- Fixed in")[2]))
    assert settable == compose_variables()
    assert settable | fixed == compose_variables() | program_variables()

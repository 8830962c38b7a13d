""".env is read as Compose reads it: by a parser, with the same values, and never by a shell."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from env_file import EnvFileError, read

ROOT = Path(__file__).parents[2]
SHELL = {"HOME": "/home/me", "EMPTY": ""}
SET = {  # a line of .env: the value of A
    "A=ab&cd": "ab&cd",
    "A=a;b|c>d": "a;b|c>d",
    "A=$(date)": "$(date)",
    "A=`date`": "`date`",
    'A="a b"': "a b",
    "A=a b": "a b",
    "A='a$b'": "a$b",
    "A='${HOME}'": "${HOME}",
    "A=a#b": "a#b",
    "A=a #b": "a",
    "A= #b": "#b",
    "A=\ttab\t#x": "tab\t#x",
    r'A="a\nb"': "a\nb",
    r"A='a\nb'": r"a\nb",
    r"A=a\nb": r"a\nb",
    r"A='it\'s'": "it's",
    r'A="say \"hi\""': 'say "hi"',
    r"A='a\\b'": r"a\\b",
    r'A="a\\b"': r"a\b",
    r'A="a\qb"': r"a\qb",
    "A=$HOME": "/home/me",
    'A="${HOME}"': "/home/me",
    "A=a$b": "a",
    "A=a$$b": "a$b",
    r'A="a\$b"': "a$b",
    "A=a$1$": "a$1$",
    "A=${UNSET:-x y}": "x y",
    "A=${UNSET-x}": "x",
    "A=${EMPTY:-x}": "x",
    "A=${EMPTY-x}": "",
    "A=${UNSET}y": "y",
    "B=1\nA=$B$B": "11",
    "HOME=/elsewhere\nA=$HOME": "/home/me",  # the shell wins
    "A=grün💧": "grün💧",
    "A=trailing   ": "trailing",
    'A="trailing   "': "trailing   ",
    "A=pa'ss\"": "pa'ss\"",
    "A=": "",
    "A='two\nlines' # comment": "two\nlines",
    "export A=1": "1",
    "  A  =  1": "1",
    "A: 1": "1",
    "# comment\n\nA=1\r\nB=2\r\n": "1",
    "A=1\nA=2": "2",
    "\ufeffA=1": "1",
    "HOME": None,
}
REFUSED = {
    "B=1\n\nA=a${B": "line 3: after ${ expected",
    'A="unterminated\n': "line 1: expected NAME=value",
    "A B=1": "line 1: expected NAME=value",
}


def env_file(folder, text):
    path = folder / ".env"
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("text", SET)
def test_a_value(tmp_path, text):
    assert read(env_file(tmp_path, text), SHELL).get("A") == SET[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path, text):
    with pytest.raises(EnvFileError) as error:
        read(env_file(tmp_path, text), SHELL)
    assert str(error.value).startswith(f"{tmp_path / '.env'}: {REFUSED[text]}")
    assert "\n" not in str(error.value)


def compose(folder, text):
    """What Compose makes of A: None if it is not set, "refused" if Compose refuses the file."""
    env_file(folder, text)
    service = {"image": "none", "environment": {"A": "${A-not set}"}}
    (folder / "compose.yaml").write_text(json.dumps({"services": {"s": service}}))
    result = subprocess.run(
        ["docker", "compose", "config", "--format", "json"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **SHELL},
        capture_output=True,
        text=True,
    )
    if result.returncode:
        return "refused"
    value = json.loads(result.stdout)["services"]["s"]["environment"]["A"].replace("$$", "$")
    return None if value == "not set" else value


def test_compose_reads_the_same(docker_engine, tmp_path):
    expected = SET | dict.fromkeys(REFUSED, "refused")
    assert {text: compose(tmp_path, text) for text in expected} == expected


@pytest.fixture
def checkout(tmp_path):
    """A folder in which `make` starts stand-ins that print their arguments and settings."""
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))\n"
    programs = {
        "local/stack.py": show,
        "local/env_file.py": (ROOT / "local" / "env_file.py").read_text(),
        ".venv/bin/python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        ".venv/bin/locust": f"#!{sys.executable}\n{show}",
        ".venv/.local": "",
        ".venv/.simulate": "",
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def make(checkout, target, **environ):
    stamps = ["--old-file=.venv/.local", "--old-file=.venv/.simulate"]
    return subprocess.run(
        ["make", "--no-print-directory", "-f", ROOT / "Makefile", *stamps, target],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("target", ["local", "simulate"])
def test_make_runs_nothing_of_env_and_the_shell_wins(checkout, target):
    (checkout / ".env").write_text("POSTGRES_PASSWORD=ab&cd\nSEED=1\nEDGE_CACHE=on\n")
    result = make(checkout, target, SEED="2", EDGE_CACHE="")
    assert (result.returncode, result.stderr) == (0, "")
    _, environ = json.loads(result.stdout)
    assert environ["POSTGRES_PASSWORD"] == "ab&cd"
    assert (environ["SEED"], environ["EDGE_CACHE"]) == ("2", "")


def test_make_simulate_takes_addresses_from_env(checkout):
    lines = ["NGINX_PORT=8001", "LOCUST_BIND_ADDRESS=0.0.0.0", "LOCUST_PORT=8090"]
    (checkout / ".env").write_text("\n".join([*lines, "BIND_ADDRESS=0.0.0.0", ""]))
    [arguments, _] = json.loads(make(checkout, "simulate").stdout)
    assert arguments[2:] == [
        *("--host", "http://localhost:8001"),
        *("--web-host", "0.0.0.0", "--web-port", "8090"),
    ]


def test_make_needs_no_env(checkout):
    [arguments, _] = json.loads(make(checkout, "local").stdout)
    assert arguments == ["up"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"A=1\nB='\n", "line 2: expected NAME=value"), (b"A=\xff\n", "can't decode")],
)
def test_make_stops_at_an_unreadable_env(checkout, content, reason):
    (checkout / ".env").write_bytes(content)
    result = make(checkout, "local")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(".env: ")
    assert reason in result.stderr.splitlines()[0]

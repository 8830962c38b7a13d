"""Runs a command with the settings of .env, read as Compose reads it: env_file.py COMMAND...

A variable that is set already wins. Nothing in the file is run, unlike by a shell that sources it.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

# NAME=value. Quoted values may have several lines; `NAME` alone takes the value it has, if any.
ASSIGNMENT = re.compile(
    r"""(?:export\s+)? (?P<name>[\w.-]+) [^\S\n]*
    (?: $ | [=:][^\S\n]*
      (?: '(?P<single>(?:\\.|[^'\\])*)' | "(?P<double>(?:\\.|[^"\\])*)" | (?P<plain>(?!['"]).*?) $ )
    )""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
IGNORED = re.compile(r"(?:\s|#.*)*")
ESCAPE = re.compile(r"\\([abfnrtv\\$])")
ESCAPED = dict(
    zip("abfnrtv\\$", ["\a", "\b", "\f", "\n", "\r", "\t", "\v", "\\", "$$"], strict=True)
)
# $$ is a dollar; $NAME, ${NAME}, ${NAME:-if empty or not set} and ${NAME-if not set} are values.
REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?:(?P<name>[A-Za-z_]\w*)(?:(?P<colon>:?)-(?P<default>[^{}$]*))?\}|(?P<other>)))",
    re.ASCII,
)


class EnvFileError(ValueError):
    """The file can't be read; the text is one line for the user."""


def read(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` and the variables of the file, if there is one; ``environ`` wins.

    Raises EnvFileError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        return {**_parse(text, environ), **environ}
    except OSError as error:
        raise EnvFileError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise EnvFileError(f"{path}: {error}") from error


def _parse(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    position = IGNORED.match(text).end()
    while position < len(text):
        assignment = ASSIGNMENT.match(text, position)
        try:
            if not assignment:
                raise EnvFileError(
                    "expected NAME=value, with a quote at the end where one begins it"
                )
            value = _value(assignment, {**found, **environ})
        except EnvFileError as error:
            raise EnvFileError(f"line {text.count(chr(10), 0, position) + 1}: {error}") from None
        if value is not None:
            found[assignment["name"]] = value
        position = IGNORED.match(text, assignment.end()).end()
    return found


def _value(assignment: re.Match, known: Mapping[str, str]) -> str | None:
    if assignment["single"] is not None:
        return assignment["single"].replace(r"\'", "'")
    if assignment["double"] is not None:
        value = ESCAPE.sub(lambda escape: ESCAPED[escape[1]], assignment["double"])
        return _expand(value.replace(r"\"", '"'), known)
    if assignment["plain"] is not None:
        return _expand(assignment["plain"].split(" #")[0].rstrip(), known)
    return known.get(assignment["name"])


def _expand(value: str, known: Mapping[str, str]) -> str:
    def resolve(reference: re.Match) -> str:
        if reference["dollar"]:
            return "$"
        if reference["other"] is not None:
            raise EnvFileError("after ${ expected NAME}, NAME:-default} or NAME-default}")
        value = known.get(reference["plain"] or reference["name"])
        if value is None or (reference["colon"] and not value):
            return reference["default"] or ""
        return value

    return REFERENCE.sub(resolve, value)


def main(command: list[str]) -> None:
    try:
        environ = read(Path(".env"), os.environ)
    except EnvFileError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    os.execvpe(command[0], command, environ)  # noqa: S606 - the Makefile's command, no shell


if __name__ == "__main__":
    main(sys.argv[1:])

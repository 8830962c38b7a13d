"""The messages in a README's table "What can go wrong" against those in the room's programs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]


def messages(room: str) -> list[str]:
    """What stands between backticks in the table's first column."""
    table = (ROOT / room / "README.md").read_text().split("## What can go wrong\n")[1]
    return re.findall(r"^\| `([^`]+)`", table.split("\n## ")[0], re.M)


def is_printed(message: str, room: str) -> bool:
    """Whether a text of the room's programs fits; N, M and X stand for values, ``...`` for more."""
    pieces = re.split(r"\.\.\.|\b[NMX]\b", message)
    pattern = re.compile(".*".join(map(re.escape, pieces)), re.S)
    return any(pattern.search(text) for text in _texts(room))


def _texts(room: str) -> Iterator[str]:
    """Every string of the room's Python files but docstrings, without the values in it."""
    for path in (ROOT / room).rglob("*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                constants = [part for part in node.values if isinstance(part, ast.Constant)]
                yield "".join(part.value for part in constants)
            elif isinstance(node, ast.Constant) and id(node) not in docstrings:
                yield str(node.value)

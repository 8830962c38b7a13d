"""A document of paragraphs, tables and images, written as Markdown or as HTML."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:78rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;font-size:13px}td,th{border:1px solid #ccc;padding:.2rem .5rem;
text-align:left}img{max-width:100%}"""


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Image:
    name: str
    text: str


Block = str | Table | Image  # a str that begins with # is a heading


def as_markdown(blocks: Iterable[Block]) -> str:
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Image):
        return f"![{block.text}]({block.name})"
    if isinstance(block, Table):
        lines = [block.header, ["---"] * len(block.header), *block.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
    return block


def as_html(blocks: Sequence[Block]) -> str:
    title = html.escape(str(blocks[0]).lstrip("# "))
    body = "\n".join(map(_html, blocks))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Image):
        return f'<p><img src="{block.name}" alt="{html.escape(block.text)}"></p>'
    if isinstance(block, Table):
        return (
            f"<table>{_html_row('th', block.header)}"
            + "".join(_html_row("td", row) for row in block.rows)
            + "</table>"
        )
    level = len(block) - len(block.lstrip("#"))
    text = html.escape(block.lstrip("# "))
    return f"<h{level}>{text}</h{level}>" if level else f"<p>{text}</p>"


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"

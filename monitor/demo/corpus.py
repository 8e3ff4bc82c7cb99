"""Reads the bundled help-centre documents: Markdown with `id` and `title` in the front matter.

Refuses a document that it cannot read whole; knows nothing about the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monitor.demo.problems import DemoError

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, kw_only=True)
class Document:
    """One help-centre article; `text` is plain prose."""

    id: str
    title: str
    text: str


def bundled_documents() -> tuple[Document, ...]:
    """Every bundled document, in the order of its file name."""
    return tuple(parse(path.read_text(encoding="utf-8")) for path in sorted(CORPUS.glob("*.md")))


def parse(markdown: str) -> Document:
    """A document from `---`, `key: value` lines, `---` and its text."""
    try:
        _, front_matter, text = markdown.split("---\n", 2)
        lines = (line.split(":", 1) for line in front_matter.splitlines())
        fields = {key.strip(): value.strip().strip('"') for key, value in lines}
        return Document(id=fields["id"], title=fields["title"], text=" ".join(text.split()))
    except (ValueError, KeyError) as error:
        raise DemoError(f"a document needs front matter with id and title: {error}") from error

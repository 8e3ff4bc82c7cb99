"""The two HTML pages, rendered from `templates/`. Escapes everything; runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitor.demo import notice
from monitor.demo.mode import iso
from monitor.demo.retrieval import Answer

# Short, so that nobody is shown an end of the window that has moved.
SHORT_LIVED: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "max-age=5",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    }
)

EXAMPLES = (
    "How long do I have to return an item?",
    "What does express delivery cost?",
    "How do I wash a waterproof jacket?",
)


def home_page(*, window: notice.Window | None, question: str, answer: Answer | None) -> str:
    """The front page: banner, search box and, when something was asked, the answer."""
    template = _environment().get_template("home.html")
    return template.render(window=window, question=question, answer=answer, examples=EXAMPLES)


def banner_page(*, window: notice.Window | None) -> str:
    """The notice alone, every announcement with it, newest first."""
    return _environment().get_template("banner.html").render(window=window)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["iso"] = iso
    environment.filters["spoken"] = _spoken
    environment.filters["headline"] = notice.headline
    environment.globals["notice"] = notice
    return environment


def _spoken(moment: datetime) -> str:
    fraction = f".{moment.microsecond // 1000:03d}" if moment.microsecond >= 1000 else ""
    return f"{moment.astimezone(UTC):%a %d %b %Y, %H:%M:%S}{fraction} UTC"

"""Every relative link and anchor in README and docs leads somewhere."""

import re
from pathlib import Path

import pytest

from monitor.model import CRITERIA

from .pages import LINK, PAGES, README, ROOT, anchors, prose

LINKS = [
    pytest.param(page, match["target"], id=f"{page.relative_to(ROOT)} -> {match['target']}")
    for page in PAGES
    for match in LINK.finditer(prose(page))
    if not match["target"].startswith(("http:", "https:", "mailto:"))
]
ALERTS = (ROOT / "alerts.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_relative_link_resolves(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    aim = (page.parent / path).resolve() if path else page

    assert aim.exists(), f"there is no {aim.relative_to(ROOT)}"
    if anchor:
        assert anchor in anchors(aim), f"{aim.name} has no heading for #{anchor}"


def test_readme_names_every_page() -> None:
    linked = {
        (README.parent / match["target"].partition("#")[0]).resolve()
        for match in LINK.finditer(README.read_text("utf-8"))
    }
    # These two are linked from the pages that the README names.
    inner = {"extend-close-roll-back-accept.md", "replay-evidence.md"}

    missing = {page.name for page in PAGES if page != README and page.resolve() not in linked}

    assert missing - inner == set()


@pytest.mark.parametrize("anchor", re.findall(r"respond-to-alerts\.md#([a-z-]+)", ALERTS))
def test_runbook_url_of_an_alert_has_its_heading(anchor: str) -> None:
    page = ROOT / "docs" / "how-to" / "respond-to-alerts.md"

    assert f"\n## {anchor}\n" in page.read_text("utf-8")


def test_every_criterion_has_a_runbook() -> None:
    headings = anchors(ROOT / "docs" / "how-to" / "respond-to-alerts.md")

    assert set(CRITERIA) <= headings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_names_no_path_of_a_machine(page: Path) -> None:
    text = page.read_text("utf-8")

    assert not re.search(r"/(?:work|tmp|home|root)/|localhost:\d", text)

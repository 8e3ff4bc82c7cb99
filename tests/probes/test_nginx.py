"""The traps of a real nginx in front of a service that is read-only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probes.base import Outcome, Result
from probes.http import Transport
from probes.read import HttpRead, ReadSpec
from probes.write.http import WriteSpec, http_write

from .harness import AGENT, OPENS, frozen, nginx

BODY = r'{"error": {"code": "read_only"}}'
READ = "if ($request_method = GET) { return 404; }"


async def attempt(transport: Transport, url: str, **spec: Any) -> Result:
    item = {"url": f"{url}/items/${{canary}}"}
    stated = WriteSpec.model_validate(
        {"http": item | {"method": "PUT"}, "read_back": {"http": item}, "undo": {"http": item}} | spec
    )
    probe = http_write(
        name="w", window="w", spec=stated, timeout=3, transport=transport, agent=AGENT, closes=OPENS + 3600
    )
    return await probe.run(frozen())


async def test_add_header_without_always_leaves_the_refusal_without_retry_after(
    transport: Transport, tmp_path: Path
) -> None:
    """The header stands on the answers to reads and not on the 503."""
    server = f"""add_header Retry-After 600; default_type application/json;
      location /items/ {{ {READ} return 503 '{BODY}'; }} location /read {{ return 200 'fine'; }}"""
    with nginx(tmp_path, server) as url:
        result = await attempt(transport, url)
        read = await HttpRead(
            name="r",
            spec=ReadSpec.model_validate({"http": {"url": f"{url}/read"}}),
            timeout=3,
            transport=transport,
            agent=AGENT,
        ).run(frozen())

    assert (result.outcome, result.reason) == (Outcome.REFUSED_BADLY, "503, but there is no Retry-After")
    assert read.outcome is Outcome.OK


async def test_the_same_with_always_is_a_refusal(transport: Transport, tmp_path: Path) -> None:
    """Status, Retry-After and code as promised."""
    server = f"""add_header Retry-After 600 always; default_type application/json;
      location / {{ {READ} return 503 '{BODY}'; }}"""
    with nginx(tmp_path, server) as url:
        result = await attempt(transport, url)

    assert (result.outcome, result.reason, result.figures["retry_after_s"]) == (
        Outcome.REFUSED,
        "503 read_only",
        600,
    )


@pytest.mark.parametrize(
    "header", ["", "add_header Retry-After 600 always;"], ids=["bare", "with Retry-After"]
)
async def test_a_stock_503_page_is_no_refusal(header: str, transport: Transport, tmp_path: Path) -> None:
    """A page for people may be an outage."""
    with nginx(tmp_path, f"{header} location / {{ {READ} return 503; }}") as url:
        result = await attempt(transport, url)

    assert result.outcome is Outcome.UNREACHABLE
    assert "503" in result.reason


async def test_a_dead_upstream_is_no_refusal(transport: Transport, tmp_path: Path) -> None:
    """502 blocks a write too."""
    with nginx(tmp_path, f"location / {{ {READ} proxy_pass http://127.0.0.1:1; }}") as url:
        result = await attempt(transport, url)

    assert (result.outcome, "answered 502" in result.reason) == (Outcome.UNREACHABLE, True)


async def test_two_add_headers_are_two_retry_after(transport: Transport, tmp_path: Path) -> None:
    """One that is inherited and one that is its own: a broken refusal."""
    server = f"""default_type application/json; location / {{ {READ}
      add_header Retry-After 600 always; add_header Retry-After 60 always; return 503 '{BODY}'; }}"""
    with nginx(tmp_path, server) as url:
        result = await attempt(transport, url)

    assert (result.outcome, "2 Retry-After" in result.reason) == (Outcome.REFUSED_BADLY, True)


@pytest.mark.parametrize("status", [301, 403, 405])
async def test_other_ways_to_block_prove_nothing(status: int, transport: Transport, tmp_path: Path) -> None:
    """nginx's own pages for a redirect, a denial and a method that is not allowed."""
    target = " /elsewhere" if status == 301 else ""
    with nginx(tmp_path, f"location / {{ {READ} return {status}{target}; }}") as url:
        result = await attempt(transport, url)

    assert (result.outcome, f"answered {status}" in result.reason) == (Outcome.UNREACHABLE, True)


async def test_a_method_that_the_guard_forgot_is_a_leak(transport: Transport, tmp_path: Path) -> None:
    """A filter that knows POST, PUT and DELETE lets PATCH pass."""
    server = f"""add_header Retry-After 600 always; default_type application/json; location / {{
      if ($request_method ~ ^(POST|PUT|DELETE)$) {{ return 503 '{BODY}'; }} return 200 '{{}}'; }}"""
    with nginx(tmp_path, server) as url:
        item = {"url": f"{url}/items/${{canary}}"}
        result = await attempt(transport, url, http=item | {"method": "PATCH"})

    assert result.outcome is Outcome.LEAKED
    assert "not undone: the undo answered 503" in result.reason

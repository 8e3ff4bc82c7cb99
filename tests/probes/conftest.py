"""Servers that stop with their test, the probes' own event loop, certificates made on the spot."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from probes.clockwork import ProbeLoop
from probes.http import Transport

from .harness import Script, Server, certificate


def pytest_asyncio_loop_factories() -> dict[str, type[asyncio.AbstractEventLoop]]:
    return {"probe-loop": ProbeLoop}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that say what a script says."""
    servers: list[Server] = []

    def start(script: Script, **settings: object) -> Server:
        servers.append(Server(script, **settings).start())  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport()
    yield made
    await made.aclose()


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that no authority knows, and a server's context with it."""
    return _context(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="session")
def certified_for_another(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    return _context(tmp_path_factory.mktemp("tls"), "elsewhere.example")


def _context(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    cert, key = certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context

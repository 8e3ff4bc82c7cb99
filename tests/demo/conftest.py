"""A fresh service for a test that turns its mode, a shared one for tests that do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .harness import Demo, running


@pytest.fixture
def demo() -> Iterator[Demo]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def open_demo() -> Iterator[Demo]:
    with running() as started:
        yield started

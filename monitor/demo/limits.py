"""How much the demo service takes in one request."""

from __future__ import annotations

QUESTION_LIMIT = 2_000
TITLE_LIMIT = 200
TEXT_LIMIT = 20_000
VECTOR_LIMIT = 4_096
BODY_LIMIT_BYTES = 256 * 1024
DEPTH_LIMIT = 32
NAME_PATTERN = r"[A-Za-z0-9._:~-]{1,200}"

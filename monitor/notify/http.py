"""One POST of JSON, and what its answer means for trying again. Shared by the notifiers over HTTP."""

import asyncio
import json
from typing import Any

import httpx

from monitor.notify.base import Delivery

TIMEOUT = httpx.Timeout(5.0)
IN_ALL = 10.0
"""Seconds for the whole exchange, however slowly the other side drips."""


async def post(
    client: httpx.AsyncClient, url: str, payload: Any, headers: dict[str, str] | None = None
) -> Delivery:
    """POST `payload`. A 5xx, a 429 or no answer may be tried again; another refusal may not."""
    body = json.dumps(payload).encode()  # ASCII: half a character from a target must not silence an alert
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        async with (
            asyncio.timeout(IN_ALL),
            client.stream("POST", url, content=body, headers=sent, timeout=TIMEOUT) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, TimeoutError) as error:
        return Delivery(problem=f"{type(error).__name__}: {error}", again=True)
    except (httpx.InvalidURL, ValueError) as error:
        return Delivery(problem=f"{type(error).__name__}: {error}")
    if 200 <= status < 300:
        return Delivery()
    return Delivery(problem=f"answered {status}", again=status >= 500 or status == 429)

"""One POST of JSON, and what its answer means for trying again. Shared by the notifiers over HTTP."""

from typing import Any

import httpx

from monitor.notify.base import Delivery

TIMEOUT = httpx.Timeout(5.0)


async def post(
    client: httpx.AsyncClient, url: str, payload: Any, headers: dict[str, str] | None = None
) -> Delivery:
    """POST `payload`. A 5xx, a 429 or no answer may be tried again; another refusal may not."""
    try:
        answer = await client.post(url, json=payload, headers=headers, timeout=TIMEOUT)
    except httpx.HTTPError as error:
        return Delivery(problem=f"{type(error).__name__}: {error}", again=True)
    if answer.is_success:
        return Delivery()
    again = answer.status_code >= 500 or answer.status_code == 429
    return Delivery(problem=f"answered {answer.status_code}", again=again)

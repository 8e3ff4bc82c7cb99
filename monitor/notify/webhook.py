"""A generic webhook: one POST of JSON (`freezewatch.alert/1`) for every change of an alert."""

from dataclasses import asdict
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from monitor.model import iso
from monitor.notify.base import Alert, Delivery, Notifier, NotifierSpec
from monitor.notify.http import post
from probes.request import Url


class WebhookSpec(NotifierSpec):
    """`webhook: {url: https://…, headers: {…}}`."""

    url: Url
    headers: dict[str, str] = Field(default_factory=dict)

    def notifier(self, client: httpx.AsyncClient) -> Notifier:
        """A notifier that posts to `url`."""
        return Webhook(self, client)


class Webhook:
    """Posts alerts as they are, times in ISO 8601."""

    resend = None

    def __init__(self, spec: WebhookSpec, client: httpx.AsyncClient) -> None:
        self._spec = spec
        self._client = client
        self.name = f"webhook {urlsplit(spec.url).hostname}"

    async def tell(self, alert: Alert) -> Delivery:
        """Post one alert."""
        payload = {"schema": "freezewatch.alert/1", **asdict(alert), "since": iso(alert.since)}
        del payload["fired_as"], payload["formerly"]
        if alert.resolved_at is not None:
            payload["resolved_at"] = iso(alert.resolved_at)
        return await post(self._client, self._spec.url, payload, self._spec.headers)

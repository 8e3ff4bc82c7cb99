"""Alertmanager, API v2. An alert is sent again while it fires, since Alertmanager forgets it otherwise."""

import time
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from monitor.model import iso
from monitor.notify.base import Alert, Delivery, Notifier, NotifierSpec
from monitor.notify.http import post
from probes.request import Url
from probes.units import Positive

SEVERITY = {"ROLL_BACK": "critical", "EXTEND": "warning"}


class AlertmanagerSpec(NotifierSpec):
    """`alertmanager: {url: "http://alertmanager:9093"}`."""

    url: Url
    labels: dict[str, str] = Field(default_factory=dict)
    resend: Positive = 60.0

    def notifier(self, client: httpx.AsyncClient) -> Notifier:
        """A notifier that posts to `/api/v2/alerts`."""
        return Alertmanager(self, client)


class Alertmanager:
    """Posts alerts; `endsAt` lies three resends ahead while firing, so that a dead watchdog resolves."""

    def __init__(self, spec: AlertmanagerSpec, client: httpx.AsyncClient) -> None:
        self._spec = spec
        self._client = client
        self._url = spec.url.rstrip("/") + "/api/v2/alerts"
        self.name = f"alertmanager {urlsplit(spec.url).hostname}"
        self.resend = spec.resend

    async def tell(self, alert: Alert) -> Delivery:
        """Post one alert."""
        ends = alert.resolved_at or time.time() + 3 * self._spec.resend
        severity = _severity(alert.fired_as or alert.action)
        labels = {
            **self._spec.labels,
            "alertname": "FreezewatchEscalation",
            "window": alert.window_id,
            "cause": alert.cause,
            "severity": severity,
        }
        annotations = {
            "summary": alert.summary,
            "action": alert.action,
            "since": iso(alert.since),
            "description": "\n".join(str(item["what"]) for item in alert.evidence),
        }
        if alert.runbook:
            annotations["runbook_url"] = alert.runbook
        if alert.contact:
            annotations["contact"] = alert.contact
        payload = {
            "labels": labels,
            "annotations": annotations,
            "startsAt": iso(alert.since),
            "endsAt": iso(ends),
        }
        payloads = [payload]
        before = severity if alert.formerly is None else _severity(alert.formerly)
        if before != severity:  # for Alertmanager other labels are another alert: end the former one
            former = {**payload, "labels": {**labels, "severity": before}, "endsAt": iso(time.time())}
            payloads.append(former)
        return await post(self._client, self._url, payloads)


def _severity(action: str) -> str:
    return SEVERITY.get(action, "warning")

"""The table of notifiers: name in `window.yaml` -> settings."""

from collections.abc import Mapping

from monitor.notify.alertmanager import AlertmanagerSpec
from monitor.notify.base import NotifierSpec
from monitor.notify.webhook import WebhookSpec

NOTIFIERS: Mapping[str, type[NotifierSpec]] = {
    "alertmanager": AlertmanagerSpec,
    "webhook": WebhookSpec,
}

__all__ = ["NOTIFIERS", "NotifierSpec"]

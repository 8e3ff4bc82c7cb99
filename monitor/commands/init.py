"""init: write a commented `window.yaml` to start from."""

from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

from monitor.errors import UsageError


def init(config: Path, *, force: bool) -> int:
    """Write the starter file; an existing one is kept unless `force`."""
    if config.exists() and not force:
        raise UsageError(f"{config} exists already: --force writes over it")
    starter = resources.files("monitor.commands").joinpath("starter.yaml").read_text("utf-8")
    tonight = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=24)
    text = starter.replace("@OPENS@", _iso(tonight)).replace("@CLOSES@", _iso(tonight + timedelta(hours=1)))
    config.write_text(text, encoding="utf-8")
    print(f"{config}: written. Put your own service in, then: freezewatch check --ask --config {config}")
    return 0


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")

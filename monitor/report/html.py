"""Report -> one HTML page that needs no network: for the operator, the auditor and the on-call.

Judges nothing. Everything that comes from targets or from `window.yaml` is hostile: it is redacted,
made visible, shortened and escaped on its way into the page, and a content security policy lets
nothing run but the page's own two scripts.
"""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from monitor.report import canvas
from monitor.report.build import Report
from monitor.report.charts import charts
from monitor.report.page import ASKS, UNCONFIGURED, arrange, bare_reason, phases, sort_of
from monitor.report.text import Words, clean, clock, figure, label, length, moment

HERE = Path(__file__).parent


def render(report: Report) -> str:
    """The whole page as text. Needs no network, now or when it is read."""
    redact = report.plan.redactor.text

    def words(text: str) -> str:
        return clean(redact(text))

    drawn = charts(report, words)
    filled = [chart for chart in drawn if chart.series]
    shaded = phases(report.timeline, report.generated_at)
    data = canvas.payload(filled, shaded, report.timeline) if filled else ""
    library = canvas.library() if filled else ""
    boot = (HERE / "report.js").read_text(encoding="utf-8")
    return (
        _environment(words)
        .get_template("template.html.j2")
        .render(
            page=arrange(report, drawn),
            report=report,
            css=Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
            policy=Markup(_policy([library, boot] if filled else [])),  # noqa: S704 - no text of others
            library=Markup(library),  # noqa: S704 - out of the wheel
            boot=Markup(boot),  # noqa: S704 - our own file
            payload=Markup(data),  # noqa: S704 - JSON without <, > and &
        )
    )


def _environment(words: Words) -> Environment:
    def finalize(value: object) -> object:
        """Every text that a template shows passes here, before it is escaped."""
        return words(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "moment": moment,
        "clock": clock,
        "length": length,
        "label": label,
        "figure": lambda pair: figure(*pair),
    }
    environment.tests["unconfigured"] = lambda reason: str(reason).startswith(UNCONFIGURED)
    environment.globals |= {"asks": ASKS, "sort_of": sort_of, "bare": bare_reason}
    return environment


def _policy(scripts: Iterable[str]) -> str:
    """Nothing may be loaded; only these scripts may run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    allowed = f"script-src {hashes}; " if hashes else ""
    return (
        f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )

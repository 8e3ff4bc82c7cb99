"""The command line. Declares commands and options; what they do is imported when one is used.

Exit codes: 0 green, 1 red, 2 usage or configuration, 3 amber (not enough evidence), 4 the watchdog failed.
"""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from monitor import __version__

app = typer.Typer(
    name="freezewatch",
    help="The watchdog of a read-only maintenance window. No evidence is never green.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Exit codes: 0 green, 1 red, 2 usage or configuration, 3 amber, 4 the watchdog failed.",
)

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The window's configuration.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
Who = Annotated[Optional[str], typer.Option("--who", help="Whose act it is; you, by default.")]  # noqa: UP045
Why = Annotated[str, typer.Option("--reason", help="Why. Every report shows it.")]
LedgerPath = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--ledger", metavar="FILE", help="Another ledger than the window's own."),
]
HERE = Path("window.yaml")


class GateAt(StrEnum):
    """What the gate is asked."""

    CLOSE = "close"
    END = "end"


class Format(StrEnum):
    """Forms of the report."""

    JSON = "json"
    HTML = "html"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"freezewatch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The watchdog of a read-only maintenance window. No evidence is never green."""


@app.command()
def demo(
    fault: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--fault", metavar="NAME", help="What goes wrong; `list` names the faults."),
    ] = None,
    length: Annotated[str, typer.Option("--length", help="How long writes are frozen.")] = "60s",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where files go.")] = Path(
        "freezewatch-demo"
    ),
    as_json: Json = False,
) -> None:
    """Watch a whole window of a real service on this machine, with or without a fault."""
    from monitor.demo.run import demo as run

    raise typer.Exit(run(fault, length, out, as_machine=as_json))


@app.command()
def init(
    config: Config = HERE,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a commented window.yaml to start from."""
    from monitor.commands.init import init as run

    raise typer.Exit(run(config, force=force))


@app.command()
def check(
    name: Annotated[
        Optional[str], typer.Argument(help="With --ask: only this probe.")  # noqa: UP045
    ] = None,
    config: Config = HERE,
    ask: Annotated[bool, typer.Option("--ask", help="Run every probe once, harmlessly.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="With --ask: the exchanges in full, secrets hidden.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the configuration: every mistake with file, line and column."""
    from monitor.commands.check import check as run

    raise typer.Exit(run(config, ask=ask or name is not None, name=name, show=show, as_machine=as_json))


@app.command()
def watch(config: Config = HERE, as_json: Json = False) -> None:
    """Watch the whole window: probe, record, judge, advise, alert."""
    from monitor.commands.watch import watch as run

    raise typer.Exit(run(config, as_machine=as_json))


@app.command()
def status(config: Config = HERE, as_json: Json = False) -> None:
    """Where does the window stand?"""
    from monitor.commands.judge import status as run

    raise typer.Exit(run(config, as_machine=as_json))


@app.command()
def extend(
    reason: Why,
    config: Config = HERE,
    who: Who = None,
    by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--by", help="By how long; as window.yaml says, by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Move the end of the window."""
    from monitor.commands.acts import extend as run

    raise typer.Exit(run(config, who, reason, by, as_machine=as_json))


@app.command()
def close(reason: Why, config: Config = HERE, who: Who = None, as_json: Json = False) -> None:
    """Close the window now, if the gate lets it."""
    from monitor.commands.acts import close as run

    raise typer.Exit(run(config, who, reason, as_machine=as_json))


@app.command("roll-back")
def roll_back(reason: Why, config: Config = HERE, who: Who = None, as_json: Json = False) -> None:
    """Record that the change was rolled back."""
    from monitor.commands.acts import roll_back as run

    raise typer.Exit(run(config, who, reason, as_machine=as_json))


@app.command()
def accept(
    criterion: Annotated[str, typer.Argument(help="The criterion whose findings are accepted.")],
    reason: Why,
    config: Config = HERE,
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Accept what a criterion found so far, in somebody's name."""
    from monitor.commands.acts import accept as run

    raise typer.Exit(run(config, criterion, who, reason, as_machine=as_json))


@app.command()
def gate(
    at: Annotated[GateAt, typer.Option("--at", help="close: may writes come back? end: all verified?")],
    config: Config = HERE,
    wait: Annotated[
        str, typer.Option("--wait", help="How long to wait for an answer that can still change.")
    ] = "0s",
    as_json: Json = False,
) -> None:
    """May the window close? Exit 0 yes, 1 something failed, 3 not enough evidence."""
    from monitor.commands.common import length
    from monitor.commands.judge import gate as run

    moment: Literal["close", "end"] = "close" if at is GateAt.CLOSE else "end"
    raise typer.Exit(run(config, moment, wait=length("--wait", wait), as_machine=as_json))


@app.command()
def report(
    config: Config = HERE,
    form: Annotated[Format, typer.Option("--format", help="html for people, json for machines.")] = (
        Format.JSON
    ),
    out: Annotated[
        Optional[Path], typer.Option("--out", metavar="FILE", help="Instead of standard output.")  # noqa: UP045
    ] = None,
) -> None:
    """Write the verification report."""
    from monitor.commands.judge import report as run

    raise typer.Exit(run(config, form.value, out))


@app.command()
def replay(config: Config = HERE, ledger: LedgerPath = None, as_json: Json = False) -> None:
    """Judge recorded evidence under another configuration."""
    from monitor.commands.judge import replay as run

    raise typer.Exit(run(config, ledger, as_machine=as_json))


@app.command()
def verify(config: Config = HERE, ledger: LedgerPath = None, as_json: Json = False) -> None:
    """Check the ledger's chain; names the first broken record."""
    from monitor.commands.judge import verify as run

    raise typer.Exit(run(config, ledger, as_machine=as_json))


@app.command()
def schema(
    name: Annotated[str, typer.Argument(help="window, event, report, gate or alert.")],
) -> None:
    """Print the JSON schema of a file or an output."""
    from monitor.commands.schema import schema as run

    raise typer.Exit(run(name))


def main() -> None:
    """Run the command line; every failure of ours becomes one line and an exit code."""
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        from monitor.errors import FreezewatchError

        if isinstance(error, FreezewatchError):
            place = getattr(error, "mistakes", None) is not None  # each line names its file already
            print(error if place else f"freezewatch: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        import traceback

        traceback.print_exc()
        print("freezewatch: the watchdog itself failed; this is no verdict", file=sys.stderr)
        sys.exit(4)


if __name__ == "__main__":
    main()

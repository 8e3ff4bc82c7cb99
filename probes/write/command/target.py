"""A write by a program of the operator's: the way out for every store that has no kind of its own.

The program says by its exit status what came of the write. Nothing is taken for a refusal that was not
configured as one: there is no status that means *refused* everywhere, and 1 and 2 mean *failed* nearly
everywhere. What it prints is searched, and never repeated beyond one short line: it may hold secrets.
"""

import json
import re
import time
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from probes.jsonpath import JsonPath
from probes.refusal import Class, Judgement, Pattern, code_in
from probes.request import PLACEHOLDER
from probes.secrets import Redactor
from probes.shown import LONGEST, shown
from probes.tools import Tools
from probes.write.canary import Canary
from probes.write.command.process import Argument, Argv, Ended, Invocation, NotStarted, Variables, run
from probes.write.target import Reason, Tried, Within, WithReadBack

NO_READ_BACK = "no read_back is configured"
VAGUE = {0, 1, 2, 126, 127}
"""Statuses that say too little: done, anything at all went wrong, a shell could not run the program."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no exit status")  # noqa: TRY004 - pydantic reads ValueError
    return value


Exits = Annotated[
    list[Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=255)]],
    Field(min_length=1),
    BeforeValidator(_as_list),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Given(_Model):
    """What a program is given besides its arguments."""

    env: Variables = Field(default={}, repr=False)
    cwd: Argument | None = None
    stdin: str | None = Field(default=None, repr=False)

    def invoked(self, run: list[str], canary: Canary) -> Invocation:
        """The run of a program and its arguments for one attempt."""
        values = canary.values
        named = {f"FREEZEWATCH_{name.upper()}": value for name, value in values.items()}
        stdin = None if self.stdin is None else _text(self.stdin, values)
        return Invocation(
            argv=tuple(_text(item, values) for item in run),
            env=named | {name: _text(value, values) for name, value in self.env.items()},
            cwd=self.cwd,
            stdin=None if stdin is None else stdin.encode("utf-8", "replace"),
        )


def _text(text: str, values: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


class Ending(_Model):
    """A way for a program to end: by its status, and by what it printed."""

    exit: Exits
    stdout: Pattern | None = None
    stderr: Pattern | None = None

    @property
    def marked(self) -> bool:
        """Something tells it from another end with the same status."""
        return self.stdout is not None or self.stderr is not None

    def fits(self, ended: Ended) -> bool:
        """Did it end so?"""
        return ended.status in self.exit and self.unmatched(ended) is None

    def unmatched(self, ended: Ended) -> str | None:
        """What its output lacks."""
        for name, pattern, said in (
            ("stdout", self.stdout, ended.stdout),
            ("stderr", self.stderr, ended.stderr),
        ):
            if pattern is not None and not re.search(pattern, said.decode("utf-8", "replace")):
                return f"{name} does not match /{pattern}/"
        return None


class CommandRefusal(Ending):
    """How the program says that the write was refused by the guard."""

    code: JsonPath | Literal["none"] = "none"
    """Where the stable code stands in the JSON that it prints."""
    equals: str | None = None
    """The code itself, where it is known."""

    @model_validator(mode="after")
    def _can_tell(self) -> "CommandRefusal":
        if self.equals is not None and self.code == "none":
            raise ValueError("equals names a code, and there is none: say by code where it stands in stdout")
        if 0 in self.exit and not (self.marked or self.equals is not None):
            raise ValueError("0 says done: name stdout, stderr or equals, by which a refusal is known")
        return self


class ReadBack(_Given):
    """The program that tells whether the canary is there, or why there is none."""

    run: Argv | None = Field(default=None, repr=False)
    present: Ending = Ending(exit=[0])
    absent: Ending | None = None
    within: Within = 0.0
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "ReadBack":
        _run_or_waived(self.run, self.waived)
        if self.run is None:
            return self
        if self.absent is None:
            raise ValueError("say by absent how the program ends when the canary is not there: {exit: [3]}")
        if set(self.absent.exit) & set(self.present.exit) and not (self.absent.marked or self.present.marked):
            raise ValueError("present and absent share an exit status: name stdout or stderr in one of them")
        return self


class Undo(_Given):
    """The program that takes the canary away, or why it need not be."""

    run: Argv | None = Field(default=None, repr=False)
    exit: Exits = [0]
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "Undo":
        _run_or_waived(self.run, self.waived)
        return self


def _run_or_waived(run: list[str] | None, waived: str | None) -> None:
    if (run is None) == (waived is None):
        raise ValueError("give run, or waived with a reason: one of the two")


class Command(_Given):
    """The program that tries to write."""

    run: Argv = Field(repr=False)
    """The program and its arguments, which no shell ever sees."""
    output_limit: Annotated[int, Field(ge=1024, le=1 << 20)] = 1 << 16
    """Bytes of each of its streams that are searched; what comes after them is thrown away."""


class CommandWrite(WithReadBack):
    """One write surface behind a program."""

    command: Command
    refusal: CommandRefusal
    accepted: Ending = Ending(exit=[0])
    read_back: ReadBack | None = None
    undo: Undo | None = None

    @model_validator(mode="after")
    def _told_apart(self) -> "CommandWrite":
        known = self.refusal.marked or self.refusal.equals is not None
        if set(self.refusal.exit) & set(self.accepted.exit) and not known:
            raise ValueError("refusal and accepted share an exit status: name stdout, stderr or equals")
        return self

    @property
    def own_doubts(self) -> list[str]:
        """What will not turn out as the user hopes."""
        found = []
        known = self.refusal.marked or self.refusal.equals is not None
        if not known and (vague := VAGUE.intersection(self.refusal.exit)):
            found.append(
                f"a program that fails for any reason exits with {_any(vague)} too; "
                "name stdout, stderr or equals, by which a refusal is known"
            )
        absent = self.read_back.absent if self.read_back else None
        if absent and not absent.marked and (vague := VAGUE.intersection(absent.exit)):
            found.append(
                f"a read-back that fails exits with {_any(vague)} too, and counts as absent then; "
                "name stdout or stderr, or another status"
            )
        return found


class CommandTarget:
    """One program to write with."""

    def __init__(self, spec: CommandWrite, timeout: float) -> None:
        self._spec = spec
        self._timeout = timeout
        self.within = spec.read_back.within if spec.read_back else 0.0
        self.unread = None if spec.read_back is not None else NO_READ_BACK
        self.believed = spec.read_back is not None and spec.read_back.waived is not None
        self.undoable = spec.undo is not None
        self.one_code = spec.refusal.code != "none"

    @property
    def tries(self) -> str:
        """The program's name; its arguments may hold secrets."""
        count = len(self._spec.command.run) - 1
        return f"run {PurePath(self._spec.command.run[0]).name} with {count} argument{'s' * (count != 1)}"

    async def attempt(self, canary: Canary) -> Tried:
        """Run the program once."""
        began = time.perf_counter()
        try:
            ended = await self._run(self._spec.command.run, self._spec.command, canary)
        except NotStarted as error:
            return Tried(judgement=None, unanswered=error.reason, may_land=False)
        spent = time.perf_counter() - began
        unanswered = _unanswered(ended, self._timeout)
        if unanswered is not None:
            return Tried(judgement=None, unanswered=unanswered, duration_s=spent)
        judgement = judged(ended, self._spec, _hint(ended, self._spec.command.env))
        return Tried(judgement=judgement, duration_s=spent, figures={"exit": ended.status})

    async def look(self, canary: Canary) -> bool | str:
        """Does the read-back show the canary?"""
        rule = self._spec.read_back
        if rule is None or rule.run is None or rule.absent is None:
            return NO_READ_BACK
        try:
            ended = await self._run(rule.run, rule, canary)
        except NotStarted as error:
            return f"the read-back failed: {error.reason}"
        unanswered = _unanswered(ended, self._timeout)
        if unanswered is not None:
            return f"the read-back failed: {unanswered}"
        absent, present = rule.absent.fits(ended), rule.present.fits(ended)
        if absent != present:
            return present
        if absent:
            return f"the read-back ended with {ended.status}, by which it says both present and absent"
        return f"the read-back ended with {ended.status}{_hint(ended, rule.env)}"

    async def undo(self, canary: Canary) -> str | None:
        """None when the canary is gone, or need not be taken away; otherwise why it is not."""
        rule = self._spec.undo
        if rule is None or rule.run is None:
            return None
        try:
            ended = await self._run(rule.run, rule, canary)
        except NotStarted as error:
            return error.reason
        unanswered = _unanswered(ended, self._timeout)
        if unanswered is None and ended.status in rule.exit:
            return None
        return unanswered or f"the undo ended with {ended.status}{_hint(ended, rule.env)}"

    async def aclose(self) -> None:
        """Nothing is held between attempts."""

    async def _run(self, argv: list[str], given: _Given, canary: Canary) -> Ended:
        limit = self._spec.command.output_limit
        return await run(given.invoked(argv, canary), seconds=self._timeout, limit=limit)


def _any(statuses: set[int]) -> str:
    return " or ".join(map(str, sorted(statuses)))


def command_target(spec: CommandWrite, timeout: float, tools: Tools) -> CommandTarget:
    """The target of a `command` surface."""
    return CommandTarget(spec, timeout)


def judged(ended: Ended, spec: CommandWrite, hint: str = "") -> Judgement:
    """What a program's end says of the write. Pure. `hint` is what may be shown of its output."""
    rule, status = spec.refusal, ended.status
    lacks = rule.unmatched(ended)
    if status in rule.exit and lacks is None:
        refused = _refused(rule, status, code_in(_document(ended.stdout), rule.code))
        if refused.kind is not Class.OTHER or not spec.accepted.fits(ended):
            return refused
    if spec.accepted.fits(ended):
        return Judgement(kind=Class.ACCEPTED, reason=f"ended with {status}")
    if status in rule.exit:
        return Judgement(kind=Class.OTHER, reason=f"ended with {status}, but {lacks}{hint}")
    meaning = "neither the configured refusal nor accepted"
    return Judgement(kind=Class.OTHER, reason=f"ended with {status}, {meaning}{hint}")


def _refused(rule: CommandRefusal, status: int | None, code: str | None) -> Judgement:
    """The status and the marks are those of a refusal: is the code?"""
    if rule.code == "none":
        return Judgement(kind=Class.PROPER, reason=f"ended with {status}", code=str(status))
    if code is None:
        # Without the code nothing but the status speaks for the guard, and some have too many meanings.
        vague = status in VAGUE and not rule.marked
        reason = f"ended with {status}, but there is no stable code at {rule.code} in stdout"
        return Judgement(kind=Class.OTHER if vague else Class.BROKEN, reason=reason)
    if rule.equals is not None and code != rule.equals:
        reason = f"ended with {status}, but the code is {shown(code)}, not {rule.equals!r}"
        return Judgement(kind=Class.OTHER, reason=reason, code=code)
    return Judgement(kind=Class.PROPER, reason=f"ended with {status} {code}", code=code)


def _document(said: bytes) -> Any:
    """What was printed, as JSON: the whole of it, or its last line; None where it is none."""
    text = said.decode("utf-8", "replace").strip()
    for part in (text, text.rpartition("\n")[2]):
        try:
            return json.loads(part)
        except (ValueError, RecursionError):
            continue
    return None


def _unanswered(ended: Ended, timeout: float) -> str | None:
    """Why the end of a program says nothing."""
    if ended.flooded:
        return "printed without end, and was ended"
    if ended.status is None:
        return f"not done within {timeout:g} s, and ended"
    return f"ended by signal {-ended.status}" if ended.status < 0 else None


def _hint(ended: Ended, env: dict[str, str]) -> str:
    """The last line of its standard error, where that is short and holds none of its variables' values."""
    lines = ended.stderr.decode("utf-8", "replace").strip().splitlines()
    line = "".join(each for each in lines[-1] if each.isprintable()).strip() if lines else ""
    if not line or len(line) > LONGEST:
        return ""
    return f": {shown(Redactor(env).text(line))}"

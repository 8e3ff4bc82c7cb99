"""How a write to an AMQP broker is configured, and what counts as its refusal. Pure."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from probes.refusal import Class, Judgement
from probes.request import PLACEHOLDER
from probes.stores.amqp import AmqpName, AmqpUrl, BrokerError, ShortText
from probes.units import Duration, NoBool
from probes.write.target import FromBefore, Reason, Within, WriteBase

Form = Literal["transaction", "unroutable", "canary"]
OUR_KEY: Final = "freezewatch.${canary}"


class Amqp(BaseModel):
    """Where is written, and in which form."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: AmqpUrl = Field(repr=False)
    exchange: AmqpName = ""
    routing_key: ShortText | None = None
    """The key that the application uses; on the default exchange it is the name of a queue."""
    form: Form = "transaction"
    expires: Annotated[Duration, Field(ge=0.001, le=86400)] = 60.0
    """Time after which the broker drops a canary that nobody took."""

    @model_validator(mode="after")
    def _fits_its_form(self) -> "Amqp":
        if self.form == "canary" and self.routing_key is None and not self.exchange:
            raise ValueError("a canary needs somewhere to go: name the exchange, the routing_key, or both")
        fixed = self.routing_key is not None and not PLACEHOLDER.search(self.routing_key)
        if self.form == "unroutable" and not self.exchange and fixed:
            raise ValueError("on the default exchange a fixed routing_key names a queue: leave it out")
        return self


class AmqpRefusal(BaseModel):
    """What a proper refusal looks like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reply_codes: Annotated[list[Annotated[int, NoBool, Field(ge=300, le=599)]], Field(min_length=1)] = [403]
    """With which the broker closes the channel."""
    nack: bool = True
    """A queue that rejects the message refuses it (`x-overflow: reject-publish`)."""


class AmqpReadBack(BaseModel):
    """How a canary is looked for, or why it cannot be."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    queue: AmqpName | None = None
    """A queue of the watchdog's own that is bound so that the canary reaches it."""
    url: AmqpUrl | None = Field(default=None, repr=False)
    """With another user, where the application's may not read that queue."""
    within: Within = 1.0
    waived: Reason | None = None

    @model_validator(mode="after")
    def _one(self) -> "AmqpReadBack":
        if bool(self.queue) == (self.waived is not None):
            raise ValueError("give queue, or waived with a reason: one of the two")
        return self


class AmqpUndo(BaseModel):
    """Why a canary that leaked need not be taken away."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    waived: Reason


class AmqpWrite(WriteBase):
    """One write surface on a broker."""

    amqp: Amqp
    refusal: AmqpRefusal = AmqpRefusal()
    read_back: AmqpReadBack | None = None
    undo: AmqpUndo | None = None
    busy_channel: bool = True
    """Ask over a channel from before the window as well, one that was never idle."""

    @model_validator(mode="after")
    def _read_back_of_a_canary(self) -> "AmqpWrite":
        if self.amqp.form != "canary" and self.read_back is not None:
            raise ValueError("read_back looks for a canary: it needs `form: canary`")
        return self

    @property
    def verified(self) -> bool:
        """Nothing can be there, or it is looked for, or there is a reason why it need not be."""
        return self.amqp.form != "canary" or self.read_back is not None

    @property
    def undoable(self) -> bool:
        """Nothing is left, or it can be taken from a queue of our own, or it need not be."""
        own = self.read_back is not None and self.read_back.queue is not None
        return self.amqp.form != "canary" or own or self.undo is not None

    @property
    def beside(self) -> list[tuple[str, WriteBase, float]]:
        """The same over a channel that is kept busy since before the window."""
        if not self.busy_channel or self.amqp.form != "transaction":
            return []
        return [("busy-channel", AmqpBusyWrite.like(self), 1.0)]


class AmqpBusyWrite(FromBefore, AmqpWrite):
    """A write over a channel from before the window."""


def judge_closed(error: BrokerError, refusal: AmqpRefusal, *, own_key: bool) -> Judgement:
    """Is a channel that was closed a proper refusal? Pure. `own_key`: nobody but us uses the routing key."""
    said = error.reason
    code = None if error.code is None else str(error.code)
    other = Judgement(kind=Class.OTHER, reason=said, code=code)
    if error.at_login or error.code not in refusal.reply_codes:
        return other
    if "internal exchange" in said:
        return Judgement(
            kind=Class.OTHER, reason=f"{said}: nobody may publish to it, frozen or not", code=code
        )
    if own_key and "access to topic" in said:
        reason = f"{said}: a key of ours, refused whether frozen or not; name the application's routing_key"
        return Judgement(kind=Class.OTHER, reason=reason, code=code)
    return Judgement(kind=Class.PROPER, reason=said, code=code)

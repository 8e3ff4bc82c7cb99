"""How a value that a target sent is shown in a reason: whole, or not at all.

A value that was cut might end within a secret, which nobody could recognise and hide any more.
"""

LONGEST = 60


def shown(value: object) -> str:
    """`value` in quotes, or how long it is when it is longer than 60 characters."""
    text = value if isinstance(value, str) else str(value)
    return repr(text) if len(text) <= LONGEST else f"a text of {len(text)} characters"


def writable(text: str) -> str:
    """`text` as every disk and wire takes it: JSON can hold half of a character, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")

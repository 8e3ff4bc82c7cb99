"""JSONPath (RFC 9535) on answers. A path that cannot be read raises; a path that finds nothing does not."""

from functools import lru_cache
from typing import Annotated, Any

from jsonpath_rfc9535 import JSONPathError, JSONPathQuery, compile
from pydantic import AfterValidator


@lru_cache(maxsize=1024)
def _query(path: str) -> JSONPathQuery:
    return compile(path)


def _check(path: str) -> str:
    try:
        _query(path)
    except JSONPathError as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"{path!r} is no JSONPath (RFC 9535): {message}") from None
    return path


JsonPath = Annotated[str, AfterValidator(_check)]


def find_all(path: str, document: Any) -> list[Any]:
    """Every value at `path`, in document order; an empty list where there is none."""
    try:
        return list(_query(path).find(document).values())
    except (JSONPathError, RecursionError):
        return []


def find_first(path: str, document: Any) -> Any:
    """The first value at `path`, or None."""
    found = find_all(path, document)
    return found[0] if found else None

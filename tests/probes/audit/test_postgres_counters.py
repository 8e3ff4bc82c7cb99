"""What counters and a slot come to when set against each other, and what a slot's lines say. Pure."""

from dataclasses import replace

import pytest

from probes.audit.postgres.counters import Identity, Mark, Table, compared, matches, recounted
from probes.audit.postgres.slot import SAMPLE_SIZE, keys, parsed, relations, spelled
from probes.audit.reading import Change

SERVER = Identity(
    system="7", database=5, timeline="1", standby=False, started="2026", crashed="2025", reset=None
)


def table(*numbers: int, oid: int = 1, unlogged: bool = False) -> Table:
    return Table(
        oid=oid, name=f"public.t{oid}", quoted="t", unlogged=unlogged, size=8192, numbers=list(numbers)
    )


def mark(tables: dict[int, list[int]], **other: object) -> Mark:
    whole = Mark(identity=SERVER, patterns=["*"], method="tuples", tables=tables)
    return replace(whole, **other)  # type: ignore[arg-type]


def compare(
    before: Mark,
    *now: Table,
    shown: dict[int, list[int]] | None = None,
    all_: bool = True,
    clock: float = 0.0,
) -> tuple[list[Change], dict[int, list[int]], str | None]:
    found = {each.oid: each for each in now}
    return compared(before, found, shown or {}, names={9: "public.gone"}, clock=clock, all_=all_)


def said(changes: list[Change]) -> list[str]:
    return [change.said for change in changes]


def test_counters_that_grew_are_changes_by_kind() -> None:
    changes, pending, backwards = compare(mark({1: [5, 10, 20, 30]}), table(5, 11, 22, 33))

    assert said(changes) == ["public.t1: 1 × insert", "public.t1: 2 × update", "public.t1: 3 × delete"]
    assert (pending, backwards) == ({}, None)


def test_what_a_slot_has_shown_is_taken_off_and_what_is_not_counted_yet_is_owed() -> None:
    before = mark({1: [5, 10, 0, 0]})

    changes, pending, _ = compare(before, table(5, 12, 0, 0), shown={1: [5, 1, 0, 0]})
    later, rest, _ = compare(
        mark({1: [5, 12, 0, 0]}, pending=pending, pending_until=9.0), table(5, 16, 1, 0), clock=5.0
    )

    assert (changes, pending) == ([], {1: [3, 1, 0, 0]})
    assert (said(later), rest) == (["public.t1: 1 × insert"], {})


def test_what_is_owed_for_too_long_is_forgotten() -> None:
    before = mark({1: [5, 0, 0, 0]}, pending={1: [3, 0, 0, 0]}, pending_until=9.0)

    assert said(compare(before, table(5, 3, 0, 0), clock=10.0)[0]) == ["public.t1: 3 × insert"]


def test_a_surplus_beside_a_slot_was_rolled_back_except_in_unlogged_tables() -> None:
    before = mark({1: [5, 0, 0, 0], 2: [6, 0, 0, 0]})

    changes, _, _ = compare(before, table(5, 3, 0, 0), table(6, 4, 0, 0, oid=2, unlogged=True), all_=False)

    assert said(changes) == ["public.t2: 4 × insert"]


def test_a_truncate_that_was_shown_is_no_rewrite_as_well() -> None:
    before = mark({1: [5, 0, 0, 0]})

    assert compare(before, table(6, 0, 0, 0), shown={1: [0, 0, 0, 1]}) == ([], {}, None)
    assert said(compare(before, table(6, 0, 0, 0), all_=False)[0]) == ["public.t1: 1 × rewrite"]


def test_tables_that_came_and_went_are_changes() -> None:
    changes, _, _ = compare(mark({9: [5, 0, 0, 0], 8: [5, 0, 0, 0]}), table(5, 3, 0, 0))

    assert said(changes) == [
        "public.t1: 1 × create",
        "public.gone: 1 × drop",
        "table of oid 8: 1 × drop",
        "public.t1: 3 × insert",
    ]


def test_a_counter_that_went_back_is_told() -> None:
    assert compare(mark({1: [5, 10, 0, 0]}), table(5, 9, 0, 0))[2] == "the counters of public.t1 went back"


def test_counts_of_rows_name_how_many_at_least() -> None:
    before = mark({1: [5, 10, 100], 2: [5, 10, 100], 3: [5, 10, 100], 4: [5]})
    now = [
        table(5, 10, 100),
        table(5, 10, 101, oid=2),
        table(5, 7, 90, oid=3),
        table(5, 1, 1, oid=4),
    ]

    changes = recounted(before, {each.oid: each for each in now}, {})

    assert said(changes) == ["public.t2: 1 × write", "public.t3: 3 × write"]


@pytest.mark.parametrize("tables", [3, 5000])
def test_a_mark_comes_back_as_it_was(tables: int) -> None:
    whole = mark(
        {oid: [oid, 2**40 + oid, 0, 7] for oid in range(tables)},
        lsn=2**63,
        pending={1: [1, 2, 3, 0]},
        pending_until=1.5,
    )

    assert Mark.read(whole.text()) == whole
    assert len(whole.text()) < 64 * 1024


@pytest.mark.parametrize(
    ("change", "said_so"),
    [
        ({}, None),
        ({"reset": "2026-02"}, None),
        ({"system": "8"}, "another server"),
        ({"database": 6}, "another database"),
        ({"timeline": "2"}, "timeline 1, now 2"),
        ({"standby": True}, "promoted or replaced"),
        ({"started": "2027"}, "started again at 2027"),
        ({"crashed": "2027"}, "crashed and set its counters to zero at 2027"),
    ],
)
def test_what_breaks_a_comparison(change: dict[str, object], said_so: str | None) -> None:
    found = replace(SERVER, **change).broken_since(SERVER)  # type: ignore[arg-type]

    assert (found is None) if said_so is None else (found is not None and said_so in found)


def test_patterns_without_a_dot_name_tables_of_every_schema() -> None:
    assert matches(["products", "shop.*", "Public.*"], "public.products") == ["products"]
    assert matches(["shop.*"], "shop.a.b") == ["shop.*"]
    assert matches(["*"], "any.thing") == ["*"]


def test_relations_are_read_with_their_quotes() -> None:
    assert list(relations("public.t")) == [("public", "t")]
    assert list(relations('public.a, "B ""c"", d".e, x."y: INSERT: z"')) == [
        ("public", "a"),
        ('B "c", d', "e"),
        ("x", "y: INSERT: z"),
    ]


@pytest.mark.parametrize(
    ("line", "columns", "found"),
    [
        ("table public.t: INSERT: id[integer]:5 name[text]:'a secret'", ["id"], "id=5"),
        ("table public.t: INSERT: name[text]:'id[integer]:9' id[integer]:5", ["id"], "id=5"),
        ("table public.t: INSERT: name[text]:'it''s id[integer]:9 ' id[integer]:5", ["id"], "id=5"),
        ("table public.t: INSERT: a[text[]]:'{1}' b[numeric(5,2)]:1.50 id[uuid]:'0-1'", ["id"], "id=0-1"),
        ("table public.t: DELETE: \"K]e y\"[character varying]:'x'", ["K]e y"], "K]e y=x"),
        ("table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 n[int]:3", ["id"], "id=1"),
        ("table public.t: DELETE: (no-tuple-data)", ["id"], None),
        ("table public.t: INSERT: id[integer]:5", [], None),
        ("table public.t: INSERT: id[integer]:5", ["id", "other"], None),
        ("table public.t: INSERT: a[integer]:5 b[text]:null", ["a", "b"], "a=5, b=null"),
        ("table public.t: INSERT: id[text]:'" + "x" * 100 + "'", ["id"], "id=" + "x" * 59 + "…"),
        (
            ("table public.t: INSERT: n[text]:'" + "y" * SAMPLE_SIZE)[: SAMPLE_SIZE - 9] + "' id[int]:123",
            ["id"],
            None,
        ),
        ("nothing of the kind", ["id"], None),
        ("", ["id"], None),
    ],
)
def test_keys_are_taken_from_a_line_and_nothing_else(
    line: str, columns: list[str], found: str | None
) -> None:
    assert keys(line[:SAMPLE_SIZE], columns) == found


@pytest.mark.parametrize("lsn", ["0/0", "0/6120F8", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
def test_positions_in_the_log_are_numbers_and_back(lsn: str) -> None:
    assert spelled(parsed(lsn)) == lsn

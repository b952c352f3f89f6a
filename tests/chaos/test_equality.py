"""The comparison itself: what differs is found, and named."""

from dataclasses import replace

import pytest

from tests.chaos.equality import EMPTY, Copy, unequal, unequal_ids

ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 3))
DAY = Copy(5, 2, EMPTY, {"a": (3, 5)}, frozenset({ONE, TWO}))


@pytest.mark.parametrize(
    ("saved", "found"),
    [
        (DAY, []),
        (replace(DAY, ids=frozenset({ONE, THREE})), ["the sets differ by 2 visitors"]),
        (replace(DAY, ids=None), []),
        (replace(DAY, views=6), ["Redis has 5 views and Postgres 6"]),
        (replace(DAY, visitors=3), ["Redis has 2 visitors and Postgres 3"]),
        (replace(DAY, registers=[1, *EMPTY[1:]]), ["the sketches differ"]),
        (replace(DAY, logs={"a": (4, 5)}), ["the numbers of 2 logs differ"]),
    ],
)
def test_sets_or_sketches_of_two_copies_are_equal(saved: Copy, found: list[str]) -> None:
    """Sets of one size may be of different people, which no number shows; one copy may have no set any more."""
    assert list(unequal(DAY, saved)) == found
    assert list(unequal(None, saved)) == []


def test_a_set_has_the_visitors_who_were_acked_and_no_others() -> None:
    """Who got no answer may be in it, or not."""
    assert list(unequal_ids(None, {ONE}, {ONE})) == []
    assert list(unequal_ids(frozenset({ONE, TWO}), {ONE}, {ONE, TWO})) == []
    assert list(unequal_ids(frozenset({TWO}), {ONE, TWO}, {ONE, TWO})) == ["the set lacks 1 visitors"]
    assert list(unequal_ids(frozenset({ONE, THREE}), {ONE}, {ONE, TWO})) == [
        "the set has 1 visitors that no client sent"
    ]

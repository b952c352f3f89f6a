"""Both errors of the judgement about robots, on a corpus that other people collected."""

import pytest

from tests.support.project import PROJECT
from tests.support.user_agents import measure

README = PROJECT / "tests" / "README.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_no_browser_of_a_person_is_taken_for_a_robot() -> None:
    """A reader who is not counted is the worse error: no operator can see it."""
    rates = measure()
    assert rates.people.of > 30_000
    assert rates.people.wrong == ()


def test_few_robots_of_other_lists_pass_for_people() -> None:
    """The list that Footfall uses knows three of four robots of another one; names and shapes must find the rest."""
    rates = measure()
    assert rates.robots.of > 1_000
    assert len(rates.robots.wrong) / rates.robots.of < 0.08


def test_the_readme_shows_the_rates() -> None:
    """After a change of the rules or of the corpus: python -m tests.support.user_agents"""
    shown = README.read_text("utf-8")
    assert [row for row in measure().rows() if row not in shown] == []

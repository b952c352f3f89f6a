"""What a terminal or a log shows of text that others wrote."""

import pytest

from footfall.plain_text import one_line, without_escapes


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("số liệu bộ đếm cũ\n", "số liệu bộ đếm cũ\n", id="Vietnamese"),
        pytest.param("\x1b[31m", r"\x1b[31m", id="colour"),
        pytest.param("\x9b31m", r"\x9b31m", id="C1"),
        pytest.param("a\rb\x08", r"a\rb\x08", id="over what stands there"),
        pytest.param("\u202egnp", r"\u202egnp", id="right to left"),
        pytest.param("\ud800", r"\ud800", id="half a character"),
    ],
)
def test_what_moves_a_terminal_is_shown_as_its_code(text: str, shown: str) -> None:
    """A person must see that it is there, and the terminal must not obey it."""
    assert without_escapes(text) == shown


def test_a_value_stays_on_its_line() -> None:
    """A line end in a stored text would forge the next line of a report."""
    assert one_line("a\n2054-11-25  +9 forged\u2028b") == r"a\n2054-11-25  +9 forged\u2028b"

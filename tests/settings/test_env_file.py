"""The file of variables, as systemd reads it, and without a shell."""

from pathlib import Path

import pytest

from footfall.errors import SettingsError
from footfall.settings.env_file import parse_env, read_env_file
from tests.support.project import PROJECT


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=x", "x"),
        ("A=", ""),
        ("  A = x y  ", "x y"),
        ("A=rediss://u:p#w@host/0?a=b", "rediss://u:p#w@host/0?a=b"),
        ("A=x # y", "x # y"),
        ('A="x  y"', "x  y"),
        ("A='x \\n $B'", "x \\n $B"),
        ('A="x \\"y\\" \\$B \\\\ \\n"', 'x "y" $B \\ \\n'),
        ('A="two\nlines"', "two\nlines"),
        ("A=x\\\ny", "xy"),
        ("A=x\\ y", "x y"),
        ("A='x'\"y\"z", "xyz"),
        ("A=it's", "it's"),
        ("A=x\r\n", "x"),
        ("\ufeffA=mật khẩu", "mật khẩu"),
    ],
)
def test_a_value_is_what_systemd_makes_of_it(text: str, value: str, tmp_path: Path) -> None:
    """systemd.exec(5): one file serves the service and the commands, whatever a password holds."""
    file = tmp_path / "footfall.env"
    file.write_text(f"{text}\n# B=comment\n; B=comment\n\nC=3", "utf-8")
    assert read_env_file(file) == {"A": value, "C": "3"}


def test_the_last_of_two_is_the_one() -> None:
    """As systemd."""
    assert parse_env("A=1\nA=2") == {"A": "2"}


def test_every_line_that_is_none_is_named_and_not_shown(tmp_path: Path) -> None:
    """A line may hold a password; and systemd would leave it out with a line that only its own log has."""
    file = tmp_path / "footfall.env"
    file.write_text("A=1\nexport hunter2\nB='hunter2\n")
    with pytest.raises(SettingsError) as caught:
        read_env_file(file)
    assert caught.value.problems == [
        f"{file}: line {line} is not NAME=value, or its quote does not end." for line in (2, 3)
    ]
    with pytest.raises(SettingsError, match="cannot be read"):
        read_env_file(tmp_path / "nowhere")


def test_the_example_is_such_a_file() -> None:
    """Operators copy it, and both systemd and the commands read the copy."""
    variables = read_env_file(PROJECT / "deploy" / "footfall.env.example")
    assert {"FOOTFALL_REDIS_URL", "FOOTFALL_POSTGRES_URL"} <= set(variables)

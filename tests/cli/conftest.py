"""A Footfall to type commands at, and a way to type them."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from footfall.cli.commands import main
from tests.support.process import production

Type = Callable[..., tuple[int, str]]


@pytest.fixture
async def environ(own_folder: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    """Return the environment of a Footfall on the session's stores, migrated."""
    return await production(own_folder, redis_url, postgres_url)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Types a command, in this process, which is faster than another one: its exit status and its output."""

    def type_command(*arguments: str, environ: Mapping[str, str] = MappingProxyType({})) -> tuple[int, str]:
        for name in [name for name in os.environ if name.startswith("FOOTFALL_")]:
            monkeypatch.delenv(name)
        for name, value in {"COLUMNS": "200", "NO_COLOR": "1", **environ}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["footfall", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, output.out + output.err

    return type_command

"""A Footfall to type commands at, and a way to type them."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

import pytest

from footfall.cli.commands import main
from footfall.settings.settings import Settings, Site
from tests.support.footfall import SITE, VIETNAM, FakeClock, Footfall, running, settings_for
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


@pytest.fixture
def settings(redis_url: str, postgres_url: str, tmp_path: Path) -> Settings:
    """The settings of the worker and of the commands."""
    return settings_for(redis_url, postgres_url, tmp_path)


@pytest.fixture
def site(settings: Settings) -> Site:
    """The portal."""
    return settings.sites[SITE]


@pytest.fixture
async def footfall(settings: Settings) -> AsyncIterator[Footfall]:
    """A worker at the time of the commands, which use the clock of the machine."""
    async with running(settings, clock=FakeClock(datetime.now(VIETNAM))) as footfall:
        yield footfall

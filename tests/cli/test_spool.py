"""`footfall spool adopt`: the folder of a lost host is whole, or nothing of it is taken over."""

from pathlib import Path

import pytest

from footfall.cli.spool import adopt_folder
from footfall.errors import Stop
from footfall.settings.settings import Settings
from footfall.stores.spool_store import Spool, open_spool
from tests.support.footfall import FakeClock, settings_for
from tests.support.former_spool import former_files
from tests.support.storage import LOG, OTHER_LOG, batch, packed

SPOOL_BYTES = 1 << 20
MANY = [batch(seq, range(seq % 5 * 40)) for seq in range(1, 31)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A host of one's own; the command asks no store."""
    return settings_for("unix:///nowhere", "postgresql:///nowhere", tmp_path / "here")


@pytest.fixture
async def brought(tmp_path: Path) -> Path:
    """A folder as it came from the other host: a file of this version, and the two of a former one."""
    folder = tmp_path / "brought"
    async with open_spool(folder, "other", SPOOL_BYTES) as spool:
        await spool.write(MANY)
    for ending, content in former_files(tmp_path, [batch(1, [9], log=OTHER_LOG)]).items():
        (folder / f"former{ending}").write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if "spool" in path.name}


async def adopted(settings: Settings) -> Spool:
    """Let a worker of this host take over what is in its folder."""
    clock = FakeClock()
    async with open_spool(settings.data_dir / "spool", "mine", SPOOL_BYTES, clock.monotonic) as spool:
        await spool.adopt()
        clock.advance(60)
        await spool.adopt()
        assert await spool.read(LOG, 0, 99) == MANY
        assert await spool.read(OTHER_LOG, 0, 99) == [batch(1, [9], log=OTHER_LOG)]
        return spool


async def test_a_whole_folder_is_taken_over(
    settings: Settings, brought: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And stays as it is, until an operator has seen the batches arrive."""
    before = {path.name: path.read_bytes() for path in brought.iterdir()}
    adopt_folder(settings, brought, force=False)
    assert "other.spool: whole, 30 batches" in capsys.readouterr().out
    assert names(settings.data_dir / "spool") == {"other.spool", "former.spool", "former.spool-wal"}
    assert {path.name: path.read_bytes() for path in brought.iterdir()} == before
    spool = await adopted(settings)
    assert spool.take_damaged_files() == []


@pytest.mark.parametrize("lacks", ["the log", "the file", "the end", "a byte"])
async def test_of_a_folder_that_is_not_whole_nothing_is_taken_over(
    settings: Settings, brought: Path, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """478 of 2,247 acked views were missing afterwards, silently."""
    other, log = brought / "other.spool", brought / "former.spool-wal"
    content = other.read_bytes()
    if lacks == "the log":
        log.unlink()
    elif lacks == "the file":
        (brought / "former.spool").unlink()
    elif lacks == "the end":
        other.write_bytes(content[: len(content) // 2])
    else:
        at = content.rindex(packed([150]))  # the last visitor of a batch
        other.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(Stop, match="1 of 2 files are not whole"):
        adopt_folder(settings, brought, force=False)
    assert "whole" in capsys.readouterr().out
    assert names(settings.data_dir / "spool") == set()
    adopt_folder(settings, brought, force=True)
    assert "other.spool" in names(settings.data_dir / "spool")


async def test_a_folder_with_nothing_to_take_is_a_sentence(settings: Settings, tmp_path: Path) -> None:
    """A wrong path must not look like an empty spool."""
    for folder in (tmp_path / "nowhere", tmp_path, settings.data_dir / "spool"):
        settings.data_dir.joinpath("spool").mkdir(parents=True, exist_ok=True)
        with pytest.raises(Stop):
            adopt_folder(settings, folder, force=False)

"""The spool of a host that is lost: what `footfall spool adopt` checks and takes over."""

from pathlib import Path

from footfall.cli.terminal import say
from footfall.errors import Stop
from footfall.settings.settings import Settings
from footfall.stores.spool_folder import FoundFile, foreign_folder


def adopt_folder(settings: Settings, folder: Path, *, force: bool) -> None:
    """Check that the spool in `folder` is whole, and give it to the workers of this host; print a line a file.

    Raises Stop, and takes nothing over, where a file is not whole, unless `force` is set.
    """
    spool = settings.data_dir / "spool"
    if not folder.is_dir():
        raise Stop(f"{folder} is no folder")
    if folder.resolve() == spool.resolve():
        raise Stop(f"{folder} is the spool of this host; its workers take over by themselves what is in it")
    try:
        with foreign_folder(folder, spool) as foreign:
            found = foreign.look()
            for file in found:
                say(_line(file))
            if not found:
                raise Stop(f"{folder} holds no spool file (*.spool)")
            troubles = sum(bool(file.trouble) for file in found)
            if troubles and not force:
                raise Stop(
                    f"{troubles} of {len(found)} files are not whole; nothing was taken over. Bring the folder again"
                    " with all that is in it, -wal and -journal files too. --force takes over what can be read.",
                    1,
                )
            foreign.move_in()
    except OSError as error:
        raise Stop(f"the folder cannot be taken over: {error}", 1) from error
    batches = sum(file.batches for file in found)
    say(
        f"Taken over: {batches} batches. The workers of this host send them within a minute."
        f" Remove {folder} once footfall_spool_used_ratio has fallen again."
    )


def _line(file: FoundFile) -> str:
    return f"{file.name}: {file.trouble or 'whole'}, {file.batches} batches"

"""What a worker and its parent hold in memory: none of the other's parts, and nothing that is needed for a moment."""

import subprocess
import sys
import tomllib

import pytest

from tests.support.project import PROJECT

ENTRY = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["footfall"].partition(":")[0]
"""The module that the installed command `footfall` imports, and with it each process that it spawns."""
SPAWNED = "footfall.process.spawned"
"""The module that the new process of a worker imports first."""
WORKER = "footfall.process.worker"
COMMANDS = "footfall.cli.commands"
"""The module of the command line, which the parent of the workers is."""


def imports(module: str, unwanted: str) -> bool:
    """Return whether importing `module` alone imports `unwanted` too."""
    program = f"import sys, {module}; sys.exit({unwanted!r} in sys.modules)"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 1


@pytest.mark.parametrize("module", [ENTRY, WORKER])
@pytest.mark.parametrize("of_the_command_line", ["typer", "rich", COMMANDS])
def test_a_worker_imports_no_command_line(module: str, of_the_command_line: str) -> None:
    """A spawned process imports the main script of its parent; what that imports, every worker would hold."""
    assert not imports(module, of_the_command_line)


@pytest.mark.parametrize("rarely_needed", ["jinja2", "crawleruseragents"])
def test_a_worker_imports_nothing_that_it_needs_rarely(rarely_needed: str) -> None:
    """Pages of reports need the one, and the other keeps megabytes about robots beside their patterns."""
    assert not imports(WORKER, rarely_needed)


def test_robots_are_compiled_before_the_modules_of_a_worker_are_imported() -> None:
    """Compiling takes 3 MB for a moment, which the modules use again; after them, each worker would hold it."""
    assert not imports(SPAWNED, WORKER)


@pytest.mark.parametrize("of_a_worker", ["aiohttp", "redis", "asyncpg", WORKER])
def test_the_parent_of_the_workers_imports_no_library_of_a_worker(of_a_worker: str) -> None:
    """It speaks to no store and answers no request: these would be 20 MB that it holds for nothing."""
    assert not imports(COMMANDS, of_a_worker)

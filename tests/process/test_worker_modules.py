"""What a worker holds in memory: no part of the command line."""

import subprocess
import sys
import tomllib

import pytest

from tests.support.project import PROJECT

ENTRY = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]["footfall"].partition(":")[0]
"""The module that the installed command `footfall` imports, and with it each process that it spawns."""


@pytest.mark.parametrize("module", [ENTRY, "footfall.process.worker"])
@pytest.mark.parametrize("of_the_command_line", ["typer", "rich", "footfall.cli.commands"])
def test_a_worker_imports_no_command_line(module: str, of_the_command_line: str) -> None:
    """A spawned process imports the main script of its parent; what that imports, every worker would hold."""
    program = f"import sys, {module}; sys.exit({of_the_command_line!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

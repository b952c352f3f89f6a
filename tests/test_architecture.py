"""The map of `service/footfall/`: its folders from top to bottom, and that imports point down and never in a circle."""

import ast
from pathlib import Path

import pytest

from tests.support.project import PACKAGE

FOLDERS = (
    "cli",
    "process",
    "http",
    "imports",
    "ingest",
    "delivery",
    "sync",
    "display",
    "stores",
    "embedded",
    "settings",
    "metrics",
    "model",
)
"""From the commands down to the ground: a file may import from its own folder and from those below it."""

GROUND = {
    "__init__",
    "_compat",
    "_compat_processes",
    "background",
    "errors",
    "log_lines",
    "log_throttle",
    "plain_text",
    "signals",
}
"""Files beside the folders that every folder may import."""

DOORS = {"__main__"}
"""Files beside the folders that nothing imports."""

MODULES = {file.relative_to(PACKAGE).with_suffix("").as_posix(): file for file in PACKAGE.rglob("*.py")}


def imported_modules(file: Path) -> set[str]:
    """Return the modules of `footfall` that `file` imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    paths = {name.removeprefix("footfall.").replace(".", "/") for name in found if name.startswith("footfall.")}
    return paths & MODULES.keys()


def folder_of(module: str) -> str:
    return module.partition("/")[0] if "/" in module else ""


def test_every_file_stands_in_a_folder_of_the_map() -> None:
    """A newcomer finds a file by its folder; a file outside the map is one that nobody finds."""
    beside = {module for module in MODULES if "/" not in module}
    assert beside <= GROUND | DOORS
    assert {folder_of(module) for module in MODULES} - {""} == set(FOLDERS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module: str) -> None:
    """A store that knew the web, or a rule that knew a store, could not be read or tested alone."""
    imported = imported_modules(MODULES[module])
    folder = folder_of(module)
    if module in DOORS:
        return
    if not folder:
        assert {name for name in imported if folder_of(name)} == set()
        return
    above = set(FOLDERS[: FOLDERS.index(folder)])
    assert {name for name in imported if folder_of(name) in above or name in DOORS} == set()


def test_no_import_runs_in_a_circle() -> None:
    """Two files that need each other are one file, or want a third one below them."""
    imports = {module: imported_modules(file) for module, file in MODULES.items()}
    while leaves := {module for module, needed in imports.items() if not needed}:
        imports = {module: needed - leaves for module, needed in imports.items() if module not in leaves}
    assert imports == {}

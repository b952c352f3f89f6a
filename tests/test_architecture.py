"""The map of `service/footfall/`: which file stands in which layer, and that imports point left."""

import ast
from pathlib import Path

import pytest

SERVICE = Path(__file__).parent.parent / "service" / "footfall"

# From left to right; a file may import from its own column and from those before it.
LAYERS = {
    "pure": (
        "__init__ errors metrics loops config fields problems sources beacon origins robots limits "
        "counts identity periods logs sketch day_state quiet"
    ),
    "stores": "redis_calls redis_store postgres_store migrations spool",
    "core": "admission salts board writers spooler recorder restore rollup reconciler",
    "edge": "services render replies middleware web readiness ops listener",
    "wiring": "app vitals",
    "commands": "__main__ serving supervisor worker shared_metrics sockets doctor embedded child launch",
}
COLUMN = {module: column for column, modules in enumerate(LAYERS.values()) for module in modules.split()}


def imported_modules(file: Path) -> set[str]:
    """Modules of `footfall` that `file` imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name.removeprefix("footfall.").partition(".")[0] for name in found if name.startswith("footfall.")}
    return inside & {path.stem for path in SERVICE.glob("*.py")}


def test_every_file_has_a_place_in_the_table() -> None:
    """The table is the tour that a newcomer takes; a file outside it is one that nobody finds."""
    assert sorted(COLUMN) == sorted(path.stem for path in SERVICE.glob("*.py"))


@pytest.mark.parametrize("module", COLUMN)
def test_imports_point_left(module: str) -> None:
    """A store that knew the web, or a rule that knew a store, could not be read or tested alone."""
    rightward = {name for name in imported_modules(SERVICE / f"{module}.py") if COLUMN[name] > COLUMN[module]}
    assert rightward == set()

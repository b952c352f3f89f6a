"""The names by which F20 finds the awaits that it lets fail."""

import ast

import pytest

from tests.chaos.awaits import GUARDED, STORES
from tests.support.project import PACKAGE


@pytest.mark.parametrize("name", GUARDED)
def test_every_guarded_task_exists(name: str) -> None:
    """F20 would guard no task under an old name, and pass."""
    classes = [
        node
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    methods = {
        f"{node.name}.{part.name}" for node in classes for part in node.body if isinstance(part, ast.AsyncFunctionDef)
    }
    assert name in methods


def test_the_folder_of_the_stores_exists() -> None:
    """F20 would let no await fail in an old folder, and pass."""
    assert PACKAGE.parent.joinpath(*STORES).is_dir()

"""Where the files of the project stand."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
"""The root of the checkout."""

PACKAGE = PROJECT / "service" / "footfall"
"""The program."""

"""The checks of `footfall doctor`: what operators get wrong, one line each, with what to do."""

from dataclasses import dataclass

from service.config import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    what: str
    found: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{'FAIL' if self.failed else ' ok '}  {self.what}: {self.found}"


async def examine(settings: Settings) -> list[Check]:
    """Run all checks."""
    return []

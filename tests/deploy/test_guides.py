"""The operator's page in both languages: each alert has its paragraph, and each command exists."""

import re

import pytest
import typer

from footfall.cli.commands import app
from tests.support.project import PROJECT

DEPLOY = PROJECT / "deploy"
GUIDES = {name: (DEPLOY / name).read_text("utf-8") for name in ("OPERATING.md", "VAN-HANH.md")}
RULES = (DEPLOY / "prometheus-alerts.yaml").read_text("utf-8")
SEVERITY = dict(re.findall(r"- alert: (\w+)\n.*?severity: (\w+)", RULES, re.DOTALL))
WORDS = {"OPERATING.md": {"page": "page", "ticket": "ticket"}, "VAN-HANH.md": {"page": "gấp", "ticket": "phiếu"}}


@pytest.mark.parametrize("guide", GUIDES)
def test_each_alert_has_its_paragraph(guide: str) -> None:
    """Who is woken looks for the name on the telephone, in the language that comes first at night."""
    found = re.findall(r"^- \*\*(\w+)\*\* \((.+?)\): \S", GUIDES[guide], re.MULTILINE)
    assert dict(found) == {name: WORDS[guide][severity] for name, severity in SEVERITY.items()}
    assert len(found) == len(SEVERITY)


@pytest.mark.parametrize("guide", GUIDES)
def test_each_command_of_the_guide_exists(guide: str) -> None:
    """They are typed as they stand, in the middle of the night."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    named = re.findall(r"\bff ([a-z]+(?:-[a-z]+)*)((?: --?\w+)*)", GUIDES[guide])
    assert {"check", "migrate", "doctor", "snippet", "adjust"} <= {name for name, _ in named}
    for name, _ in named:
        assert name in group.commands
    files = re.findall(r"\b(?:deploy|sql)/[\w.-]+", GUIDES[guide])
    assert [file for file in files if not (PROJECT / file).exists()] == []


def test_both_languages_give_the_same_commands() -> None:
    """A step that one page lacks is a guess for its readers."""
    commands = [
        [line.partition("#")[0].rstrip() for line in re.findall(r"^    (.+)$", text, re.MULTILINE)]
        for text in GUIDES.values()
    ]
    assert commands[0] == commands[1]

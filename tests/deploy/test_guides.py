"""The operator's page in both languages: each alert has its paragraph, and each command exists."""

import re
import shlex
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import typer

from footfall.cli.commands import app
from tests.deploy.machines.guide import blocks
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


@pytest.mark.parametrize(
    ("guide", "modes"),
    [
        ("README.md", {"footfall.env": 0o600, "redis-acl.conf": 0o640, "privkey.pem": 0o600, "footfall.toml": 0o644}),
        ("OPERATING.md", {"footfall.env": 0o600, "privkey.pem": 0o600, "footfall.toml": 0o644}),
        ("VAN-HANH.md", {"footfall.env": 0o600, "privkey.pem": 0o600, "footfall.toml": 0o644}),
    ],
)
def test_files_with_passwords_are_copied_with_their_mode(guide: str, modes: dict[str, int], tmp_path: Path) -> None:
    """Copied with cp, as the guide said once, the passwords of both stores were readable for every account."""
    typed = [*chain.from_iterable(blocks((DEPLOY / guide).read_text("utf-8")))]
    secret = {file.name for file in DEPLOY.iterdir() if file.is_file() and "CHANGE-ME" in file.read_text("utf-8")}
    assert {"footfall.env.example", "redis-acl.conf"} <= secret
    copying = [shlex.split(line, comments=True) for line in typed if line.startswith(("install ", "cp "))]
    assert not [words for words in copying if words[0] == "cp" and secret & {Path(word).name for word in words}]
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    for _, *words in (words for words in copying if words[0] == "install"):
        while owner := next((word for word in words if word in ("-o", "-g")), None):  # only root may give files away
            del words[words.index(owner) : words.index(owner) + 2]
        here = [f"{tmp_path}{word}" if word.startswith("/") else word for word in words]
        made = here[-1].rpartition("/")[0]
        Path(made).mkdir(parents=True, exist_ok=True)
        subprocess.run(["install", *here], check=True, cwd=tmp_path, umask=0o022)
    found = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.rglob("*") if file.name in modes}
    assert found == modes

"""The documents: whatever they name exists, and whatever they show is what the program says."""

import re
from collections.abc import Iterator

import pytest
import typer
from prometheus_client import CollectorRegistry
from pydantic_core import PydanticUndefined

from footfall.cli.commands import app
from footfall.display.block import snippet
from footfall.display.svg import counts_svg
from footfall.http.assets import load_assets
from footfall.metrics.metrics import Metrics
from footfall.model.counts import Counts
from footfall.settings.settings import Limits, Section, Site, load_settings
from tests.support.project import PROJECT

README = (PROJECT / "README.md").read_text("utf-8")
CONTRIBUTING = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
CHANGELOG = (PROJECT / "CHANGELOG.md").read_text("utf-8")
MAKEFILE = (PROJECT / "Makefile").read_text("utf-8")
DOCUMENTS = {"README": README, "CONTRIBUTING": CONTRIBUTING, "CHANGELOG": CHANGELOG}

STORES = {"FOOTFALL_REDIS_URL": "redis://redis", "FOOTFALL_POSTGRES_URL": "postgresql://postgres"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:service|tests|deploy|sql)/[\w./]*)`")
COMMAND = re.compile(r"(?<![\w.-])footfall ([a-z]+)\b((?:\s+(?!-)[\w.-]+)?(?:\s+--[a-z]+)*)")
COLUMN_NAMES = ("metric", "key", "setting", "command", "route")


def rows(first_column: str) -> Iterator[list[str]]:
    """The rows of README's tables whose first column has this heading."""
    for table in re.findall(rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, flags=re.MULTILINE):
        for row in table.splitlines():
            yield [cell.strip() for cell in row.strip("|").split(" | ")]


def metrics() -> dict[str, str]:
    """Every metric by the name that Prometheus shows, with its HELP text."""
    registry = CollectorRegistry()
    Metrics(registry)
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.documentation
        for family in registry.collect()
    }


def slug(heading: str) -> str:
    """The anchor that a heading gets where the documents are read."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    """A promise whose proof cannot be opened is no promise."""
    for words, target in LINK.findall(DOCUMENTS[document]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = PROJECT / path if path else PROJECT / f"{document}.md"
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), target
        if (test := words.strip("`")).startswith("test_") and not test.endswith(".py"):
            assert re.search(rf"^\s*(async )?def {test}\b", file.read_text("utf-8"), flags=re.MULTILINE), test


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_file_exists(document: str) -> None:
    """The tour is only as good as its map."""
    assert [name for name in NAMED_FILE.findall(DOCUMENTS[document]) if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_command_exists(document: str) -> None:
    """Operators copy commands; one that was renamed would fail in the middle of a procedure."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for name, rest in COMMAND.findall("\n".join(re.findall(r"`[^`]+`|^ {4,}.+$", DOCUMENTS[document], re.MULTILINE))):
        assert name in group.commands
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known, (name, rest)
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))
    assert set(re.findall(r"(?:`| {4})make ([a-z]+)\b", DOCUMENTS[document])) <= targets


def test_every_command_is_in_the_readme() -> None:
    """What is not in the table is found by accident."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert {row[0].strip("`").split()[1] for row in rows("command")} == set(group.commands)


def test_every_route_is_in_the_readme() -> None:
    """Whoever writes a proxy's rules needs the whole list."""
    sources = "".join((PROJECT / "service/footfall/http" / name).read_text("utf-8") for name in ("public.py", "ops.py"))
    routes = {*re.findall(r'add_(?:get|post)\("(/[^"]+)"', sources), *load_assets()}
    assert set(re.findall(r"`(/[a-z]+(?:\.[a-z]+)?)`", README)) == routes


def test_the_readme_explains_every_metric_in_its_own_words() -> None:
    """The HELP text is written once, where the metric is; a copy that differs would be a second opinion."""
    assert {row[0].strip("`").partition("{")[0]: row[1] for row in rows("metric")} == metrics()
    named = set(re.findall(r"`(footfall_[a-z_]+)", "".join(DOCUMENTS.values())))
    roles = set(re.findall(r"footfall_[a-z]+", (PROJECT / "sql/roles.sql").read_text("utf-8")))
    assert named - roles <= set(metrics())


@pytest.mark.parametrize("model", [Site, Limits])
def test_the_readme_shows_the_keys_of_every_table(model: type[Section]) -> None:
    """Name, default and meaning, word by word; `Settings` itself is compared in test_config.py."""
    shown = {row[0].strip("`"): (row[1].strip("`"), row[2]) for row in rows("key")}
    for name, field in model.model_fields.items():
        if name != "id":
            assert shown[name] == (default_text(field.default), field.description)
    fields = {*Site.model_fields, *Limits.model_fields} - {"id"}
    assert set(shown) == fields


def default_text(default: object) -> str:
    """A default as the documentation writes it."""
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default not in ({}, ()) else ""


def test_the_lines_to_paste_are_those_that_the_program_prints() -> None:
    """They are copied from here as often as from the command."""
    settings = load_settings(PROJECT / "deploy/footfall.toml", STORES)
    printed = snippet(settings.sites["portal"], settings.public_url)
    assert f"```html\n{printed}```\n" in README


def test_the_picture_of_the_footer_is_what_the_program_draws() -> None:
    """A picture of last year's block promises what nobody gets. To draw it again: write `drawn` to the file."""
    site = load_settings(PROJECT / "deploy/footfall.toml", STORES).sites["portal"]
    counts = Counts(
        site=site.id,
        online=4,
        today=63,
        week=495,
        total=1_373_876,
        views_today=118,
        measure="visitors",
        day_of=None,
        week_of=None,
        revision=None,
        as_of=None,
        stale=False,
        poll_after_s=15,
        ping_after_s=60,
        language="vi",
        visitor_id="network",
        labels={},
    )
    drawn = counts_svg(site, counts, "vi", "auto")
    assert (PROJECT / "deploy/footer.svg").read_text("utf-8") == drawn


@pytest.mark.parametrize("document", DOCUMENTS)
def test_visitors_are_never_called_exact(document: str) -> None:
    """Views are exact; a visitor count is an estimate, and says so, in both languages."""
    for clause in re.split(r"[.;:|\n]{1,2}(?=\s|$)", re.sub(r"(?<!\n)\n(?!\n)", " ", DOCUMENTS[document])):
        if re.search(r"\bexact|chính xác", clause, flags=re.IGNORECASE):
            assert not re.search(r"visitor|unique|people|khách|người", clause, flags=re.IGNORECASE), clause
    assert document != "README" or ("0.81 %" in README and "0,81 %" in README)


def test_the_sentence_of_an_error_names_a_heading_that_exists() -> None:
    """Somebody whose data folder is refused looks for these words."""
    sentences = (PROJECT / "service/footfall/embedded/servers.py").read_text("utf-8")
    named = re.findall(r'see "([^"]+)" in README\.md', sentences)
    assert named
    for heading in named:
        assert f"\n### {heading}\n" in README


def test_no_table_of_the_readme_is_empty() -> None:
    """The other tests read these tables by their headings: one that was renamed would be compared with nothing."""
    for name in COLUMN_NAMES:
        assert list(rows(name)), name

"""The documents: whatever they name exists, and whatever they show is what the program says."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from prometheus_client import CollectorRegistry

from footfall.cli.commands import app
from footfall.display.block import snippet
from footfall.display.svg import Look, counts_svg
from footfall.http.assets import load_assets
from footfall.metrics.metrics import Metrics
from footfall.model.counts import Counts
from footfall.settings.settings import FILE_VARIABLES, VARIABLES, Limits, Site, load_settings
from footfall.settings.sources import CONFIG_VARIABLE
from tests.chaos.matrix import FAULTS
from tests.support import reference
from tests.support.portal import FORM
from tests.support.project import PACKAGE, PROJECT
from tests.support.reference import default_text

DOCUMENTS = {
    file.relative_to(PROJECT).as_posix(): file.read_text("utf-8")
    for pattern in ("*.md", ".github/**/*.md", "deploy/**/*.md", "service/**/*.md", "sql/**/*.md", "tests/**/*.md")
    for file in sorted(PROJECT.glob(pattern))
}
"""Every document by its path."""
README = DOCUMENTS["README.md"]
OPERATORS = DOCUMENTS["deploy/README.md"]
SETTINGS = DOCUMENTS["deploy/SETTINGS.md"]
METRICS = DOCUMENTS["deploy/METRICS.md"]
TESTS = DOCUMENTS["tests/README.md"]
MAKEFILE = (PROJECT / "Makefile").read_text("utf-8")

README_LINES_MAX = 200
CELL_MAX = 200
GLOSSARY_MAX = 25
STORES = {"FOOTFALL_REDIS_URL": "redis://redis", "FOOTFALL_POSTGRES_URL": "postgresql://postgres"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:service|tests|deploy|sql)/[\w./]*)`")
COMMAND = re.compile(r"(?<![\w.\x22-])footfall ([a-z]+(?:-[a-z]+)*)\b((?:\s+(?!-)[\w.-]+)?(?:\s+--[a-z]+)*)")
TABLES = {
    "metric": METRICS,
    "alert": METRICS,
    "key": SETTINGS,
    "setting": SETTINGS,
    "command": OPERATORS,
    "route": OPERATORS,
    "word": DOCUMENTS["service/README.md"],
}
"""The document that has the tables whose first column has this heading."""


def rows(first_column: str) -> Iterator[list[str]]:
    """Yield the rows of the tables whose first column has this heading."""
    pattern = rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)"
    for table in re.findall(pattern, TABLES[first_column], flags=re.MULTILINE):
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
        file = (PROJECT / document).parent / path if path else PROJECT / document
        assert file.exists(), target
        assert file.resolve().is_relative_to(PROJECT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), target
        if (test := words.strip("`")).startswith("test_") and not test.endswith(".py"):
            assert re.search(rf"^\s*(async )?def {test}\b", file.read_text("utf-8"), flags=re.MULTILINE), test


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_test_is_in_the_file_that_its_line_links(document: str) -> None:
    """A test that was renamed proves nothing to a reader who looks for its old name."""
    for line in DOCUMENTS[document].splitlines():
        names = re.findall(r"`(test_\w+)`(?!\])", line)
        files = [target for _, target in LINK.findall(line) if target.endswith(".py")]
        found = "".join((PROJECT / document).parent.joinpath(file).read_text("utf-8") for file in files)
        for name in names:
            assert re.search(rf"^\s*(async )?def {name}\b", found, flags=re.MULTILINE), name


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
        command, words = group.commands[name], rest.split()
        if isinstance(command, typer.core.TyperGroup) and words and not words[0].startswith("-"):
            command = command.commands[words[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known, (name, rest)
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    assert set(re.findall(r"(?:`| {4})make ([a-z-]+)\b", DOCUMENTS[document])) <= targets


def test_every_command_is_listed_for_operators() -> None:
    """What is not in the table is found by accident."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    assert {row[0].strip("`").split()[1] for row in rows("command")} == set(group.commands)


def test_every_route_is_listed_for_operators() -> None:
    """The author of a proxy's rules needs the whole list."""
    files = [PROJECT / "service/footfall/http" / name for name in ("public.py", "ops.py", "assets.py", "reports.py")]
    sources = "".join(file.read_text("utf-8") for file in files)
    added = {re.sub(r"\{[^}]*\}", "portal", path) for path in re.findall(r'add_(?:get|post)\("(/[^"]+)"', sources)}
    named = re.findall(r"`(/(?:\.well-known/|reports/)?[a-z]+(?:-[a-z]+)?(?:\.[a-z]+)?)`", OPERATORS)
    assert set(named) == added | set(load_assets())


def test_the_reference_explains_every_metric_in_its_own_words() -> None:
    """The HELP text is written once, where the metric is; a copy that differs would be a second opinion."""
    assert {row[0].strip("`").partition("{")[0]: row[1] for row in rows("metric")} == metrics()
    named = set(re.findall(r"`(footfall_[a-z_]+)", "".join(DOCUMENTS.values())))
    roles = set(re.findall(r"footfall_[a-z]+", (PROJECT / "sql/roles.sql").read_text("utf-8")))
    assert named - roles <= set(metrics())


@pytest.mark.parametrize("model", [Site, Limits])
def test_the_reference_shows_the_keys_of_every_table(model: type[Site | Limits]) -> None:
    """Name, default and meaning, word by word; `Settings` itself is compared in tests/settings/."""
    shown = {row[0].strip("`"): (row[1].strip("`"), row[2]) for row in rows("key")}
    for name, field in reference.keys_of(model).items():
        if name != "id":
            assert shown[name] == (default_text(field.get_default(call_default_factory=True)), field.description)
    fields = {*reference.keys_of(Site), *reference.keys_of(Limits)} - {"id"}
    assert set(shown) == fields


@pytest.mark.parametrize("file", reference.pages(), ids=lambda file: file.name)
def test_the_reference_is_what_the_program_declares(file: Path) -> None:
    """`make reference` writes it again."""
    assert file.read_text("utf-8") == reference.pages()[file]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_named_variable_is_a_setting(document: str) -> None:
    """Footfall does not start with a variable that it does not know."""
    known = {*VARIABLES, *FILE_VARIABLES, CONFIG_VARIABLE}
    assert set(re.findall(r"\bFOOTFALL_[A-Z_]+[A-Z]", DOCUMENTS[document])) <= known


def test_the_lines_to_paste_are_those_that_the_program_prints() -> None:
    """They are copied from here as often as from the command."""
    settings = load_settings(PROJECT / "deploy/footfall.toml", STORES)
    printed = snippet(settings.sites["portal"], settings.public_url)
    assert f"```html\n{printed}```\n" in README


PICTURES = {
    "footer.svg": Look("auto"),
    "styles/list.svg": Look(),
    "styles/line.svg": Look(layout="line"),
    "styles/cards.svg": Look(layout="cards"),
    "styles/badge.svg": Look(layout="badge", color="0b5cad"),
    "styles/digits.svg": Look(layout="digits"),
    "styles/dark.svg": Look("dark"),
}


@pytest.mark.parametrize("file", PICTURES)
def test_the_pictures_of_the_block_are_what_the_program_draws(file: str) -> None:
    """A picture of last year's block promises what no page gets. To draw it again: write `drawn` to the file."""
    site = load_settings(PROJECT / "deploy/footfall.toml", STORES).sites["portal"]
    counts = Counts(
        form=FORM,
        online=4,
        today=63,
        week=495,
        total=1_373_876,
        views_today=118,
        day_of=None,
        week_of=None,
        revision=None,
        as_of=None,
        stale=False,
    )
    drawn = counts_svg(site, counts, "vi", PICTURES[file])
    assert (PROJECT / "deploy" / file).read_text("utf-8") == drawn


@pytest.mark.parametrize("document", DOCUMENTS)
def test_visitors_are_never_called_exact(document: str) -> None:
    """Views are exact; a visitor count is an estimate, and says so, in both languages."""
    for clause in re.split(r"[.;:|\n]{1,2}(?=\s|$)", re.sub(r"(?<!\n)\n(?!\n)", " ", DOCUMENTS[document])):
        if re.search(r"\bexact|chính xác", clause, flags=re.IGNORECASE):
            assert not re.search(r"visitor|unique|people|khách|người", clause, flags=re.IGNORECASE), clause
    assert document != "README.md" or ("0.81 %" in README and "0,81 %" in README)


def test_the_sentence_of_an_error_names_a_heading_that_exists() -> None:
    """Somebody whose data folder is refused looks for these words."""
    sentences = (PROJECT / "service/footfall/embedded/servers.py").read_text("utf-8")
    named = re.findall(r'see "([^"]+)" in deploy/README\.md', sentences)
    assert named
    for heading in named:
        assert f"\n### {heading}\n" in OPERATORS


def test_the_files_of_operators_name_headings_that_exist() -> None:
    """An alert in the night and a compose file send their reader to a section by its name."""
    named = {
        heading
        for name in ("prometheus-alerts.yaml", "compose.yaml")
        for one, other in re.findall(
            r'"([^"]+)" in deploy/README\.md|deploy/README\.md, "([^"]+)"',
            (PROJECT / "deploy" / name).read_text("utf-8"),
        )
        for heading in (one or other,)
    }
    assert len(named) == 2
    assert named <= set(re.findall(r"^#+ (.+)$", OPERATORS, flags=re.MULTILINE))


def test_no_table_that_is_compared_is_empty() -> None:
    """The other tests read these tables by their headings: one that was renamed would be compared with nothing."""
    for name in TABLES:
        assert list(rows(name)), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_cell_of_a_table_is_a_paragraph(document: str) -> None:
    """A table is read across; what needs more words belongs below it."""
    cells = [cell for row in re.findall(r"^\|.*$", DOCUMENTS[document], re.MULTILINE) for cell in row.split(" | ")]
    assert [cell for cell in cells if len(cell.strip("| ")) > CELL_MAX] == []


def test_the_readme_is_read_in_one_sitting() -> None:
    """It is for people who have never heard of Footfall; the rest has documents of its own, and README leads there."""
    assert len(README.splitlines()) <= README_LINES_MAX
    assert {target.partition("#")[0] for _, target in LINK.findall(README)} >= DOCUMENTS.keys() - {"README.md"}


def test_the_tour_names_every_folder() -> None:
    """A newcomer looks for a folder's job here; one that is missing, or no longer there, misleads."""
    named = re.findall(r"^\| \[`(\w+)/`\]\(footfall/\1/\) \|", DOCUMENTS["service/README.md"], flags=re.MULTILINE)
    folders = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert set(named) == folders


def test_the_glossary_stays_short() -> None:
    """Words of the field need no explanation; a longer list would be a language of our own."""
    assert len(list(rows("word"))) <= GLOSSARY_MAX


def test_every_promise_fault_and_threat_has_its_tests() -> None:
    """A claim without a proof is marketing; one threat is stated to have no bound of ours."""
    claimed = re.findall(r"^\| ([PFT]\d+) \|", TESTS, flags=re.MULTILINE)
    proved = re.findall(r"^- \*\*([PT]\d+)\*\*\n  - ", TESTS, flags=re.MULTILINE)
    assert {name for name in claimed if name.startswith("F")} == FAULTS.keys()
    assert proved == [name for name in claimed if not name.startswith("F") and name != "T7"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_bullet_of_tests_names_some(document: str) -> None:
    """A file alone proves something only where all of it does."""
    for line in re.findall(r"^  - \[.+\.py\]\(.*$", DOCUMENTS[document], flags=re.MULTILINE):
        assert "`test_" in line or line.endswith(": all of it"), line

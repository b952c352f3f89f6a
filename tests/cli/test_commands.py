"""The command line, as an operator types it."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from footfall import sql_folder
from footfall.cli.adjustments import login_name, print_journal
from footfall.stores.migrations import migrate
from footfall.stores.postgres_store import open_postgres
from tests.cli.conftest import Type
from tests.support.footfall import SITE, settings_for
from tests.support.process import SETTINGS, embedded, fresh_connections, ready, run, see, start
from tests.support.project import PACKAGE

COMMANDS = (
    *("serve", "check", "migrate", "rollup", "adjust", "pages", "import", "snippet", "spool", "doctor", "status"),
    *("events", "forget", "retire", "rename", "merge-sites", "version"),
)


async def test_help_tells_what_there_is() -> None:
    """An operator types --help before reading a manual."""
    status, output = await run("--help", environ={})
    assert status == 0
    assert all(re.search(rf"^\W+{command}\s+[A-Z]", output, re.MULTILINE) for command in COMMANDS)
    assert "FOOTFALL_CONFIG" in output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, typed: Type) -> None:
    """No command needs settings to show its help."""
    status, output = typed(command, "--help")
    assert status == 0
    assert f"Usage: footfall {command}" in output


def test_the_script_and_the_module_are_the_same() -> None:
    """Containers run the module, because the script is not on their path; other installations run the script."""
    script = Path(sys.executable).with_name("footfall")
    if not script.exists():
        pytest.skip("the package is not installed here, only its source is")
    answers = [
        subprocess.run([*command, "--help"], capture_output=True, check=True, env=os.environ | {"COLUMNS": "80"}).stdout
        for command in ([script], [sys.executable, "-m", "footfall"])
    ]
    assert answers[0] == answers[1]


def test_settings_that_are_wrong_are_all_named_at_once(tmp_path: Path, typed: Type) -> None:
    """Users give up when each attempt shows one more mistake; and a secret must not appear on the terminal."""
    file = tmp_path / "footfall.toml"
    file.write_text(f'{SETTINGS}languge = "vi"\n[limits]\nbeacons_per_s = -1\n')
    secret = {"FOOTFALL_REDIS_URL": "redis://:hunter2@host:notaport/0", "FOOTFALL_CONFIG": str(file)}
    status, output = typed("migrate", environ=secret)
    assert status == 2
    for name in ("languge", "beacons_per_s", "FOOTFALL_REDIS_URL", "FOOTFALL_POSTGRES_URL"):
        assert re.search(rf"^footfall: .*{name}", output, re.MULTILINE), output
    assert "hunter2" not in output


def test_a_file_that_is_not_there_is_named(tmp_path: Path, typed: Type) -> None:
    """FOOTFALL_CONFIG is easily lost between a shell and a service manager."""
    status, output = typed("doctor", environ={"FOOTFALL_CONFIG": str(tmp_path / "none.toml")})
    assert status == 2
    assert "none.toml: cannot be read" in output


async def test_a_taken_port_is_one_sentence(environ: dict[str, str]) -> None:
    """An old Footfall still runs, or another program uses the port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        status, output = await run("serve", environ=environ | {"FOOTFALL_LISTEN": taken})
    assert status == 2
    assert re.fullmatch(rf"footfall: Footfall cannot listen on {taken}: .* set FOOTFALL_LISTEN .*\n", output)


@pytest.mark.parametrize("workers", ["0", "many", "-1", "65"])
def test_a_number_of_workers_that_is_none_is_a_sentence(workers: str, environ: dict[str, str], typed: Type) -> None:
    """`auto` is the only word allowed."""
    status, output = typed("serve", "--workers", workers, environ=environ)
    assert (status, output) == (2, "footfall: --workers must be a number from 1 to 64, or the word auto\n")


def test_a_real_portal_gets_no_made_history(environ: dict[str, str], typed: Type) -> None:
    """A total that people rely on must not hold a number that nobody was counted for."""
    status, output = typed("serve", "--demo-history", environ=environ)
    assert (status, output[:42]) == (2, "footfall: --demo-history is made up, and g")


@pytest.mark.timeout(400)
async def test_the_demo_has_a_year_and_its_start_is_an_event(own_folder: Path) -> None:
    """`make run` shows a report that is not empty; the events say which days are made, and when Footfall ran."""
    environ = embedded(own_folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        environ["FOOTFALL_LISTEN"] = f"127.0.0.1:{free.getsockname()[1]}"
    async with start("serve", "--embedded", "--demo", "--demo-history", environ=environ) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http, http.get(f"{url}/counts?site=portal") as response:
            assert (await response.json())["total"] > 40_000
        assert (await run("rollup", "--embedded", environ=environ))[0] == 0
        status, said = await run("events", "--embedded", environ=environ)
        assert await process.stop() == 0
    kinds = {line.split("  ")[2].partition(":")[0] for line in said.splitlines()}
    assert (status, kinds) == (0, {"demo_history", "settings", "started"}), said


def test_stores_that_are_away_are_a_sentence(environ: dict[str, str], typed: Type) -> None:
    """Every command needs a store, and none prints a traceback where a store is away."""
    away = environ | {
        "FOOTFALL_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "FOOTFALL_POSTGRES_URL": "postgresql://me:hunter2@127.0.0.1:1/db",
    }
    for command in (
        ["migrate"],
        ["rollup"],
        ["adjust", "portal", "--list"],
        ["adjust", "portal", "--add", "1", "--reason", "r", "--id", "i"],
    ):
        status, output = typed(*command, environ=away)
        assert status == 1
        assert re.fullmatch(r"footfall: postgres: .*127\.0\.0\.1.*doctor.*\n", output), output
        assert "hunter2" not in output
    status, output = typed("doctor", environ=away)
    assert status == 1
    assert output.count("FAIL") == 5
    assert "hunter2" not in output


def test_an_option_in_a_url_that_does_not_exist_is_a_sentence(environ: dict[str, str], typed: Type) -> None:
    """Users copy examples of other libraries together with their options."""
    wrong = environ | {"FOOTFALL_REDIS_URL": "redis://:hunter2@127.0.0.1:1/0?tls=yes"}
    status, output = typed("rollup", environ=wrong)
    assert status == 2
    assert re.fullmatch(r"footfall: FOOTFALL_REDIS_URL: .*tls.*\n", output), output
    assert "hunter2" not in output


def test_migrating_twice_changes_nothing_and_says_so(environ: dict[str, str], typed: Type) -> None:
    """Deployment scripts run `footfall migrate` every time."""
    status, output = typed("migrate", environ=environ)
    assert (status, output) == (0, "The schema is up to date.\n")


def test_the_old_counter_s_number_counts_once(environ: dict[str, str], typed: Type) -> None:
    """A portal's operator enters the old number first; in Vietnamese, and perhaps twice."""
    add = ("adjust", "portal", "--add", "1373876", "--reason", "số liệu bộ đếm cũ", "--id", "old-counter")
    assert typed(*add, environ=environ) == (0, "Added +1,373,876 to the all-time total of portal as old-counter.\n")
    status, output = typed(*add, environ=environ)
    assert status == 0
    assert "already; nothing changed:\n" in output
    less = ("adjust", "portal", "--add", "-500", "--reason", "robots", "--id", "less", "--by", "Lê Hà")
    assert typed(*less, environ=environ) == (0, "Added -500 to the all-time total of portal as less.\n")
    status, output = typed("adjust", "portal", "--list", environ=environ)
    first, second, last = output.splitlines()
    assert status == 0
    entry = re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d \S+ +\+1,373,876  old-counter  (.+)", first)
    assert entry is not None
    assert entry[1] == f"số liệu bộ đếm cũ (by {login_name()})  (role footfall)"
    assert second.endswith(" -500  less  robots (by Lê Hà)  (role footfall)")
    assert last == "+1,373,376 by 2 corrections of portal"


def test_the_journal_names_the_person_behind_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators type it as root; a year later someone asks who it was."""
    monkeypatch.setenv("SUDO_USER", "ha.le")
    assert login_name() == "ha.le"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "minh")
    assert login_name() == "minh"


async def test_events_are_listed_below_the_corrections(
    redis_url: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lost key explains a number that a webmaster asks about; the table alone would hide it from operators."""
    await migrate(postgres_url, sql_folder())
    settings = settings_for(redis_url, postgres_url, tmp_path)
    async with open_postgres(postgres_url) as postgres:
        await postgres.record_event(SITE, "salt_lost", "2026-11-23")
    await print_journal(settings, settings.sites[SITE])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "+0 by 0 corrections of portal"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d \S+  event salt_lost: 2026-11-23", second)


@pytest.mark.parametrize("measure", ["visitors", "views"])
def test_a_correction_below_zero_is_refused_with_the_total(measure: str, environ: dict[str, str], typed: Type) -> None:
    """A page that shows -500 looks broken, and an entry of the journal cannot be taken back."""
    file = Path(environ["FOOTFALL_CONFIG"])
    file.write_text(file.read_text().replace(SETTINGS, f'{SETTINGS}measure = "{measure}"\n'))
    less = ("adjust", "portal", "--add", "-500", "--reason", "robots", "--id", "less")
    would = "--add -500 would make the all-time total of portal -500; it is 0 now. Nothing changed"
    refused = 2, f"footfall: {would}; --force adds it all the same\n"
    assert typed(*less, environ=environ) == refused
    assert typed("adjust", "portal", "--list", environ=environ)[1] == "+0 by 0 corrections of portal\n"
    old = ("adjust", "portal", "--add", "1400", "--reason", "the old one", "--id", "old")
    assert typed(*old, environ=environ)[0] == 0
    assert typed(*less, environ=environ)[0] == 0
    status, output = typed("adjust", "portal", "--add", "-901", "--reason", "r", "--id", "more", environ=environ)
    assert (status, "it is 900 now" in output) == (2, True)
    # The same name again changes nothing, so it is no reason to refuse, whatever the total is now.
    assert typed("adjust", "portal", "--add", "-1400", "--reason", "r", "--id", "old", environ=environ)[0] == 0
    assert typed("adjust", "portal", "--add", "-901", "--reason", "r", "--id", "more", "--force", environ=environ) == (
        0,
        "Added -901 to the all-time total of portal as more.\n",
    )


async def test_what_redis_alone_has_is_part_of_the_total_that_must_not_be_negative(own_folder: Path) -> None:
    """The visitors of the last seconds are counted, and a correction down to exactly zero is allowed."""
    environ = embedded(own_folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        environ["FOOTFALL_LISTEN"] = f"127.0.0.1:{free.getsockname()[1]}"
    environ["FOOTFALL_ROLLUP_EVERY_S"] = "300"
    async with start("serve", "--embedded", "--demo", environ=environ) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await see(http, url, host=url) == 200
        less = ("adjust", "portal", "--reason", "a test of ours", "--embedded")
        status, output = await run(*less, "--add", "-2", "--id", "two", environ=environ)
        assert (status, "it is 1 now" in output) == (2, True), output
        assert (await run(*less, "--add", "-1", "--id", "one", environ=environ))[0] == 0
        assert await process.stop() == 0


def test_a_total_that_no_page_can_show_is_refused(environ: dict[str, str], typed: Type) -> None:
    """JavaScript stores larger whole numbers only in steps of two, and two corrections add up."""
    most = str(2**53 - 1)
    assert typed("adjust", "portal", "--add", most, "--reason", "r", "--id", "a", environ=environ)[0] == 0
    status, output = typed("adjust", "portal", "--add", "1", "--reason", "r", "--id", "b", environ=environ)
    assert (status, f"it is {int(most):,d} now" in output) == (2, True), output


async def test_a_database_that_is_not_utf_8_is_refused_before_it_has_tables(
    environ: dict[str, str], postgres_url: str
) -> None:
    """In LATIN1 the first Vietnamese reason failed, months after the tables were made."""
    name = f"latin_{uuid4().hex}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    latin = environ | {"FOOTFALL_POSTGRES_URL": re.sub(r"/test_\w+\?", f"/{name}?", postgres_url)}
    try:
        status, output = await run("migrate", environ=latin)
        assert status == 1
        assert re.fullmatch(r"footfall: postgres: the database has the encoding LATIN1.* ENCODING 'UTF8'.*\n", output)
        status, output = await run("doctor", environ=latin)
        assert status == 1
        assert re.search(r"^FAIL  postgres encoding: .*LATIN1.* ENCODING 'UTF8'", output, re.MULTILINE), output
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def test_stored_text_cannot_write_on_the_terminal(environ: dict[str, str], postgres_url: str) -> None:
    """A stolen password of the service writes reasons, and errors repeat stored text: neither may move a cursor."""
    evil = "x\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\r\nfootfall: all is well"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("INSERT INTO footfall.adjustment VALUES ('portal', $1, 1, $1, $1)", evil)
    status, output = await run("adjust", "portal", "--list", environ=environ)
    assert status == 0
    assert output.count("\n") == 2, output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", output)
    assert r"x\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066\r\nfootfall: all is well" in output
    literal = evil.replace("'", "''")
    await connection.execute(
        "CREATE FUNCTION footfall.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '%', '{literal}'; END $$"
    )
    await connection.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON footfall.salt FOR EACH STATEMENT EXECUTE FUNCTION footfall.refuse()"
    )
    await connection.close()
    status, output = await run("rollup", environ=environ)
    assert status == 1
    assert "owned" in output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", output)


def test_every_command_prints_through_the_one_that_takes_escapes_out() -> None:
    """The next command that prints stored text must not have to remember it."""
    for file in (PACKAGE / "cli").glob("*.py"):
        if file.name != "terminal.py":
            assert not re.search(r"\bprint\(|typer\.echo|sys\.stdout", file.read_text()), file.name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["nowhere", "--list"], "no site is called nowhere; configured are: portal", id="unknown site"),
        pytest.param(["portal"], "say what to add, why, and under which name", id="nothing asked"),
        pytest.param(["portal", "--add", "5"], "say what to add", id="no reason"),
        pytest.param(["portal", "--add", "5", "--list"], "say what to add", id="two things asked"),
        pytest.param(["portal", "--add", "0", "--reason", "r", "--id", "i"], "must not be 0", id="nothing to add"),
        pytest.param(["portal", "--add", f"{2**60}", "--reason", "r", "--id", "i"], "2\\^53", id="too much"),
        pytest.param(["portal", "--add", "many"], "--add", id="not a number"),
    ],
)
def test_a_correction_that_makes_no_sense_is_a_sentence(
    arguments: list[str], words: str, environ: dict[str, str], typed: Type
) -> None:
    """Entries of the journal are permanent, so a mistyped command must add none."""
    status, output = typed("adjust", *arguments, environ=environ)
    assert status == 2
    assert re.search(words, output), output


async def test_a_rollup_tells_each_site(environ: dict[str, str], redis_url: str) -> None:
    """Before a backup an operator checks that PostgreSQL has every count; after a fault, which site is missing."""
    file = Path(environ["FOOTFALL_CONFIG"])
    file.write_text(file.read_text() + '[sites.library]\nname = "Thư viện"\nhosts = ["library.example.vn"]\n')
    status, output = await run("rollup", environ=environ)
    assert status == 0
    assert output.splitlines() == [
        "portal: days saved 0, joined back into Redis 0",
        "library: days saved 0, joined back into Redis 0",
    ]
    async with Redis.from_url(redis_url) as redis:
        await redis.set("ff1:{library}:ready", "somebody-else")
    status, output = await run("rollup", environ=environ)
    assert status == 1
    assert "portal: days saved 0" in output
    assert "library: not rolled up: redis: holds another installation" in output
    assert "footfall: 1 of 2 sites were not rolled up" in output


def test_the_snippets_of_all_sites_are_printed_before_there_is_a_store(
    environ: dict[str, str], typed: Type, tmp_path: Path
) -> None:
    """The lines for a hundred webmasters are made in one go; a portal may have a counter's name of its own."""
    file = tmp_path / "two.toml"
    own = 'public_url = "https://count.library.example.vn"'
    file.write_text(
        "".join(f'[sites.{site}]\nname = "x"\nhosts = ["{site}.vn"]\n{url}\n' for site, url in (("a", ""), ("b", own)))
    )
    alone = {"FOOTFALL_CONFIG": str(file), "FOOTFALL_REDIS_URL": "", "FOOTFALL_POSTGRES_URL": ""}
    status, output = typed("snippet", "--all", environ=environ | alone)
    assert status == 0
    first, second = output.split("<!-- b -->\n")
    assert first.startswith("<!-- a -->\n")
    assert 'src="http://127.0.0.1:8080/footfall.js?site=a" data-site="a"' in first
    assert 'src="https://count.library.example.vn/footfall.js?site=b" data-site="b"' in second
    for wrong in ((), ("a", "--all")):
        status, output = typed("snippet", *wrong, environ=environ | alone)
        assert (status, output) == (2, "footfall: name one site, or give --all; configured are: a, b\n")


def test_the_snippet_is_only_what_is_to_be_pasted(environ: dict[str, str], typed: Type) -> None:
    """Users pipe the snippet into a file as often as they read it."""
    status, output = typed("snippet", "portal", environ=environ | {"FOOTFALL_PUBLIC_URL": "https://count.example.vn"})
    assert status == 0
    assert output.startswith("<div ")
    script = "https://count.example.vn/footfall.js?site=portal"
    old = "https://count.example.vn/footfall-old.js?site=portal"
    assert output.endswith(
        f'<script async src="{script}" data-site="portal"></script>\n<script nomodule src="{old}"></script>\n'
    )


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (("--style", "cards", "--heading", "3"), '<div class="footfall footfall-cards" lang="vi">'),
        (("--style", "list", "--color", "#B3261E"), '/footfall.css?color=b3261e">'),
        (("--show", "month,total", "--lang", "zh"), '本月: <b class="footfall-month"'),
        (("--style", "nice"), "is not one of"),
        (("--show", "everything"), "--show must name numbers"),
        (("--style", "list", "--color", "red"), "six hexadecimal digits"),
        (("--color", "b3261e"), "--color needs a style"),
        (("--lang", "de"), "--lang must be one of these: vi, en, zh, fr, lo, km"),
    ],
)
def test_the_snippet_is_printed_in_styles(
    environ: dict[str, str], typed: Type, options: tuple[str, ...], printed: str
) -> None:
    """Each option that is wrong is answered with what would be right."""
    assert printed in typed("snippet", "portal", *options, environ=environ)[1]


async def test_the_commands_work_beside_a_running_demo(own_folder: Path) -> None:
    """A newcomer who tries it out wants to enter the old counter's number as well, and has no URLs of stores."""
    environ = embedded(own_folder)
    status, output = await run("adjust", "portal", "--list", "--embedded", environ=environ)
    assert status == 1
    assert re.fullmatch(r"footfall: no Footfall with embedded servers answers .*FOOTFALL_DATA_DIR.*\n", output), output
    assert (await run("snippet", "portal", "--embedded", environ=environ))[0] == 0

    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    environ["FOOTFALL_LISTEN"] = listen
    async with start("serve", "--embedded", "--demo", environ=environ) as process:
        url, _ = await ready(process)
        async with fresh_connections() as http:
            assert await see(http, url, host=url) == 200
        add = ("adjust", "portal", "--add", "1000", "--reason", "old", "--id", "old", "--embedded")
        assert (await run(*add, environ=environ))[0] == 0
        async with fresh_connections() as http, http.get(f"{url}/counts?site=portal") as response:
            assert (await response.json())["total"] in (1, 1001)  # the cache's are at most a second old
            assert await see(http, url, host=url) == 200
        async with fresh_connections() as http, http.get(f"{url}/counts?site=portal") as response:
            assert (await response.json())["total"] == 1001
        assert await run("rollup", "--embedded", environ=environ) == (
            0,
            "portal: days saved 1, joined back into Redis 0\n",
        )
        status, output = await run("doctor", "--embedded", environ=environ)
        assert status == 0, output
        assert "FAIL" not in output
        assert await process.stop() == 0

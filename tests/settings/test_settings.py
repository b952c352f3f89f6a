"""The settings: which are accepted, which are refused with which sentence, and that the three places agree."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from footfall.errors import SettingsError
from footfall.model.site_id import SiteId
from footfall.settings.authorities import system_authorities
from footfall.settings.settings import (
    FILE_VARIABLES,
    VARIABLES,
    Limits,
    Listen,
    Settings,
    Site,
    load_settings,
    parse_listen,
    settings_file,
)
from footfall.settings.sources import CONFIG_VARIABLE
from footfall.settings.store_urls import Server, parse_redis_url, postgres_urls
from tests.support import reference
from tests.support.project import PROJECT
from tests.support.reference import default_text

STORES = {
    "FOOTFALL_REDIS_URL": "redis://:hunter2@redis.example.vn:6379/0",
    "FOOTFALL_POSTGRES_URL": "postgresql://footfall:hunter2@postgres.example.vn/footfall",
}
PORTAL = '[sites.portal]\nname = "Cổng thông tin"\nhosts = ["portal.example.vn"]\n'


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """Return a settings file with one portal and no other key."""
    return write(tmp_path / "footfall.toml", PORTAL)


def write(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


def problems_of(file: Path | None, environ: dict[str, str], *, embedded: bool = False, demo: bool = False) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load_settings(file, environ, embedded=embedded, demo=demo)
    assert refused.value.status == 2
    return refused.value.problems


def test_one_portal_and_two_stores_are_enough(toml: Path) -> None:
    """These are the shortest settings that an operator can write; every other key has a default."""
    settings = load_settings(toml, STORES)
    assert settings.sites["portal"] == Site(id=SiteId("portal"), name="Cổng thông tin", hosts=("portal.example.vn",))
    assert settings.sites["portal"].zone == ZoneInfo("Asia/Ho_Chi_Minh")
    assert settings.trusted_proxies == (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"), "unix")
    assert settings.limits == Limits()


def test_the_environment_wins_over_the_file(toml: Path) -> None:
    """An operator moves a container by its environment, whatever the file in its image contains."""
    write(toml, 'listen = "127.0.0.1:1"\nrollup_every_s = 20\n' + PORTAL)
    settings = load_settings(toml, STORES | {"FOOTFALL_LISTEN": "0.0.0.0:9000"})
    assert (settings.listen, settings.rollup_every_s) == ("0.0.0.0:9000", 20)


def test_only_the_given_environment_is_read(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings depend on their parameters alone, so tests and a reload hold no surprise."""
    monkeypatch.setenv("FOOTFALL_LISTEN", "127.0.0.1:1")
    assert load_settings(toml, STORES).listen == "127.0.0.1:8080"


def test_an_empty_variable_is_not_set(toml: Path) -> None:
    """Compose passes `${FOOTFALL_OPS_TOKEN:-}` on as an empty text."""
    settings = load_settings(toml, STORES | {"FOOTFALL_OPS_TOKEN": "", "FOOTFALL_ROLLUP_EVERY_S": " "})
    assert (settings.ops_token, settings.rollup_every_s) == (None, 10)


def test_what_kubernetes_adds_for_a_service_called_footfall_is_no_problem(toml: Path) -> None:
    """Otherwise the pod would refuse to start because of its own service."""
    added = {
        "FOOTFALL_SERVICE_HOST": "10.0.0.1",
        "FOOTFALL_PORT": "tcp://10.0.0.1:80",
        "FOOTFALL_PORT_80_TCP": "x",
    }
    load_settings(toml, STORES | added | {"FOOTFALL_REDIS_SERVICE_PORT_MAIN": "6379"})


def test_proxies_come_from_a_list_separated_by_commas(toml: Path) -> None:
    """A variable can hold only one text."""
    settings = load_settings(toml, STORES | {"FOOTFALL_TRUSTED_PROXIES": "10.0.0.0/8, unix,::ffff:192.0.2.0/120"})
    assert settings.trusted_proxies == (IPv4Network("10.0.0.0/8"), "unix", IPv4Network("192.0.2.0/24"))


def test_a_secret_can_come_from_a_file(toml: Path, tmp_path: Path) -> None:
    """Docker and Kubernetes provide secrets as files, usually with a line end."""
    secret = write(tmp_path / "redis_url", "rediss://footfall:pw@redis.example.vn\n")
    environ = {
        "FOOTFALL_REDIS_URL_FILE": str(secret),
        "FOOTFALL_POSTGRES_URL": STORES["FOOTFALL_POSTGRES_URL"],
    }
    assert load_settings(toml, environ).redis_url.get_secret_value() == "rediss://footfall:pw@redis.example.vn"


def test_a_secret_given_twice_or_not_readable_is_a_problem(toml: Path, tmp_path: Path) -> None:
    """Which of two passwords counts must be certain; a secret in the place of a path must not be shown."""
    environ = STORES | {
        "FOOTFALL_REDIS_URL_FILE": str(write(tmp_path / "redis_url", "redis://redis.example.vn")),
        "FOOTFALL_OPS_TOKEN_FILE": "/nowhere/hunter2",
        "FOOTFALL_MIGRATE_URL_FILE": str(write(tmp_path / "empty", "\n")),
    }
    assert problems_of(toml, environ) == [
        "FOOTFALL_REDIS_URL_FILE: is given together with FOOTFALL_REDIS_URL; keep one of them.",
        "FOOTFALL_OPS_TOKEN_FILE: the file that it names cannot be read (No such file or directory).",
        "FOOTFALL_MIGRATE_URL_FILE: the file that it names is empty.",
    ]


def test_a_secret_file_that_cannot_be_read_is_one_problem(toml: Path) -> None:
    """A second sentence, that the setting is missing, would send the operator to the wrong place."""
    environ = {"FOOTFALL_REDIS_URL_FILE": "/nowhere", "FOOTFALL_POSTGRES_URL": "postgresql://db.example.vn"}
    [problem] = problems_of(toml, environ)
    assert problem.startswith("FOOTFALL_REDIS_URL_FILE: the file that it names cannot be read")


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """An operator corrects a file once, not once per start; each sentence names setting and remedy."""
    file = write(
        tmp_path / "footfall.toml",
        """
        rollup_evry_s = 20
        queue_max_beacons = nan
        trusted_proxies = ["10.0.0.1/8", "office"]
        [sites.Portal]
        name = ""
        hosts = []
        time_zone = "Asia/Saigonn"
        language = "french"
        [sites.library]
        hosts = "library.example.vn"
        [limits]
        enabled = "perhaps"
        beacons = 3
        """,
    )
    problems = problems_of(file, STORES | {"FOOTFALL_ROLLUP_EVERY_S": "3", "FOOTFALL_LISTN": "x"})
    assert [problem.replace(f" ({file})", "") for problem in problems] == [
        "FOOTFALL_LISTN: is not a setting of Footfall; did you mean FOOTFALL_LISTEN?",
        "sites.Portal.id: an id is 1 to 32 of a-z, 0-9 and -, the first one not -.",
        "sites.Portal.name: must not be empty.",
        "sites.Portal.hosts: must not be empty.",
        "sites.Portal.time_zone: 'Asia/Saigonn' is not a time zone; did you mean Asia/Saigon?",
        "sites.Portal.language: 'french' must be the code of a language, two or three letters such as zh.",
        "sites.library.name: is required and missing.",
        'sites.library.hosts: must be a list, such as ["a", "b"], not \'library.example.vn\'.',
        "trusted_proxies: '10.0.0.1/8' is ambiguous: write 10.0.0.0/8 (a network) or 10.0.0.1 (one address).",
        "trusted_proxies: 'office' is not a network, such as 10.0.0.0/8 or 2001:db8::/32.",
        "FOOTFALL_ROLLUP_EVERY_S: '3' is too small: give at least 5.",
        "queue_max_beacons: must be a finite number, not nan.",
        "limits.enabled: must be true or false, not 'perhaps'.",
        "limits.beacons: is not a setting of Footfall; did you mean beacons_per_s?",
        "rollup_evry_s: is not a setting of Footfall; did you mean rollup_every_s?",
    ]


@pytest.mark.parametrize(
    "written",
    [
        *("Asia/Hanoi", "UTC+7", "GMT+7", "ICT", "UTC+07:00", "+07:00", "GMT+0700", "Etc/UTC+7", "Hà Nội", "Vietnam"),
        *("Asia/Ha_Noi", "Asia/Ho_Chi_Minh_City", "asia/hanoi", "SE Asia Standard Time", "Asia/Saigon_"),
    ],
)
def test_the_zone_of_vietnam_is_named_however_it_was_written(written: str, toml: Path) -> None:
    """The nearest spelling was Asia/Yangon or UTC: a portal would begin its days half an hour or seven hours late."""
    [problem] = problems_of(write(toml, f"{PORTAL}time_zone = '{written}'"), STORES)
    assert re.search(r"is not a time zone; .*(Asia/Ho_Chi_Minh|Asia/Saigon)[.?]", problem), problem


@pytest.mark.parametrize("written", ["UTC+8", "GMT-3", "+0800"])
def test_an_offset_is_no_zone(written: str, toml: Path) -> None:
    """UTC would be the nearest spelling, and a wrong clock."""
    [problem] = problems_of(write(toml, f"{PORTAL}time_zone = '{written}'"), STORES)
    assert problem.endswith("but an offset; give the IANA name of a place, such as Asia/Ho_Chi_Minh for UTC+7.")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        pytest.param("FOOTFALL_EMBEDDED", "; give footfall serve the option --embedded.", id="option"),
        pytest.param("FOOTFALL_WORKER", "; did you mean FOOTFALL_WORKERS?", id="one letter"),
        pytest.param("FOOTFALL_LIMITS_ENABLED", "; the table limits stands in footfall.toml only.", id="limits"),
        pytest.param("FOOTFALL_SITES", "; the table sites stands in footfall.toml only.", id="sites"),
        pytest.param("FOOTFALL_REDIS", "; did you mean FOOTFALL_REDIS_URL?", id="a part"),
        pytest.param("FOOTFALL_OPS_TOKEN_FIL", "; did you mean FOOTFALL_OPS_TOKEN_FILE?", id="misspelt"),
        pytest.param("FOOTFALL_COLOUR", "; remove or correct it.", id="nothing like it"),
    ],
)
def test_an_unknown_variable_gets_advice_that_is_right(variable: str, hint: str, toml: Path) -> None:
    """The prefix alone made FOOTFALL_COLOUR and FOOTFALL_REDIS_URL alike, and an operator believes what is printed."""
    assert problems_of(toml, STORES | {variable: "4"}) == [f"{variable}: is not a setting of Footfall{hint}"]


def test_an_option_that_stands_in_the_file_is_named(toml: Path) -> None:
    """The advice is the same wherever it was tried."""
    [problem] = problems_of(write(toml, "embedded = true\n" + PORTAL), STORES)
    assert problem.endswith("is not a setting of Footfall; give footfall serve the option --embedded.")


def test_the_number_of_workers_is_a_setting_too(toml: Path) -> None:
    """systemd's unit and the image start `footfall serve` without options."""
    assert load_settings(toml, STORES).workers == 1
    assert load_settings(toml, STORES | {"FOOTFALL_WORKERS": "4"}).workers == 4
    assert 1 <= load_settings(write(toml, 'workers = "auto"\n' + PORTAL), STORES).workers <= 64
    for wrong in ("0", "65", "all", "-1", "1.5"):
        [problem] = problems_of(toml, STORES | {"FOOTFALL_WORKERS": wrong})
        assert problem == "FOOTFALL_WORKERS: must be a number from 1 to 64, or the word auto."


@pytest.mark.parametrize("path", ["/abc", "/0/1", "/-1", "/0x1", "/ 1", "//1", "/1/"])
def test_a_database_of_redis_is_a_number(path: str, toml: Path) -> None:
    """The client takes database 0 for any name, so two portals would share one without a word."""
    [problem] = problems_of(toml, STORES | {"FOOTFALL_REDIS_URL": f"redis://:hunter2@redis.example.vn{path}"})
    assert problem.startswith("FOOTFALL_REDIS_URL: must end with the number of a database")
    assert "hunter2" not in problem


@pytest.mark.parametrize("path", ["", "/", "/0", "/15", "/0?health_check_interval=3"])
def test_a_number_of_a_database_or_none_is_right(path: str, toml: Path) -> None:
    """What worked until now works on."""
    load_settings(toml, STORES | {"FOOTFALL_REDIS_URL": f"rediss://redis.example.vn{path}"})
    load_settings(toml, STORES | {"FOOTFALL_REDIS_URL": "unix:///run/redis.sock?db=2"})


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://h1:7000,h2:7001",
        "rediss+cluster://user:p%40ss@[2001:db8::1]:7000,h2/0?ssl_cert_reqs=required",
        "redis+sentinel://s1:26379,s2/counts",
        "rediss+sentinel://:pw@s1,[::1]:26380/counts/3?sentinel_password=hunter2",
    ],
)
def test_a_cluster_and_sentinels_have_urls_of_their_own(url: str, toml: Path) -> None:
    """These are the spellings that other programs know."""
    settings = load_settings(toml, STORES | {"FOOTFALL_REDIS_URL": url})
    assert settings.redis_url.get_secret_value() == url


def test_sentinels_and_servers_have_passwords_of_their_own(toml: Path) -> None:
    """A sentinel that got the password of the servers would refuse it, and no primary would be found."""
    ca_file = str(system_authorities())
    environ = STORES | {
        "FOOTFALL_REDIS_URL": "rediss+sentinel://user:p%40ss@s1/counts/3?sentinel_username=s&sentinel_password=a%2Fb",
        "FOOTFALL_CA_FILE": ca_file,
    }
    url = parse_redis_url(load_settings(toml, environ).redis_url.get_secret_value())
    authorities = f"ssl_ca_certs={ca_file}"
    assert url.server_url(Server("10.0.0.7", 6379)) == f"rediss://user:p%40ss@10.0.0.7:6379/3?{authorities}"
    assert url.sentinel_url(url.servers[0]) == f"rediss://s:a%2Fb@s1:26379?{authorities}"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("redis://h1,h2:6380/0", "begin it with redis+cluster:// or redis+sentinel://", id="plain list"),
        pytest.param("redis+cluster://h1/1", "a cluster has no other database", id="database of a cluster"),
        pytest.param("redis+cluster:///0", "at least one server", id="no server"),
        pytest.param("redis+cluster://h1,,h2", "not a readable URL", id="empty server"),
        pytest.param("redis+cluster://[::1:7000,h2", "not a readable URL", id="open bracket"),
        pytest.param("redis+cluster://h1:70000", "not a readable URL", id="port too large"),
        pytest.param("redis+sentinel://s1,s2", "name the service", id="no service"),
        pytest.param("redis+sentinel://s1/counts/x", "number of a database", id="database by name"),
        pytest.param("redis+sentinel://s1/counts/0/1", "number of a database", id="two databases"),
    ],
)
def test_a_wrong_list_of_redis_servers_is_refused(url: str, words: str, toml: Path) -> None:
    """Each of these would start, and count nothing or somewhere else."""
    [problem] = problems_of(toml, STORES | {"FOOTFALL_REDIS_URL": url})
    assert problem.startswith("FOOTFALL_REDIS_URL: ")
    assert words in problem


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@h1,h2/db?target_session_attrs=read-write", ["h1:5432", "h2:5432"]),
        ("postgresql://u:p@h1:5432,h2:5433/db", ["h1:5432", "h2:5433"]),
        ("postgresql://u@[::1],[2001:db8::7]:5433/db", ["[::1]:5432", "[2001:db8::7]:5433"]),
        ("postgresql:///db?host=h1,h2&port=5432,5433", ["h1:5432", "h2:5433"]),
        ("postgresql:///db?host=h1,h2&port=5433", ["h1:5433", "h2:5433"]),
    ],
)
def test_postgres_may_have_several_hosts(url: str, hosts: list[str], toml: Path) -> None:
    """Both spellings of libpq; the one that takes writes is meant."""
    settings = load_settings(toml, STORES | {"FOOTFALL_POSTGRES_URL": url})
    found = postgres_urls(settings.postgres_url.get_secret_value())
    assert list(found) == hosts
    assert all(one.count("target_session_attrs=read-write") == 1 for one in found.values())


def test_ports_that_fit_no_host_are_refused(toml: Path) -> None:
    """The third host would be asked at a port of the driver's choice."""
    url = "postgresql:///db?host=h1,h2,h3&port=5432,5433"
    [problem] = problems_of(toml, STORES | {"FOOTFALL_POSTGRES_URL": url})
    assert "one port, or a port for each host" in problem


def test_a_service_without_stores_and_portals_says_what_it_needs() -> None:
    """This is the first start of a user who has read no documentation."""
    assert problems_of(None, {}) == [
        "FOOTFALL_REDIS_URL: is required, such as redis://host:6379/0; --embedded needs none.",
        "FOOTFALL_POSTGRES_URL: is required, such as postgresql://user@host/db; --embedded needs none.",
        "sites: no portal is configured; add a table such as [sites.portal] to footfall.toml.",
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param('public_url = "ftp://count.example.vn"', "http:// or https://", id="url scheme"),
        pytest.param('public_url = "https://u:p@count.example.vn"', "without query or password", id="password"),
        pytest.param('public_url = "https://count.example.vn/?a=1"', "without query", id="url query"),
        pytest.param('listen = "8080"', "must be host:port", id="port alone"),
        pytest.param('listen = "::1:8080"', "must be host:port", id="IPv6 without brackets"),
        pytest.param('ops_listen = "127.0.0.1:65536"', "must be host:port", id="port too large"),
        pytest.param('listen = "[::1]:81"\nops_listen = "[::1]:81"', "address of their own", id="same address"),
        pytest.param('forwarded_header = "A, B"', "one header", id="two headers"),
        pytest.param('translation_prefixes = ["10.0.0.0/8"]', "an IPv6 prefix of /32", id="NAT64 in IPv4"),
        pytest.param('translation_prefixes = ["2001:db8::/44"]', "an IPv6 prefix of /32", id="NAT64 of no length"),
        pytest.param("rollup_every_s = 301", "at most 300", id="rollup too rare"),
        pytest.param('spool_max_bytes = "large"', "a whole number", id="not a number"),
        pytest.param("keep_max_bytes = 1", "at least 1048576", id="no room"),
        pytest.param('ops_token = ""', "must not be empty", id="empty token"),
        pytest.param("data_dir = 5", "a path, in quotes", id="path that is a number"),
        pytest.param("listen = ", "is not TOML", id="broken file"),
    ],
)
def test_a_bad_setting_is_refused_in_one_plain_sentence(toml: Path, line: str, sentence: str) -> None:
    """Otherwise a visitor would find each of these mistakes, or no one would."""
    [problem] = problems_of(write(toml, f"{line}\n{PORTAL}"), STORES)
    assert sentence in problem
    assert problem.endswith((".", "?"))


@pytest.mark.parametrize(
    ("sites", "sentence"),
    [
        pytest.param("sites = 5", "a table", id="number for sites"),
        pytest.param("[sites]", "no portal is configured", id="no site"),
        pytest.param("demo = true\n" + PORTAL.replace("portal]", "other]"), "called portal", id="demo alone"),
        pytest.param(PORTAL.replace("portal.", "https://portal."), "no https://", id="host with a scheme"),
        pytest.param(PORTAL + "id = 'other'", "leave it out", id="two ids"),
        pytest.param(PORTAL + "online_window_s = 60", "longer than ping_after_s", id="online shorter than a ping"),
        pytest.param(PORTAL + "excluded_networks = [5]", "'5' is not a network", id="number for a network"),
        pytest.param(PORTAL + "page_query = ['?id=1']", "one key", id="a value in a query key"),
        pytest.param(PORTAL + f"labels = {{ today = '{'x' * 81}' }}", "at most 80", id="long label"),
        pytest.param(PORTAL + "language = 'german'", "two or three letters such as zh", id="language"),
        pytest.param(PORTAL + "language = 'de'", "de has no built-in words", id="language without words"),
        pytest.param(PORTAL + "labels = { tomorrow = 'x' }", "give 'heading', 'online'", id="unknown label"),
        pytest.param(PORTAL + "time_zone = 'Hà Nội'", "IANA name", id="no zone at all"),
    ],
)
def test_a_bad_site_is_refused_in_one_plain_sentence(tmp_path: Path, sites: str, sentence: str) -> None:
    """People who run no servers write the table of a portal."""
    [problem] = problems_of(write(tmp_path / "footfall.toml", sites), STORES)
    assert sentence in problem
    assert problem.endswith((".", "?"))


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        pytest.param("FOOTFALL_REDIS_URL", "http://:hunter2@redis.example.vn", id="scheme of the web"),
        pytest.param("FOOTFALL_REDIS_URL", "hunter2", id="password alone"),
        pytest.param("FOOTFALL_REDIS_URL", "redis://:p@hunter2/x@redis.example.vn", id="slash in the password"),
        pytest.param("FOOTFALL_POSTGRES_URL", "postgresql://footfall:hunter2#x@db.example.vn/footfall", id="hash"),
        pytest.param("FOOTFALL_POSTGRES_URL", "postgresql://footfall:hunter2@[db/footfall", id="open bracket"),
        pytest.param("FOOTFALL_MIGRATE_URL", "host=db password=hunter2", id="libpq words"),
        pytest.param("FOOTFALL_REDIS_URLS", "hunter2", id="misspelt variable"),
    ],
)
def test_no_problem_shows_a_secret(toml: Path, variable: str, url: str) -> None:
    """Footfall prints problems, and a container platform stores them in its log."""
    [problem] = problems_of(toml, STORES | {variable: url})
    assert variable in problem
    assert "hunter2" not in problem


def test_settings_mask_their_secrets(toml: Path) -> None:
    """A later change will log the settings one day."""
    settings = load_settings(
        toml, STORES | {"FOOTFALL_OPS_TOKEN": "hunter2", "FOOTFALL_MIGRATE_URL": "postgres://hunter2"}
    )
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert isinstance(settings.ops_token, SecretStr)


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    """A misspelt path in FOOTFALL_CONFIG must not start a service without portals."""
    [missing] = problems_of(tmp_path / "nowhere.toml", STORES)
    assert missing.startswith(f"{tmp_path / 'nowhere.toml'}: cannot be read")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'name = "\xe9"')
    assert problems_of(latin, STORES) == [f"{latin}: is not UTF-8 text; save it as UTF-8."]


def test_the_mark_that_windows_editors_write_is_accepted(tmp_path: Path) -> None:
    """Operators edit on Windows; an error in column 1 of a correct file would cost them an hour."""
    file = tmp_path / "footfall.toml"
    file.write_text(PORTAL, "utf-8-sig")
    assert list(load_settings(file, STORES).sites) == ["portal"]


def test_the_settings_file_is_the_one_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FOOTFALL_CONFIG, the file is footfall.toml in the current folder, if it exists."""
    monkeypatch.chdir(tmp_path)
    assert settings_file({}) is None
    write(tmp_path / "footfall.toml", PORTAL)
    assert settings_file({}) == Path("footfall.toml")
    assert settings_file({CONFIG_VARIABLE: "/etc/footfall.toml"}) == Path("/etc/footfall.toml")


@pytest.mark.parametrize(
    ("listen", "hosts", "public_url"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", "localhost"), "http://127.0.0.1:8080"),
        ("0.0.0.0:9000", ("127.0.0.1", "localhost"), "http://127.0.0.1:9000"),
        ("192.0.2.7:80", ("192.0.2.7", "127.0.0.1", "localhost"), "http://192.0.2.7:80"),
        ("[::1]:81", ("[::1]", "127.0.0.1", "localhost"), "http://[::1]:81"),
        ("127.0.0.1:0", ("127.0.0.1", "localhost"), "http://127.0.0.1:8080"),
        ("unix:/run/footfall.sock", ("127.0.0.1", "localhost"), "http://127.0.0.1:8080"),
    ],
)
def test_embedded_without_a_file_is_the_demo_portal(listen: str, hosts: tuple[str, ...], public_url: str) -> None:
    """A newcomer has no settings yet, and on every address the demo must count its own pages."""
    settings = load_settings(None, {"FOOTFALL_LISTEN": listen}, embedded=True, demo=True)
    assert {site.id: site.hosts for site in settings.sites.values()} == {"portal": hosts}
    assert (settings.public_url, settings.demo) == (public_url, True)


def test_embedded_refuses_to_count_beside_given_stores() -> None:
    """An operator who names a Redis expects the counts there, and would search for them months later."""
    problems = problems_of(None, STORES, embedded=True)
    assert [problem.partition(":")[0] for problem in problems] == ["FOOTFALL_REDIS_URL", "FOOTFALL_POSTGRES_URL"]


def test_the_demo_needs_the_site_that_its_pages_name(tmp_path: Path) -> None:
    """The demo's pages count for `portal`; without that site they would show nothing, without a sign of the cause."""
    file = write(tmp_path / "footfall.toml", PORTAL.replace("portal]", "other]"))
    [problem] = problems_of(file, {}, embedded=True, demo=True)
    assert problem == "demo: needs a site called portal; add [sites.portal] or leave out --demo."


@pytest.mark.parametrize(
    ("text", "listener"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080)),
        ("localhost:0", Listen("localhost", 0)),
        ("[2001:db8::1]:80", Listen("2001:db8::1", 80)),
        ("unix:/run/footfall.sock", Path("/run/footfall.sock")),
        ("unix:///run/footfall.sock", Path("/run/footfall.sock")),
        ("unix:./footfall.sock", Path("footfall.sock")),
    ],
)
def test_a_listener_is_an_address_or_a_socket(text: str, listener: Listen | Path) -> None:
    """Operators know these forms from other servers; an address is written back unchanged."""
    assert parse_listen(text) == listener
    assert not isinstance(listener, Listen) or str(listener) == text


def test_settings_do_not_change(toml: Path) -> None:
    """Workers share settings, and a reload replaces them as a whole."""
    settings = load_settings(toml, STORES)
    with pytest.raises(ValueError, match="frozen"):
        settings.demo = True
    assert load_settings(toml, STORES) == settings


def test_the_example_file_is_valid_and_shows_every_key(tmp_path: Path) -> None:
    """Operators start from this file: it shows every key with its default."""
    example = (PROJECT / "deploy/footfall.toml").read_text("utf-8")
    as_it_is = load_settings(PROJECT / "deploy/footfall.toml", STORES)
    uncommented = re.sub(r"^#(?=\w+ = )", "", example, flags=re.MULTILINE)
    assert load_settings(write(tmp_path / "footfall.toml", uncommented), STORES) == as_it_is
    keys = set(re.findall(r"^(\w+) = ", uncommented, flags=re.MULTILINE))
    secrets = set(FILE_VARIABLES.values())
    assert keys == ({*VARIABLES.values(), *reference.keys_of(Site), *reference.keys_of(Limits)} - secrets - {"id"})


def test_a_setting_is_the_same_in_the_code_the_reference_and_the_example() -> None:
    """Documentation of settings rots first: name, default and meaning are compared word by word."""
    settings = {
        variable: (default_text(Settings.model_fields[name].default), Settings.model_fields[name].description or "")
        for variable, name in VARIABLES.items()
    }
    assert all(meaning for _, meaning in settings.values())

    example = (PROJECT / "deploy/footfall.env.example").read_text("utf-8")
    shown = re.findall(r"^# (.+)\n#?(FOOTFALL_\w+)=(.*)$", example, flags=re.MULTILINE)
    in_example = {
        variable: ("required" if f"\n{variable}=" in example else default, meaning)
        for meaning, variable, default in shown
        if variable != CONFIG_VARIABLE
    }
    assert in_example == settings
    known = {*VARIABLES, *FILE_VARIABLES, CONFIG_VARIABLE}
    assert set(re.findall(r"FOOTFALL_[A-Z_]+[A-Z]", example)) == known

    page = (PROJECT / "deploy/SETTINGS.md").read_text("utf-8")
    row = re.compile(r"^\| `(FOOTFALL_\w+)` / `(\w+)` \| `?(.*?)`? \| (.*) \|$", flags=re.MULTILINE)
    rows = {variable: (default, meaning) for variable, _, default, meaning in row.findall(page)}
    assert rows == settings
    assert {variable: name for variable, name, _, _ in row.findall(page)} == VARIABLES
    assert set(re.findall(r"FOOTFALL_[A-Z_]+[A-Z]", page)) <= known


def test_each_portal_may_have_a_file_of_its_own(toml: Path) -> None:
    """With a hundred portals one file is a place for mistakes; a portal's file can be its owner's."""
    folder = toml.parent / "sites.d"
    folder.mkdir()
    write(folder / "library.toml", PORTAL.replace("sites.portal", "sites.library"))
    write(folder / "notes.txt", "[")
    assert list(load_settings(toml, STORES).sites) == ["portal", "library"]
    toml.write_text("")
    assert list(load_settings(toml, STORES).sites) == ["library"]


def test_a_mistake_in_a_portal_s_file_names_that_file(toml: Path) -> None:
    """And what belongs to all portals stands in one place."""
    folder = toml.parent / "sites.d"
    folder.mkdir()
    twice = write(folder / "a.toml", PORTAL)
    wrong = write(folder / "b.toml", PORTAL.replace("sites.portal", "sites.library") + "langage = 'vi'")
    all_else = write(folder / "c.toml", "public_url = 'https://count.example.vn'")
    broken = write(folder / "d.toml", "[")
    found = problems_of(toml, STORES)
    assert found[0] == f"sites.portal ({twice}): stands in {toml} already; keep one of them."
    assert found[1] == f"{all_else}: must have tables such as [sites.portal] alone; all else stands in footfall.toml."
    assert found[2].startswith(f"{broken}: is not TOML")
    assert found[3] == f"sites.library.langage ({wrong}): is not a setting of Footfall; did you mean language?"


def test_what_asks_no_store_needs_none(toml: Path) -> None:
    """A webmaster's lines are printed before the first store is there."""
    assert load_settings(toml, {}, needs_stores=False).sites.keys() == {"portal"}
    with pytest.raises(SettingsError):
        load_settings(toml, {})

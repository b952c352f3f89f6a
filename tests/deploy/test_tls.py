"""Stores on other hosts, reached through TLS as the example writes it: Debian's Redis and PostgreSQL, and openssl."""

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from footfall.cli.doctor import check_tls
from footfall.errors import SettingsError, StoreUnavailable
from footfall.settings.authorities import postgres_tls, redis_tls, system_authorities
from footfall.settings.settings import Settings, load_settings
from footfall.stores.postgres_store import open_postgres
from footfall.stores.redis_store import open_redis
from tests.support.certificates import make_authority, sign
from tests.support.project import PROJECT
from tests.support.tls_servers import POSTGRES_PROGRAMS, REDIS_SERVER, TlsPostgres, TlsRedis

EXAMPLE = (PROJECT / "deploy" / "footfall.env.example").read_text()
NEEDED = {"openssl": shutil.which("openssl"), "redis-server": REDIS_SERVER, "postgresql": POSTGRES_PROGRAMS}

CHECKED = " ok   x: TLS; certificate and name are checked against"
PLAIN = "on another host, where its certificate is not checked;"


@dataclass(frozen=True, slots=True)
class Tls:
    """Both servers, an authority, and certificates by what is special of them."""

    redis: TlsRedis
    postgres: TlsPostgres
    authority: Path
    other_authority: Path
    good: Path
    expired: Path
    misnamed: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tls(servers_folder: Path) -> AsyncIterator[Tls]:
    """Run both servers, for all tests of this file."""
    if missing := [name for name, found in NEEDED.items() if found is None]:
        pytest.skip(f"{missing[0]} is not installed")
    folder = servers_folder / "tls"
    folder.mkdir()
    authority = make_authority(folder, "authority")
    async with (
        TlsRedis(servers_folder / "tls-servers") as redis,
        TlsPostgres(servers_folder / "tls-servers") as postgres,
    ):
        yield Tls(
            redis,
            postgres,
            authority,
            make_authority(folder, "other"),
            sign(authority, "good", host="localhost"),
            sign(authority, "expired", host="localhost", days=-1),
            sign(authority, "misnamed", host="elsewhere.example.vn"),
        )


def settings_of(tls: Tls, ca_file: Path | None) -> Settings:
    """Return what Footfall reads of the example's own lines, with these servers in the place of its hosts."""
    environ = dict(re.findall(r"^(FOOTFALL_\w+)=(.+)$", EXAMPLE, re.MULTILINE))
    redis = re.sub("(?<=//).+(?=/)", f"localhost:{tls.redis.port}", environ["FOOTFALL_REDIS_URL"])
    postgres = re.sub(
        "(?<=//).+(?=[?])", f"footfall@localhost:{tls.postgres.port}/postgres", environ["FOOTFALL_POSTGRES_URL"]
    )
    assert (redis.split(":")[0], postgres.partition("?")[2]) == ("rediss", "sslmode=verify-full")
    environ |= {"FOOTFALL_REDIS_URL": redis, "FOOTFALL_POSTGRES_URL": postgres, "FOOTFALL_CA_FILE": str(ca_file or "")}
    return load_settings(PROJECT / "deploy" / "footfall.toml", environ)


def doctor_says(settings: Settings) -> set[str]:
    """Return what doctor says of the way to both stores."""
    found = (redis_tls(settings.redis_url.get_secret_value()), postgres_tls(settings.postgres_url.get_secret_value()))
    return {str(check_tls("x", tls)) for tls in found}


async def answers(settings: Settings) -> tuple[str, str]:
    """Return what each store says: its fitness, or why it could not be asked."""
    said = []
    async with open_redis(settings.redis_url.get_secret_value(), 5) as redis:
        try:
            said.append((await redis.facts())[0].role)
        except StoreUnavailable as error:
            said.append(error.sentence)
    async with open_postgres(settings.postgres_url.get_secret_value()) as postgres:
        try:
            said.append((await postgres.facts()).encoding)
        except StoreUnavailable as error:
            said.append(error.sentence)
    return said[0], said[1]


@pytest.mark.asyncio(loop_scope="module")
async def test_ones_own_authority_is_one_setting(tls: Tls) -> None:
    """The unit's account has no home, so there is no ~/.postgresql/root.crt to put a certificate into."""
    for server in (tls.redis, tls.postgres):
        await server.show(tls.good)
    settings = settings_of(tls, tls.authority)
    assert await answers(settings) == ("master", "UTF8")
    for found in (
        redis_tls(settings.redis_url.get_secret_value()),
        postgres_tls(settings.postgres_url.get_secret_value()),
    ):
        assert (
            str(check_tls("tls", found))
            == f" ok   tls: TLS; certificate and name are checked against the authorities in {tls.authority}"
        )


@pytest.mark.asyncio(loop_scope="module")
async def test_the_default_is_what_the_system_trusts(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sslmode=verify-full` as the example writes it could not connect; nor could `sslrootcert=system`."""
    for server in (tls.redis, tls.postgres):
        await server.show(tls.good)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.authority))  # as if the system trusted it
    settings = settings_of(tls, None)
    assert await answers(settings) == ("master", "UTF8")
    for found in (
        redis_tls(settings.redis_url.get_secret_value()),
        postgres_tls(settings.postgres_url.get_secret_value()),
    ):
        assert (
            found.words == f"TLS; certificate and name are checked against the system's authorities ({tls.authority})"
        )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("shown", "trusted", "sentence"),
    [
        ("good", "other_authority", "shows a certificate of an authority that is not trusted, see FOOTFALL_CA_FILE"),
        ("good", None, "shows a certificate of an authority that is not trusted, see FOOTFALL_CA_FILE"),
        ("misnamed", "authority", "shows a certificate for another name than the host in its URL"),
        ("expired", "authority", "shows a certificate that has expired, renew it"),
    ],
)
async def test_each_wrong_certificate_has_its_sentence(
    tls: Tls, shown: str, trusted: str | None, sentence: str
) -> None:
    """ "Certificate verify failed" is three different repairs, on three different hosts."""
    for server in (tls.redis, tls.postgres):
        await server.show(getattr(tls, shown))
    said = await answers(settings_of(tls, getattr(tls, trusted) if trusted else None))
    assert [words.partition(":")[0] for words in said] == [sentence, sentence]


def problems_with(**environ: str) -> list[str]:
    stores = {"FOOTFALL_REDIS_URL": "redis://h", "FOOTFALL_POSTGRES_URL": "postgresql://u@h/d?sslmode=verify-full"}
    with pytest.raises(SettingsError) as refused:
        load_settings(PROJECT / "deploy" / "footfall.toml", stores | environ)
    return refused.value.problems


def test_a_file_of_authorities_is_read_at_the_start(tmp_path: Path) -> None:
    """With a mistyped path each store would fail on first use, with the words of its driver."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert problems_with(FOOTFALL_CA_FILE=str(tmp_path / "no.pem")) == [
        f"FOOTFALL_CA_FILE: {tmp_path}/no.pem cannot be read (No such file or directory)."
    ]
    assert problems_with(FOOTFALL_CA_FILE=str(empty)) == [
        f"FOOTFALL_CA_FILE: {empty} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)."
    ]


@pytest.mark.parametrize(
    ("postgres", "root"),
    [
        ("postgresql://u@db/x?sslmode=verify-full", "system"),
        ("postgresql://u@db/x?sslmode=verify-full&sslrootcert=system", "system"),
        ("postgresql://u@db/x?sslmode=verify-ca&sslrootcert=/own.pem", "/own.pem"),
        ("postgresql://u@db/x?sslmode=require", None),
        ("postgresql://u@db/x", None),
    ],
)
def test_an_authority_in_the_url_stays(postgres: str, root: str | None) -> None:
    """Who wrote `sslrootcert` meant that file; `system` is libpq's word, which the driver takes for a file."""
    environ = {"FOOTFALL_REDIS_URL": "redis://h", "FOOTFALL_POSTGRES_URL": postgres}
    url = load_settings(PROJECT / "deploy" / "footfall.toml", environ).postgres_url.get_secret_value()
    expected = str(system_authorities()) if root == "system" else root
    assert re.findall("sslrootcert=([^&]+)", url) == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:6379/0", " ok   x: no TLS, on this host"),
        ("unix:///run/redis.sock", " ok   x: no TLS, on this host"),
        ("postgresql://u@/db?host=/run/postgresql", " ok   x: no TLS, on this host"),
        ("redis://r.example.vn", f"warn  x: {PLAIN} begin its URL with rediss://"),
        ("redis+cluster://127.0.0.1,r.example.vn", f"warn  x: {PLAIN} begin its URL with rediss+cluster://"),
        ("redis+sentinel://127.0.0.1,[::1]/counts", " ok   x: no TLS, on this host"),
        ("rediss://r.example.vn?ssl_cert_reqs=none", "warn  x: TLS, but its certificate is not checked; leave"),
        (
            "rediss://r.example.vn?ssl_check_hostname=false",
            " ok   x: TLS; the certificate, but not its name, is checked",
        ),
        ("postgresql://u@127.0.0.1,p.example.vn/d", f"warn  x: {PLAIN} write sslmode=verify-full"),
        ("postgresql://u@p.example.vn/d", f"warn  x: {PLAIN} write sslmode=verify-full"),
    ],
)
def test_doctor_says_which_certificates_are_checked(url: str, words: str) -> None:
    """A password on another host's wire is everyone's, and the default of PostgreSQL's clients checks nothing."""
    found = postgres_tls(url) if url.startswith("postgresql") else redis_tls(url)
    assert str(check_tls("x", found)).startswith(words)

"""The guides, typed into a bare Debian 12: python -m tests.deploy.machines.bare [readme | package | operating]

systemd-nspawn boots the Debian without a network. Each block of the guide is typed into a shell on a terminal; what a
guide leaves to its reader, the names, passwords, certificate and portals, stands in `Reader`. README.md beside this
file says what it needs.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from secrets import token_hex

from footfall import __version__
from tests.deploy.machines.debian import make_root, need, step
from tests.deploy.machines.guide import blocks, section
from tests.deploy.machines.machine import Machine, fetch_packages
from tests.deploy.machines.terminal import Terminal
from tests.support.certificates import make_authority, sign
from tests.support.project import PROJECT

NAME = "count.example.vn"
PORTALS = {"portal": "portal.example.vn", "library": "library.example.vn", "xa-song-may": "songmay.example.vn"}
DEPLOY = PROJECT / "deploy"
README = (("README.md", "With your own Redis and PostgreSQL"),)
PARTS = {
    "readme": README,
    "package": README,
    "operating": (
        ("OPERATING.md", "Install on one machine in ten minutes"),
        ("OPERATING.md", "Three portals"),
    ),
}
PACKAGE = "apt install ./footfall_*_all.deb && cd /usr/share/footfall"
"""What the guide says to type instead, where the Debian package is at hand."""
INSTEAD = ("sha256sum --check", "tar xf", "sh install.sh")
PASSWORDS = {name: token_hex(24) for name in ("REDIS-PASSWORD", "SERVICE-PASSWORD", "OWNER-PASSWORD")}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Gecko/20100101 Firefox/{number}.0"


class Reader:
    """Who follows a guide: types its blocks, and writes into files what the guide says to write."""

    def __init__(self, machine: Machine, terminal: Terminal) -> None:
        self._root = machine.root
        self._terminal = terminal
        self._instead: tuple[str, ...] = ()

    def follow(self, guide: str) -> None:
        """Do everything in the parts of a guide, in their order."""
        for file, title in PARTS[guide]:
            text = section(DEPLOY / file, title)
            if guide == "package":
                assert f"`{PACKAGE}`" in text
                self._instead = INSTEAD
            for lines in blocks(text):
                self._do(lines)

    def _do(self, lines: list[str]) -> None:
        if lines[0].startswith("FOOTFALL_"):
            self._set(lines)
        elif lines[0].startswith("[sites."):
            self._write("etc/footfall/sites.d/xa-song-may.toml", "\n".join(lines) + "\n")
        else:
            for line in lines:
                self._type(line)

    def _type(self, line: str) -> None:
        """Type a line of the guide, after what its text asks for."""
        if line.startswith("echo 'include"):
            acl = (self._root / "etc/redis/redis-acl.conf").read_text()
            self._write("etc/redis/redis-acl.conf", acl.replace(">CHANGE-ME", f">{PASSWORDS['REDIS-PASSWORD']}"))
        unpacks = line.startswith("tar xf")
        if not line.startswith(self._instead):
            self._terminal.type(line)
        elif unpacks:
            self._terminal.type(PACKAGE)
        if unpacks:
            self._terminal.type("cp ~/fullchain.pem ~/privkey.pem .")

    def _set(self, lines: list[str]) -> None:
        """Give variables of footfall.env these values, in the place of their line in the file."""
        text = (self._root / "etc/footfall/footfall.env").read_text()
        for line in lines:
            name, _, value = line.partition("=")
            for word, password in PASSWORDS.items():
                value = value.replace(word, password)
            text, times = re.subn(rf"^#?{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert times == 1, name
        self._write("etc/footfall/footfall.env", text)

    def _write(self, name: str, text: str) -> None:
        """Write over a file, which keeps its owner and mode; only a file of a portal may be new."""
        file = self._root / name
        assert file.exists() or file.parent.name == "sites.d", name
        file.write_text(text)


class Visitors:
    """Browsers, on the machine's network, that know the authority of its certificate."""

    def __init__(self, machine: Machine, authority: Path) -> None:
        self._machine = machine
        self._curl = ("curl", "--silent", "--show-error", "--fail", "--cacert", str(authority), "--resolve")

    def ask(self, path: str, *words: str) -> str:
        """Ask nginx by TLS, and return the body of the answer."""
        return self._machine.from_outside(*self._curl, f"{NAME}:443:127.0.0.1", *words, f"https://{NAME}{path}")

    def see(self, site: str, browser: int) -> None:
        """Open a page of a portal."""
        agent = BROWSER.format(number=100 + browser)
        words = ("--header", f"Origin: https://{PORTALS[site]}", "--user-agent", agent)
        self.ask("/seen", *words, "--data", json.dumps({"site": site}))

    def numbers(self) -> dict[str, tuple[int, int]]:
        """Return the day's and the whole number of each portal, as pages show them."""
        found = {site: json.loads(self.ask(f"/counts?site={site}")) for site in PORTALS}
        return {site: (counts["today"], counts["total"]) for site, counts in found.items()}


def prepare(folder: Path) -> tuple[Path, Path]:
    """Make the root of a bare Debian with the archive and a certificate in root's home; return it and the authority."""
    root = folder / "root"
    make_root(root, ["systemd", "systemd-sysv", "dbus", "ca-certificates"])
    step("Made a bare Debian 12.")
    command = [sys.executable, "-m", "tests.support.distribution", "--here", "--into", str(folder / "dist")]
    # Debian 12 has Python 3.11; --here makes an archive for the Python that runs this.
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for file in (folder / "dist").glob("footfall[-_]*"):
        (root / "root" / file.name).write_bytes(file.read_bytes())
    return root, name_machine(root, folder)


def name_machine(root: Path, folder: Path) -> Path:
    """Give the machine its public name, and a certificate of an authority that it knows; return the authority."""
    authority = make_authority(folder, "authority")
    certificate = sign(authority, "count", host=NAME)
    (root / "root" / "fullchain.pem").write_bytes(certificate.read_bytes())
    (root / "root" / "privkey.pem").write_bytes(Path(f"{certificate}.key").read_bytes())
    (root / "etc" / "hosts").write_text(f"127.0.0.1 localhost {NAME}\n")
    (root / "usr/local/share/ca-certificates/test.crt").write_bytes(authority.read_bytes())
    subprocess.run(["chroot", str(root), "update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)
    return authority


def packages_of(guide: str) -> list[str]:
    """Return what the guide installs with apt."""
    lines = chain.from_iterable(blocks("".join(section(DEPLOY / file, title) for file, title in PARTS[guide])))
    [words] = [line.split()[2:] for line in lines if line.startswith("apt install ")]
    return words


def answers() -> Iterator[tuple[str, str]]:
    """Yield the questions of the guide's commands, with what its reader answers."""
    for role in ("owner", "service"):
        password = PASSWORDS[f"{role.upper()}-PASSWORD"]
        yield rf"Enter new password for user \"footfall_{role}\": ?$", password
    yield r"Enter it again: ?$", ""
    yield r"Password: ?$", PASSWORDS["OWNER-PASSWORD"]


def outlive(machine: Machine, terminal: Terminal, visitors: Visitors, counted: Mapping[str, tuple[int, int]]) -> None:
    """Restart what can be restarted, ask for what must be refused: the numbers stay."""
    settings = machine.root / "etc/footfall/footfall.toml"
    good = settings.read_text()
    settings.write_text(good.replace("[sites.library]", "[sites.Library!]"))
    status, output = terminal.try_to("systemctl reload footfall")
    assert status != 0, output
    assert visitors.numbers() == counted
    settings.write_text(good)
    terminal.type("systemctl reload footfall")
    step("A reload with a mistake in the settings fails, and changes nothing; the next one succeeds.")
    for name in ("footfall", "redis-server", "postgresql", "nginx"):
        terminal.type(f"systemctl restart {name}")
        until_numbers_are(visitors, counted)
    step("Each service was restarted, and the numbers stayed.")


def until_numbers_are(visitors: Visitors, counted: Mapping[str, tuple[int, int]]) -> None:
    """Ask until all portals show these numbers: after a restart of a store that takes some seconds."""
    found: object = None
    for _ in range(60):
        try:
            found = visitors.numbers()
        except subprocess.CalledProcessError as error:
            found = error.stderr
        if found == counted:
            return
        subprocess.run(["sleep", "1"], check=True)
    raise AssertionError(f"{found} instead of {counted}")


def main(guide: str) -> None:
    """Follow one guide on a machine of its own."""
    need("curl", "debootstrap", "nsenter", "openssl", "systemd-nspawn")
    with tempfile.TemporaryDirectory(prefix="footfall-bare-") as name:
        root, authority = prepare(Path(name))
        fetch_packages(root, packages_of(guide))
        with Machine(root) as machine:
            follow(guide, machine, authority)


def follow(guide: str, machine: Machine, authority: Path) -> None:
    step("systemd-nspawn booted it, without a network.")
    with machine.terminal(dict(answers())) as terminal:
        terminal.type("cd")
        if guide == "operating":
            terminal.type("tar xf footfall-*-linux.tar.gz && cd footfall-*/")
            terminal.type("cp ~/fullchain.pem ~/privkey.pem .")
        Reader(machine, terminal).follow(guide)
        if guide == "operating":
            terminal.type("systemctl reload footfall")
        step(f"Followed {guide} to its end: every command ended with status 0.")
        visitors = Visitors(machine, authority)
        for views, site in enumerate(PORTALS, start=2):
            for browser in range(views):
                visitors.see(site, browser)
        counted = {site: (views, views) for views, site in enumerate(PORTALS, start=2)}
        until_numbers_are(visitors, counted)
        assert __version__ in machine.run("/opt/footfall/bin/footfall", "version")
        step(f"Counted behind nginx with TLS: {counted}")
        outlive(machine, terminal, visitors, counted)
    machine.reboot()
    until_numbers_are(visitors, counted)
    step("After a boot all is there again, with the same numbers.")


if __name__ == "__main__":
    for one in sys.argv[1:] or PARTS:
        main(one)

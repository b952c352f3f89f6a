"""The Debian package: the files of the archive, and at its installation what install.sh does with them."""

import gzip
import shutil
import subprocess
import tempfile
from pathlib import Path

from footfall import __version__

FILES = {
    "deploy/footfall.service": "lib/systemd/system/footfall.service",
    "deploy/footfall.socket": "lib/systemd/system/footfall.socket",
    "completion/footfall.bash": "usr/share/bash-completion/completions/footfall",
    "completion/_footfall": "usr/share/zsh/vendor-completions/_footfall",
    "completion/footfall.fish": "usr/share/fish/vendor_completions.d/footfall.fish",
    "LICENSE": "usr/share/doc/footfall/copyright",
}
CONTROL = f"""Package: footfall
Version: {__version__}
Architecture: all
Depends: python3-venv
Maintainer: the maintainers of Footfall
Description: visitor counter behind a portal's footer
 The program is put into /opt/footfall, from the packages that this one holds. deploy/README.md in
 /usr/share/footfall says how to go on: no settings are made, and nothing is started.
"""
# Of systemd only what a chroot without it can leave out.
POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
    sh /usr/share/footfall/install.sh /opt/footfall
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
"""
PRERM = """#!/bin/sh
set -e
if [ "$1" = remove ]; then
    if [ -d /run/systemd/system ]; then systemctl disable --now footfall.socket footfall.service; fi
    rm -rf /opt/footfall
fi
"""


def make_package(root: Path, package: Path) -> None:
    """Make a package of the unpacked archive in `root`; for any machine that the archive is for."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(root, tree / "usr" / "share" / "footfall")
        for name, place in FILES.items():
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, tree / place)
        (tree / "usr/share/man/man1").mkdir(parents=True)
        (tree / "usr/share/man/man1/footfall.1.gz").write_bytes(
            gzip.compress((root / "man" / "footfall.1").read_bytes(), mtime=0)
        )
        (tree / "usr/bin").mkdir()
        (tree / "usr/bin/footfall").symlink_to("/opt/footfall/bin/footfall")
        (tree / "DEBIAN").mkdir()
        for name, text, mode in (("control", CONTROL, 0o644), ("postinst", POSTINST, 0o755), ("prerm", PRERM, 0o755)):
            (tree / "DEBIAN" / name).write_text(text)
            (tree / "DEBIAN" / name).chmod(mode)
        words = ("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(package))
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

"""The files that pages load, made small: `make script` writes them to `static/built/`, which is what is served.

esbuild turns syntax that is newer than `TARGETS` into older one, and terser makes scripts smaller still. They run where
a developer changes a source, and never on the machine of an operator. `built.json` has the digest of each source, so
that a forgotten `make script` is found where there is no npm.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from tests.support.project import PACKAGE

STATIC = PACKAGE / "static"
BUILT = STATIC / "built"
DIGESTS = BUILT / "built.json"
PACKAGES = Path(sys.prefix, "npm", "node_modules")
ESBUILD = PACKAGES / "esbuild" / "bin" / "esbuild"
TERSER = PACKAGES / "terser" / "bin" / "terser"
TARGETS = {"footfall.js": "es2017", "footfall-old.js": "es5", "busuanzi.js": "es2017", "footfall.css": "chrome61"}
"""The oldest syntax that a file may have: browsers that know modules (nomodule) read ES2017."""


def digests() -> dict[str, str]:
    """Return the digest of each source."""
    return {name: hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16] for name in TARGETS}


def build(name: str) -> str:
    """Return the small form of a source."""
    text = _run(ESBUILD, "--minify", "--charset=utf8", f"--target={TARGETS[name]}", STATIC / name)
    return _run(TERSER, "--compress", "passes=3", "--mangle", sent=text) if name.endswith(".js") else text


def _run(*command: str | Path, sent: str = "") -> str:
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", input=sent).stdout.rstrip("\n")


if __name__ == "__main__":
    if not ESBUILD.exists():
        sys.exit("esbuild is not here: make test installs it, where there is npm")
    BUILT.mkdir(exist_ok=True)
    for source in TARGETS:
        (BUILT / source).write_text(build(source), encoding="utf-8")
    DIGESTS.write_text(json.dumps(digests(), indent=2) + "\n")

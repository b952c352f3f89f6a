"""Where settings are written: the TOML file and the environment, read without a check of their values.

The environment is a parameter, so that settings depend on nothing else.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from footfall.settings.messages import did_you_mean, full_stop

PREFIX = "FOOTFALL_"
CONFIG_VARIABLE = "FOOTFALL_CONFIG"
DEFAULT_FILE = Path("footfall.toml")
SITES_FOLDER = "sites.d"

OPTIONS = {"embedded": "--embedded"}
"""What is said on the command line only."""
TABLES = ("SITES", "LIMITS")

# Kubernetes and Docker set these variables for a service named footfall or footfall-something.
PLATFORM_VARIABLE = re.compile(
    r"FOOTFALL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


def settings_file(environ: Mapping[str, str]) -> Path | None:
    """Return the file that FOOTFALL_CONFIG names, else ./footfall.toml if it exists, else None."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_toml(file: Path, problems: list[str]) -> dict[str, Any] | None:
    """Return the tables of `file`; where it cannot be read, add to `problems` and return None."""
    try:
        # Editors on Windows begin a file with a byte-order mark, which TOML does not allow; utf-8-sig drops it.
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror}); FOOTFALL_CONFIG names the file.")
    except UnicodeDecodeError:
        problems.append(f"{file}: is not UTF-8 text; save it as UTF-8.")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file}: is not TOML: {error}.")
    return None


def read_sites(file: Path, tables: dict[str, Any], problems: list[str]) -> dict[str, Path]:
    """Add the tables `[sites.…]` of the files `sites.d/*.toml` beside `file`; return the file of each such site."""
    own = tables.get("sites", {})
    if not isinstance(own, dict):
        return {}  # validation reports it
    found: dict[str, Path] = {}
    for part in sorted(file.parent.glob(f"{SITES_FOLDER}/*.toml")):
        read = read_toml(part, problems) or {}
        sites = read.pop("sites", {})
        if read or not isinstance(sites, dict):
            problems.append(f"{part}: must have tables such as [sites.portal] alone; all else stands in {file.name}.")
            continue
        for site, table in sites.items():
            if site in own or site in found:
                problems.append(f"sites.{site} ({part}): stands in {found.get(site, file)} already; keep one of them.")
            else:
                found[site] = part
                tables["sites"] = tables.get("sites", {}) | {site: table}
    return found


def read_environment(
    environ: Mapping[str, str], known: Mapping[str, str], in_files: Mapping[str, str], problems: list[str]
) -> dict[str, str]:
    """Return the values that variables give, by setting; `known` and `in_files` map a variable to its setting.

    An empty variable counts as unset: compose files pass unset variables on as empty ones. An unknown variable
    with our prefix is a problem, because it is probably a known one misspelt.
    """
    values: dict[str, str] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or not text.strip() or variable == CONFIG_VARIABLE:
            continue
        if variable in known:
            values[known[variable]] = text
        elif variable in in_files:
            if environ.get(plain := variable.removesuffix("_FILE"), "").strip():
                problems.append(f"{variable}: is given together with {plain}; keep one of them.")
            elif secret := _read_secret(variable, text, problems):
                values[in_files[variable]] = secret
        elif not PLATFORM_VARIABLE.fullmatch(variable):
            hint = _hint(variable, [*known, *in_files, CONFIG_VARIABLE])
            problems.append(full_stop(f"{variable}: is not a setting of Footfall{hint}"))
    return values


def _hint(variable: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about a variable that does not exist."""
    name = variable.removeprefix(PREFIX)
    if option := OPTIONS.get(name.lower()):
        return f"; give footfall serve the option {option}"
    if table := next((table for table in TABLES if name.startswith(table)), ""):
        return f"; the table {table.lower()} stands in footfall.toml only"
    # Without the prefix: ten equal letters would make any two variables alike.
    near = did_you_mean(name, {known_one.removeprefix(PREFIX): "" for known_one in known})
    return near.replace("did you mean ", f"did you mean {PREFIX}") or "; remove or correct it"


def _read_secret(variable: str, path: str, problems: list[str]) -> str | None:
    # The sentences do not show the path: an operator may have put the secret itself here.
    try:
        secret = Path(path.strip()).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.append(f"{variable}: the file that it names cannot be read ({why}).")
        return None
    if not secret:
        problems.append(f"{variable}: the file that it names is empty.")
    return secret

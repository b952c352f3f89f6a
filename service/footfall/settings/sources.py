"""Where settings are written: the TOML file and the environment, read as they are and not yet checked.

Only the mapping that is passed in is read, never the process environment: settings are a pure function.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from footfall.settings.messages import did_you_mean, full_stop

PREFIX = "FOOTFALL_"
CONFIG_VARIABLE = "FOOTFALL_CONFIG"
DEFAULT_FILE = Path("footfall.toml")

# Kubernetes and Docker set these by themselves for a service that is called footfall, or footfall-something.
PLATFORM_VARIABLE = re.compile(
    r"FOOTFALL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


def settings_file(environ: Mapping[str, str]) -> Path | None:
    """The file that FOOTFALL_CONFIG names, else ./footfall.toml if it is there."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_toml(file: Path, problems: list[str]) -> dict[str, Any] | None:
    """The tables of `file`; None, and a problem told, if it cannot be read."""
    try:
        # Editors on Windows begin a file with a mark that TOML does not know: utf-8-sig drops it.
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror}); FOOTFALL_CONFIG names the file.")
    except UnicodeDecodeError:
        problems.append(f"{file}: is not UTF-8 text; save it as UTF-8.")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{file}: is not TOML: {error}.")
    return None


def read_environment(
    environ: Mapping[str, str], known: Mapping[str, str], in_files: Mapping[str, str], problems: list[str]
) -> dict[str, str]:
    """The settings that variables give, by setting; `known` and `in_files` map a variable to its setting.

    An empty variable is one that is not set: compose files pass them on that way. A variable of ours that
    nobody knows is a problem, because it is a known one misspelt.
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
            hint = did_you_mean(variable, [*known, *in_files, CONFIG_VARIABLE]) or "; remove or correct it"
            problems.append(full_stop(f"{variable}: is not a setting of Footfall{hint}"))
    return values


def _read_secret(variable: str, path: str, problems: list[str]) -> str | None:
    # The path is not shown: whoever puts the secret itself here would find it in the log.
    try:
        secret = Path(path.strip()).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.append(f"{variable}: the file that it names cannot be read ({why}).")
        return None
    if not secret:
        problems.append(f"{variable}: the file that it names is empty.")
    return secret

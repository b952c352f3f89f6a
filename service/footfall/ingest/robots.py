"""Robots, by their user agent and the maintained list of the package crawler-user-agents.

The list has some 1,500 patterns, and trying one after another takes a few hundred microseconds. Nearly all are plain
words: these become one trie, written as a regular expression. The few real expressions follow. The answer for each user
agent is remembered.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

from footfall.ingest.visitor import USER_AGENT_MAX_CHARS

PACKAGE = "crawler-user-agents"
LIST = "crawleruseragents/crawler-user-agents.json"
REMEMBERED_MAX = 10_000

OWN_WORDS = (
    *("bot/", "Bot/", "bot;", "Bot;", "bot)", "Bot)", "crawl", "Crawl", "spider", "Spider", "scraper", "Scraper"),
    *("http://", "https://", "mailto:", "subscribers"),
    *("monitor", "Monitor", "Synthetic", "HealthCheck", "Health Check", "Health-Check", "Observatory", "TagInspector"),
    *("kube-probe", "GoogleHC", "Google-", "Thumbnails", "Validator", "Checker", "Scanner/", "scanner.", "LinkPreview"),
)
"""What robots that are not on the list yet call themselves, and the beginning of an address about them.

"bot" alone would be too short: it is in the names of telephones (CUBOT).
"""

OWN_SHAPES = (
    # A program's name, with or without a version, and nothing else: a browser says more of itself than that.
    r"^(?!iP(?:hone|ad|od)|DoCoMo/|smarttv_|Dillo/)[\w.:@-]+(?:/[\w.-]*)?$",
    # A mail address; some browsers write a version after the sign.
    r"\w@[\w-]+\.[a-z]{2}",
    # A name that is no old browser's, where only robots still write one.
    r"^Mozilla/5\.0 \(compatible(?:\)|; (?!MSIE|Konqueror|IBrowse|Linux|U;|ANTGalio)[\w-]+[/;)])",
)

CORRECTIONS: Mapping[str, str | None] = {
    # Patterns that find browsers of people: taken out (None), or narrowed to what the robot sends.
    r"AP3A\.240617\.008": None,  # the build number of Android 15 on many makers' telephones
    "Fluid": None,  # a browser for one site each, on a Mac
    "MetaIAB Facebook": None,  # the browser inside the Facebook app
    "Sogou": None,  # also a browser; its robots call themselves spiders, which OWN_WORDS finds
    # Words of which the names of telephones are made.
    r"008\/": r"^008\/",
    "Butterfly": r"Butterfly\/",
    "Expanse": "^Expanse",
    "Fever": r"^Fever\/",
    "Sonic": r"Sonic(?:SiteAuditor)?\/",
    r"Tumblr\/": r"^Tumblr\/",  # elsewhere than at the start: the browser inside the app
    "Viber": "^Viber",
}

PHONE = re.compile(r"\((?=[^()]{0,30}\bAndroid\b)(?:(?!-Google/)[^()]|\([^()]*\)){0,300}?(?=; wv\)|\))")
"""The part of a user agent in which an Android telephone is named; a name may hold parentheses: Moto G (4)."""

EMBEDDED_BROWSER = "http://bsalsa.com/"
"""The address of a component with which programs of Windows show pages, in the user agents of people."""


class _Expressions(NamedTuple):
    """The words of robots, what they begin with, and what stands anywhere in their user agents."""

    words: re.Pattern[str]
    starts: re.Pattern[str]
    """Apart, because a search would try them at every character, and not only at the start."""
    shapes: re.Pattern[str]


class Robots:
    """Tells robots from people by their user agent."""

    def __init__(self, patterns: Iterable[str] | None = None) -> None:
        self._expressions = compile_list() if patterns is None else _compiled(patterns)
        self._is_listed_cached = lru_cache(REMEMBERED_MAX)(self._is_listed)

    def is_robot(self, user_agent: str) -> bool:
        """Return whether the first 512 characters of a user agent are a robot's.

        An empty one is: the browser of a person always sends a user agent.
        """
        return not user_agent or self._is_listed_cached(user_agent[:USER_AGENT_MAX_CHARS])

    def _is_listed(self, user_agent: str) -> bool:
        named = PHONE.sub("(", user_agent, count=1).replace(EMBEDDED_BROWSER, "")
        words, starts, shapes = self._expressions
        return bool(not named.strip() or words.search(named) or starts.match(named) or shapes.search(named))


@cache
def compile_list() -> _Expressions:
    """Return the expressions of the list and of `OWN_SHAPES`, compiled once in a process."""
    return _compiled([*listed_patterns(), *OWN_SHAPES])


def listed_patterns() -> Iterator[str]:
    """Yield the patterns of the list, with our corrections.

    The list is read from its file: imported, the package keeps all that it says of each robot, 1.5 MB.
    """
    file = distribution(PACKAGE).locate_file(LIST)
    entries: list[dict[str, Any]] = json.loads(Path(str(file)).read_bytes())
    for entry in entries:
        pattern: str = entry["pattern"]
        corrected = CORRECTIONS.get(pattern, pattern)
        if corrected is not None:
            yield corrected


def plain_word(pattern: str) -> str | None:
    r"""Return the text that a pattern finds if it finds only that text, else None.

    >>> plain_word(r"Googlebot\/"), plain_word("[wW]get"), plain_word(r"\d+bot")
    ('Googlebot/', None, None)
    """
    # Escaped punctuation is plain; the backslash of a class such as \d stays, and is found.
    if re.search(r"[\\^$.|?*+()\[\]{}]", re.sub(r"\\\W", "", pattern)):
        return None
    return re.sub(r"\\(.)", r"\1", pattern)


def _compiled(patterns: Iterable[str]) -> _Expressions:
    patterns = list(patterns)
    words = {word for pattern in patterns if (word := plain_word(pattern)) is not None}
    shapes = [pattern for pattern in patterns if plain_word(pattern) is None]
    return _Expressions(
        words=re.compile(_trie(words.union(OWN_WORDS))),
        starts=re.compile(_any_of(shape for shape in shapes if shape.startswith("^"))),
        shapes=re.compile(_any_of(shape for shape in shapes if not shape.startswith("^"))),
    )


def _any_of(patterns: Iterable[str]) -> str:
    # An empty alternation finds everything; (?!) finds nothing.
    return "|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)"


def _trie(words: Iterable[str]) -> str:
    """Return a regular expression that finds any of `words`, and tries each character once per position."""
    root: dict[str, Any] = {}
    for word in words:
        node = root
        for character in word:
            node = node.setdefault(character, {})
        node[""] = {}
    return _branch(root)


def _branch(node: Mapping[str, Any]) -> str:
    if "" in node:
        return ""  # a word ends here: its longer forms contain it
    branches = [re.escape(character) + _branch(below) for character, below in sorted(node.items())]
    return branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"

"""The form of a log line: text for people, JSON for programs; for systemd's journal with its priority."""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TextIO

from footfall.plain_text import one_line, without_escapes

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""The journal's priorities (sd-daemon(3))."""
FIELD = re.compile(r"(\w+)=(%[-+#0]*[\d.]*[a-zA-Z])")
PLACEHOLDER = re.compile(r"(?<!%)(?:%%)*(%[-+#0]*[\d.]*[a-zA-Z])")


class LineFormatter(logging.Formatter):
    """Formats a record as one line without control characters; in text its traceback follows on lines of its own."""

    def __init__(self, log_format: LogFormat = "text", *, is_journal: bool = False) -> None:
        super().__init__()
        self.as_json = log_format == "json"
        self._is_journal = is_journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; for the journal, each of its lines begins with the priority, and the time is left out."""
        text = self._json(record) if self.as_json else self._text(record)
        if not self._is_journal:
            return text
        priority = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return priority + text.replace("\n", f"\n{priority}")

    def formatException(self, ei: object) -> str:  # noqa: N802 (the name is logging's)
        """Return the traceback."""
        return without_escapes(super().formatException(ei))  # type: ignore[arg-type]

    def _text(self, record: logging.LogRecord) -> str:
        line = one_line(f"{record.levelname} {record.name}: {record.getMessage()}")
        line = line if self._is_journal else f"{_moment(record)} {line}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def _json(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            "fields": dict(_fields(record)),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True)


def start_logging(log_format: LogFormat = "text", log_level: LogLevel = "info") -> None:
    """Log one line per event to standard error, from now on in this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(log_format, is_journal=is_journal(sys.stderr, os.environ)))
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=log_level.upper(), handlers=[handler], force=True)


def write_at_once(text: str, stream: TextIO) -> None:
    """Write a text that has its line end; `print` may write that apart, and a worker's line comes between."""
    stream.write(text)
    stream.flush()


def logs_json() -> bool:
    """Return whether the log of this process is JSON."""
    return any(isinstance(each.formatter, LineFormatter) and each.formatter.as_json for each in logging.root.handlers)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is connected to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    """Return the values that the sentence gives as `key=value`: numbers as numbers, all else as text."""
    places = {match.start(1): number for number, match in enumerate(PLACEHOLDER.finditer(str(record.msg)))}
    if not isinstance(record.args, tuple) or len(places) != len(record.args):
        return []
    values = [(match[1], match[2], record.args[places[match.start(2)]]) for match in FIELD.finditer(str(record.msg))]
    return [(key, value if isinstance(value, int | float) else spec % (value,)) for key, spec, value in values]

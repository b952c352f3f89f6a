"""The form of a log line: for people, for programs, and for systemd's journal."""

import json
import logging
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from footfall.log_lines import LineFormatter, is_journal


def record(message: str = "failed.", *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    """Return a record of the logger `footfall`."""
    return logging.LogRecord("footfall", level, "", 0, message, args, None)


def with_traceback(made: logging.LogRecord) -> logging.LogRecord:
    """Return the record of a fault whose text steers a terminal."""
    try:
        raise RuntimeError("\x1b[2J\nforged")
    except RuntimeError:
        made.exc_info = sys.exc_info()
    return made


def test_log_lines_hold_no_escapes() -> None:
    """Operators read logs in terminals, and errors of stores repeat stored text."""
    line = LineFormatter().format(record("failed. error=%s", "\x1b[2J\nforged"))
    assert line.endswith(" ERROR footfall: failed. error=\\x1b[2J\\nforged")
    assert "\x1b" not in LineFormatter().format(with_traceback(record()))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_says_when_in_which_zone(log_format: str) -> None:
    """Lines of two hosts are laid side by side; a time without zone is seven hours off in one of them."""
    made = record()
    line = LineFormatter("json" if log_format == "json" else "text").format(made)
    moment = json.loads(line)["time"] if log_format == "json" else line.split()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", moment)
    assert abs(datetime.fromisoformat(moment).timestamp() - made.created) <= timedelta(milliseconds=1).total_seconds()


def test_json_has_the_values_of_a_line_as_fields() -> None:
    """A program searches for the site, not for a piece of a sentence."""
    made = record("Sites fail; %d %% of them. sites=%s times=%d after_s=%.0f", 9, "a,b\n", 3, 4.6)
    fields = json.loads(LineFormatter("json").format(made))
    assert fields["fields"] == {"sites": "a,b\n", "times": 3, "after_s": 4.6}
    assert fields["message"] == "Sites fail; 9 % of them. sites=a,b\n times=3 after_s=5"
    assert (fields["level"], fields["logger"], fields["pid"]) == ("error", "footfall", os.getpid())


@pytest.mark.parametrize("args", [(), ({"a": 1},), ("x",)])
def test_json_takes_the_records_of_other_libraries(args: tuple[object, ...]) -> None:
    """asyncio and aiohttp log in their own way, and a line must never be lost in its formatting."""
    messages = {0: "no value=%s here", 1: "%(a)s" if args and isinstance(args[0], dict) else "%s"}
    line = LineFormatter("json").format(with_traceback(record(messages[len(args)], *args)))
    assert "\n" not in line
    assert "RuntimeError" in json.loads(line)["traceback"]


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_the_journal_gets_a_priority_and_no_second_time(level: int, priority: int) -> None:
    """`journalctl -p err` finds what matters, its traceback too, and the journal has a time of its own."""
    made = with_traceback(record(level=level))
    lines = LineFormatter(is_journal=True).format(made).splitlines()
    assert lines[0] == f"<{priority}>{made.levelname} footfall: failed."
    assert len(lines) > 3
    assert all(line.startswith(f"<{priority}>") for line in lines)


def test_only_the_stream_that_systemd_names_is_the_journal() -> None:
    """A service's standard error may be redirected into a file, which keeps no priorities."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    with os.fdopen(reader), os.fdopen(writer, "w") as stream:
        assert is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not is_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not is_journal(stream, {})


def test_a_failed_start_is_an_error_in_the_journal() -> None:
    """It is the line that an operator looks for, and `journalctl -p err` must show it."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FOOTFALL_")}
    journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}", "FOOTFALL_LISTN": "x"}
    command = [sys.executable, "-m", "footfall", "serve"]
    with os.fdopen(reader) as printed:
        done = subprocess.run(command, stderr=writer, env=inherited | journal, check=False, timeout=50)
        os.close(writer)
        lines = printed.read().splitlines()
    assert done.returncode == 2
    assert lines[0] == "<3>footfall: FOOTFALL_LISTN: is not a setting of Footfall; did you mean FOOTFALL_LISTEN?"
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize("sentence", ['terminal.say("ready")', 'terminal.complain("failed")', "serve._tell('ready')"])
def test_a_sentence_is_one_write(sentence: str) -> None:
    """Parent and workers share an output: a line that is written in two parts has another's line between them."""
    packets, output = os.pipe2(os.O_DIRECT)  # each read returns what one write brought
    program = f"from footfall.cli import terminal; from footfall.process import serve; {sentence}"
    unbuffered = os.environ | {"PYTHONUNBUFFERED": "1"}
    with os.fdopen(packets, "rb", buffering=0) as reader:
        subprocess.run([sys.executable, "-c", program], env=unbuffered, stdout=output, stderr=output, check=True)
        os.close(output)
        written = list(iter(lambda: reader.read(4096), b""))
    assert [part.count(b"\n") for part in written] == [1], written

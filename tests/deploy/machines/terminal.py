"""A shell on a terminal, typed into line by line, as a person does who follows a guide."""

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Self

PROMPT = re.compile(r"<<(\d+)>> $")
TIMEOUT_S = 300
LOOK_EVERY_S = 0.5


class Terminal:
    """A bash on a pseudo-terminal.

    `answers` has what a person answers to a question: a pattern, and a text, which is empty for the former one again.
    """

    def __init__(self, command: Sequence[str], answers: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        environ = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/root", "LANG": "C.UTF-8", "PS1": "<<$?>> "}
        words = [*command, "bash", "--norc", "--noprofile", "--noediting"]
        self._process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=environ, start_new_session=True
        )
        os.close(slave)
        self._said = ""
        self._answers = {re.compile(pattern): text for pattern, text in answers.items()}
        self._wait()

    def type(self, line: str) -> str:
        """Type a line, wait until its command has ended, and return what it printed; fail where its status is not 0."""
        status, output = self.try_to(line)
        assert status == 0, f"status {status}: {line}\n{output}"
        return output

    def try_to(self, line: str) -> tuple[int, str]:
        """Type a line, and return the status of its command and what it printed."""
        os.write(self._master, f"{line}\n".encode())
        status, output = self._wait()
        return status, output.partition("\n")[2]

    def _wait(self) -> tuple[int, str]:
        """Read until the prompt, answering questions; return the status in the prompt, and what stood before it."""
        seen = waiting = ""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            if not select.select([self._master], [], [], LOOK_EVERY_S)[0]:
                continue
            text = os.read(self._master, 65536).decode("utf-8", "replace").replace("\r", "")
            seen += text
            waiting += text
            if found := PROMPT.search(seen):
                return int(found[1]), seen[: found.start()]
            for question, answer in self._answers.items():
                if question.search(waiting):
                    self._said = answer or self._said
                    os.write(self._master, f"{self._said}\n".encode())
                    waiting = ""
        raise AssertionError(f"no prompt after {TIMEOUT_S} s:\n{seen}")

    def close(self) -> None:
        """Hang up."""
        os.close(self._master)
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""Every refusal and failure, declared once: a word for machines, a sentence for people."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a request was refused or a beacon not counted.

    The same word is the `error` of the JSON answer, the metric label and the log field. A member is that word; its
    `value` is a function in Python, until 3.12, and refused beacons come in floods.
    """

    BAD_JSON = "bad_json"
    BAD_FIELD = "bad_field"
    BAD_REQUEST = "bad_request"
    WRONG_ORIGIN = "wrong_origin"
    NO_ORIGIN = "no_origin"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_SITE = "unknown_site"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    WRONG_HOST = "wrong_host"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    NOT_READY = "not_ready"
    SPOOL_FULL = "spool_full"
    INTERNAL = "internal"
    TRANSFER_CODING = "transfer_coding"
    HTTP_VERSION = "http_version"

    # Ignored: answered like a counted beacon, counted nowhere.
    ROBOT = "robot"
    PREFETCH = "prefetch"
    OPT_OUT = "opt_out"
    EXCLUDED = "excluded"
    FRAMED = "framed"

    __hash__ = str.__hash__  # an enum's own is a function in Python, and a refusal looks its reason up five times


STATUS = {
    Reason.BAD_JSON: 400,
    Reason.BAD_FIELD: 400,
    Reason.BAD_REQUEST: 400,
    Reason.UNAUTHORIZED: 401,
    Reason.WRONG_ORIGIN: 403,
    Reason.NO_ORIGIN: 403,
    Reason.UNKNOWN_SITE: 404,
    Reason.NOT_FOUND: 404,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.TIMEOUT: 408,
    Reason.TOO_LARGE: 413,
    Reason.WRONG_HOST: 421,
    Reason.RATE_LIMITED: 429,
    Reason.INTERNAL: 500,
    Reason.TRANSFER_CODING: 501,
    Reason.BUSY: 503,
    Reason.NOT_READY: 503,
    Reason.SPOOL_FULL: 503,
    Reason.HTTP_VERSION: 505,
}

RETRY_AFTER_S = {Reason.RATE_LIMITED: 10, Reason.BUSY: 1, Reason.NOT_READY: 5, Reason.SPOOL_FULL: 10}
"""Default `Retry-After` of every 429 and 503; the raiser may know a better time."""


class Refused(Exception):
    """A request that gets an error as its answer, with a sentence for its author if any; nothing of it was stored."""

    def __init__(self, reason: Reason, retry_after_s: int | None = None, sentence: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.sentence = sentence
        self.retry_after_s = retry_after_s if retry_after_s is not None else RETRY_AFTER_S.get(reason)

    @property
    def status(self) -> int:
        """Return the HTTP status of the reason."""
        return STATUS[self.reason]


class StoreUnavailable(Exception):
    """Redis, Postgres or the spool failed a request or answered too late; a late request may still take effect."""

    def __init__(self, store: str, sentence: str) -> None:
        super().__init__(f"{store}: {sentence}")
        self.store = store
        self.sentence = sentence


class StoreRefused(StoreUnavailable):
    """The store answered that it does not take a request of several parts; another part alone may be taken."""


class StoreBusy(StoreUnavailable):
    """Another transaction holds the same rows; the store changed nothing, and the next attempt may succeed."""


class StoreDamaged(StoreUnavailable):
    """The store cannot read its own data of a site; another attempt does not help."""


class StoreMistaken(StoreUnavailable):
    """Another kind of server answers than the URL says; only another URL helps."""


class Stop(Exception):
    """A command cannot continue: one sentence for the person who typed it, and the exit status."""

    def __init__(self, sentence: str, status: int = 2) -> None:
        super().__init__(sentence)
        self.status = status


class SettingsError(Stop):
    """The settings cannot be used; every problem is listed, not only the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

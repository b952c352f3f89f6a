"""The form that asks for the token of reports, what is sent with it, and the cookie that remembers it."""

from typing import NamedTuple
from urllib.parse import parse_qs

from aiohttp import web

from footfall.errors import Reason, Refused
from footfall.http.body import read_body
from footfall.http.report_answers import REPORT_HEADERS
from footfall.http.report_query import address_of_report
from footfall.http.responses import Reply, lines

BY_COOKIE = web.RequestKey("by_cookie", bool)
"""Whether a cookie opened the report, so that its reader can take the cookie back."""


class Form(NamedTuple):
    """What a person entered."""

    token: str
    leaves: bool
    """Whether the person wants to log out."""


class ReportCookie(NamedTuple):
    """A cookie that opens reports until the browser is closed; no script and no request of another site can use it."""

    name: str
    path: str
    is_secure: bool

    def ended(self) -> str:
        """Return the header that makes a browser forget the cookie."""
        return f"{self.name}=; Max-Age=0; {self._rules()}"

    def with_value(self, value: str) -> str:
        """Return the header that sets the cookie."""
        return f"{self.name}={value}; {self._rules()}"

    def _rules(self) -> str:
        return f"Path={self.path}; HttpOnly; SameSite=Strict{'; Secure' if self.is_secure else ''}"


async def read_form(request: web.Request) -> Form:
    """Return what was entered; raises Refused(WRONG_ORIGIN) where a page of another site sent it, and as read_body."""
    # Browsers that do not send this header are old; theirs is the limit of guesses.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Refused(Reason.WRONG_ORIGIN)
    fields = parse_qs((await read_body(request)).decode(errors="replace"))
    return Form(fields.get("token", [""])[0].strip(), "leave" in fields)


def to_report(request: web.Request, cookie: str = "") -> Reply:
    """Lead to the report that was asked for; `cookie` is the header that sets or ends one."""
    headers = {"Location": address_of_report(request)}
    if cookie:
        headers["Set-Cookie"] = cookie
    return Reply(303, lines(headers, REPORT_HEADERS))

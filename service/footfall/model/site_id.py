"""The id of a site: part of keys in Redis, of rows in Postgres and of every beacon."""

import re
from typing import NewType

SiteId = NewType("SiteId", str)
"""A checked id, such as `SiteId("portal")`; its settings are a `Site`."""

SITE_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Short and plain, because keys and URLs carry it."""

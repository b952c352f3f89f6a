"""The contract: what it says is what the whole app answers, and what the app answers it says."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.errors import STATUS, Reason
from tests.footfall import BROWSER, ORIGIN, SITE, Footfall, running, settings_for
from tests.openapi import SERVED, as_json, read_contract

CONTRACT = read_contract()
OPERATIONS = [found.ok() for found in CONTRACT.get_all_operations()]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ELSEWHERE = {Reason.UNAUTHORIZED, Reason.NOT_FOUND, Reason.METHOD_NOT_ALLOWED}
"""Not of an operation: of the ops listener, or of what is no operation."""
EXAMPLES = 40


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    async with running(settings_for(redis_url, postgres_url, tmp_path, limits={"enabled": False})) as footfall:
        await footfall.see()
        yield footfall


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
async def test_every_answer_is_one_that_the_contract_names(
    footfall: Footfall, operation: APIOperation, mode: GenerationMode
) -> None:
    """Requests as the contract describes them, and requests against it, with a page of the portal as their sender."""
    url = str(footfall.public.make_url("")).rstrip("/")
    sender = {"Origin": ORIGIN, "User-Agent": BROWSER}

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        # Half of the cases on a site that exists; no generator would find its name.
        if case.query.get("site") and case.id[-1] in "abcdef02":
            case.query["site"] = SITE
        case.call_and_validate(base_url=url, headers=sender, checks=CHECKS)

    await asyncio.to_thread(ask)

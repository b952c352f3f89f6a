"""The contract: what it says is what the whole app answers, and what the app answers it says."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, CheckFunction, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from footfall.errors import STATUS, Reason
from tests.support.footfall import BROWSER, HOST, ORIGIN, SITE, Footfall, running, settings_for
from tests.support.openapi import SERVED, as_json, read_contract

CONTRACT = read_contract()
OPERATIONS = [found.ok() for found in CONTRACT.get_all_operations() if isinstance(found, Ok)]


def readable_by_any_page(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """Refusals and 304 too, but no report; and no answer says what runs here, or lets a browser guess its type."""
    is_report = case.path.startswith("/reports/")
    assert response.headers.get("access-control-allow-origin") == (None if is_report else ["*"]), case
    assert response.headers["x-content-type-options"] == ["nosniff"], case
    assert "server" not in response.headers, case


CHECKS: list[CheckFunction] = [
    readable_by_any_page,
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ELSEWHERE = {
    *(Reason.WRONG_HOST, Reason.METHOD_NOT_ALLOWED),
    *(Reason.HTTP_VERSION, Reason.TRANSFER_CODING),
}
"""Not of an operation: of the ops listener, or of what is no operation."""
EXAMPLES = 25


@pytest.fixture
async def footfall(redis_url: str, postgres_url: str, tmp_path: Path) -> AsyncIterator[Footfall]:
    sites = {
        SITE: {"name": "Cổng thử", "hosts": [HOST], "reports": "public"},
        "closed": {"name": "Cổng kín", "hosts": ["other.example.vn"], "reports": "token"},
    }
    settings = settings_for(redis_url, postgres_url, tmp_path, limits={"enabled": False}, sites=sites)
    async with running(settings) as footfall:
        await footfall.see()
        yield footfall


@pytest.mark.parametrize("mode", GenerationMode)
async def test_every_answer_is_one_that_the_contract_names(footfall: Footfall, mode: GenerationMode) -> None:
    """Requests as the contract describes them and requests against it, of strangers and of the portal's own pages."""
    url = str(footfall.public.make_url("")).rstrip("/")
    asked = [operation for operation in OPERATIONS if mode is GenerationMode.POSITIVE or _can_be_wrong(operation)]
    for operation in asked:
        await asyncio.to_thread(_ask, operation, mode, url)


def _can_be_wrong(operation: APIOperation[Any, Any, Any, Any]) -> bool:
    return bool(operation.body or operation.query)


def _ask(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, url: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), to_portal=st.booleans(), from_portal=st.booleans())
    def ask(case: Case[Any], to_portal: bool, from_portal: bool) -> None:
        # What no generator would find.
        if from_portal:
            case.headers.update({"Origin": ORIGIN, "User-Agent": BROWSER})
        if to_portal:
            for fields in (case.query, case.body, case.path_parameters):
                if isinstance(fields, dict) and "site" in fields:
                    fields["site"] = SITE
        case.call_and_validate(base_url=url, checks=CHECKS)

    ask()


def test_the_contract_is_valid_for_a_validator_that_is_not_ours() -> None:
    """It is OpenAPI 3.1 by the published schema; tools that generate clients refuse anything else."""
    CONTRACT.validate()


def test_no_comma_of_a_sentence_has_become_a_key() -> None:
    """In `{description: a, b}` YAML makes `b` a key, which the published schema allows nearly everywhere."""
    assert [key for key in _keys(CONTRACT.raw_schema) if " " in key] == []


def _keys(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(part, list):
        for value in part:
            yield from _keys(value)


def test_the_contract_names_every_reason_with_its_status() -> None:
    """A webmaster who reads a word in an answer looks for it there."""
    described: set[tuple[int, str]] = set()
    ignored: set[str] = set()
    for _, _, operation in _operations(CONTRACT.raw_schema):
        for status, response in operation["responses"].items():
            content = _resolved(response).get("content", {}).get("application/json", {})
            words = content.get("schema", {}).get("properties", {}).get("error", {}).get("enum", [])
            described |= {(int(status), word) for word in words}
            if header := _resolved(response).get("headers", {}).get("Footfall-Ignored"):
                ignored |= set(_resolved(header)["schema"]["enum"])
    assert described == {(status, reason.value) for reason, status in STATUS.items() if reason not in ELSEWHERE}
    assert ignored == {reason.value for reason in Reason if reason not in STATUS}


def test_the_contract_names_every_route(footfall: Footfall) -> None:
    """A route that the contract does not describe may change unnoticed."""
    described = {(path, method.upper()) for path, method, _ in _operations(CONTRACT.raw_schema)}
    routes = footfall.public.server.app.router.routes()  # type: ignore[attr-defined]
    assert described == {(route.resource.canonical, route.method) for route in routes if route.resource}


async def test_the_numbers_have_the_fields_of_the_contract_and_no_others(footfall: Footfall) -> None:
    """`additionalProperties` is open for the future; today both have the same."""
    described = CONTRACT.raw_schema["components"]["schemas"]["Counts"]
    answered = set(await footfall.counts())
    assert answered == set(described["required"])
    assert set(described["properties"]) - answered == {"labels", "words", "show", "pages"}


async def test_the_contract_is_served_as_it_is_written(footfall: Footfall) -> None:
    """After a change of openapi.yaml: python -m tests.support.openapi"""
    assert SERVED.read_text(encoding="utf-8") == as_json(CONTRACT)
    response = await footfall.public.get("/openapi.json")
    assert response.content_type == "application/json"
    assert await response.json() == CONTRACT.raw_schema


def _operations(contract: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    if "$ref" not in part:
        return part
    found: Any = CONTRACT.raw_schema
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return cast("dict[str, Any]", found)

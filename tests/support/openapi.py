"""Makes the served contract from the written one: python -m tests.support.openapi"""

import json
from pathlib import Path

import schemathesis
from schemathesis.schemas import BaseSchema

from footfall.http.assets import STATIC

WRITTEN, SERVED = STATIC / "openapi.yaml", STATIC / "openapi.json"


def read_contract(path: Path = WRITTEN) -> BaseSchema:
    """Return the contract, ready for its tests."""
    return schemathesis.openapi.from_path(path)


def as_json(contract: BaseSchema) -> str:
    """Return the contract in the form that Footfall serves."""
    return json.dumps(contract.raw_schema, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    SERVED.write_text(as_json(read_contract()), encoding="utf-8")

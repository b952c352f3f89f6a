"""Makes the contract that is served from the one that is written: python -m tests.support.openapi"""

import json
from pathlib import Path

import schemathesis
from schemathesis.schemas import BaseSchema

from footfall.http.assets import STATIC

WRITTEN, SERVED = STATIC / "openapi.yaml", STATIC / "openapi.json"


def read_contract(path: Path = WRITTEN) -> BaseSchema:
    """The contract, ready to be tested."""
    return schemathesis.openapi.from_path(path)


def as_json(contract: BaseSchema) -> str:
    """The contract as it is served."""
    return json.dumps(contract.raw_schema, ensure_ascii=False, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    SERVED.write_text(as_json(read_contract()), encoding="utf-8")

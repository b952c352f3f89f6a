"""A fixed program: what a server does with a beacon, apart from its connection. It imports little, for valgrind."""

import hashlib
import json
import re
import sys

BODY = '{"site":"portal","page":"/tin-tuc/123","kind":"view","view":"0123456789abcdef"}'


def work(loops: int) -> None:
    """Read, hash and write so many beacons."""
    seen: dict[str, int] = {}
    for number in range(loops):
        beacon = json.loads(BODY)
        key = hashlib.blake2b(f"{number}{beacon['site']}".encode(), digest_size=16).hexdigest()
        fields = dict(line.split(": ") for line in (f"Host: {key}", "Accept: */*", f"Content-Length: {len(BODY)}"))
        seen[key] = len(re.sub("[aeiou]", "", beacon["page"])) + int(fields["Content-Length"])
        json.dumps({"today": len(seen), **fields})


if __name__ == "__main__":
    work(int(sys.argv[1]))

import asyncio, sys
from tests.chaos.run import run
row = asyncio.run(run(sys.argv[1], int(sys.argv[2])))
print(row.as_dict() | {"lines": None})
for l in row.lines: print(l, end="")

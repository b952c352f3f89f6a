"""What was tried to make a beacon cheaper, what it gave, and what remains: the end of RESULTS.md."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.bench import families

HEADING = "## What was tried"
INTRODUCTION = """\
Ratios to the empty server, of runs before and after a step: a kept connection / a new one / refused / 1,000 sites at
once. Up to the line that says so, 64 of the 512 requests on kept connections opened theirs. A profile came before each
step: the counted server ran with a C function of its own around each Python function, so that callgrind shows them with
all that they call; that costs 8 % more and is no part of this folder."""

TRIED: tuple[tuple[str, str], ...] = (
    ("before", "1.281 / 1.680 / 1.342 / 3.594"),
    ("JSON, texts of moments and whole refusals are kept", "1.251 / 1.593 / 1.160 / 2.997"),
    ("batches gather, metrics are added to directly, garbage is rare", "1.181 / 1.356 / 1.127 / 2.766"),
    ("the bench opens kept connections before it counts", "the table above"),
    ("left: one task for all sites that send in a turn", "1 % of 1,000 sites"),
    ("left: packing the script call ourselves", "2.5 % of 1,000 sites"),
    ("left: facts of a connection, worked out once", "0.3 %"),
    ("not done: one look-up for user agent and address", "3 % of a ping"),
)
NOTES = (
    (
        "**Kept.** The JSON of a site is a text with places for what a reading changes, and a reading"
        " is compared with the"
        " last one number by number first."
    ),
    (
        "**Gathered.** A batch waits while each turn of the loop brings it beacons: as one connection"
        " is accepted in a turn,"
        " 64 new ones made 17 batches. Garbage in circles is looked for at every 10,000th object, and"
        " not among what a worker"
        " has when it begins to serve."
    ),
    (
        "**One task.** Making a task is 10,000 of the 860,000 instructions of a beacon of 1,000 sites,"
        " and all else would"
        " stay; a site that waits for a repair or for the disk would need a task of its own all the same."
    ),
    ("**Packing.** hiredis takes 35,000 instructions for 26 arguments, most of them in sprintf."),
    (
        "**Connections.** The client of a peer is remembered already, and is 1,000 of the 19,000"
        " instructions of an address."
        " The others read the forwarding header, which behind a proxy names another client in each request."
    ),
    (
        "**One look-up.** It would spare returning visitors the hash, 10,000 instructions, and keep"
        " addresses in memory,"
        " where they now end with the request."
    ),
)

FLOOR_HEADING = "## Where the goals are missed"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield both sections, for the counted figures of all parts; the second one once families are among them."""
    yield ""
    yield HEADING
    yield ""
    yield INTRODUCTION
    yield ""
    yield "| step | what it gave |"
    yield "|---|---|"
    for step, gave in TRIED:
        yield f"| {step} | {gave} |"
    yield ""
    for note in NOTES:
        yield f"- {note}"
    counts = found["instructions"]
    if "families" not in counts[families.CASE]:
        return
    yield ""
    yield FLOOR_HEADING
    yield ""
    for paragraph in floors(counts):
        yield f"- {paragraph}"


def floors(counts: Mapping[str, Any]) -> Iterator[str]:
    """Say what remains of each kind of request that misses its goal, and why it cannot leave."""
    seen, many = counts["seen"], counts["many_sites"]
    of_one = seen["families"]
    carried = of_one["framework"] + of_one["answer"]
    room = round(seen["empty"] * 1.1) - carried
    counting = seen["ours"] - carried
    yield (
        f"**A kept connection.** Reading, routing and answering take {carried:,} of the empty server's"
        f" {seen['empty']:,} instructions, as the answer is one write of kept bytes. The goal leaves {room:,} for"
        f" counting, which takes {counting:,}: each beacon needs its client behind the proxy, its origin and robot"
        f" looked up, a keyed hash, a place in a batch, and a future to wait on, in Python some 100"
        f" instructions a step."
    )
    yield (
        f"**A new connection.** Making and ending one costs both servers alike. What is ours beyond a kept"
        f" connection's {seen['ours'] - seen['empty']:,} is a place in the limiter, the watch over clients that do"
        f" not read, the close of a half-closed connection, and smaller batches, as one connection is accepted in a"
        f" turn of the loop; in all {counts['new_connection']['ours'] - counts['new_connection']['empty']:,}."
    )
    without = seen["ours"] - of_one["record"]
    yield (
        f"**1,000 sites at once.** Each beacon is a batch of its own, which takes {many['ours'] - without:,} of its"
        f" {many['ours']:,} instructions, where 1.6 would leave {round(many['empty'] * 1.6) - without:,}: a number and"
        " a copy in the log, 26 arguments of a script call, its fifteen numbers, which may not fall below those shown"
        " before, the JSON of another site, and the answer. Joining the calls of many sites would spare none of that;"
        " they leave in one write already."
    )
    yield (
        f"**A refused beacon** costs {counts['refused']['ours'] - counts['refused']['empty']:,} more than the empty"
        f" POST: the client behind the proxy, the exception through five functions, and the page's name for"
        f" `footfall doctor`."
    )

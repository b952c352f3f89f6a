"""What was tried to make a beacon cheaper, what it gave, and what remains: the end of RESULTS.md."""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.bench.goals import INSTRUCTIONS

HEADING = "## What was tried"
INTRODUCTION = """\
Ratios to the empty server, of runs before and after a step: a kept connection / a new one / refused / 1,000 sites at
once. Up to the line that says so, 64 of the 512 requests on kept connections opened theirs. A profile came before each
step: flame graphs of py-spy on a loaded worker show which functions in Python take the time, and callgrind's list of
functions in C, of both servers side by side, shows what one of them calls that the other does not. What is left is
reckoned from the last of these profiles, and was not tried."""

TRIED: tuple[tuple[str, str], ...] = (
    ("before", "1.281 / 1.680 / 1.342 / 3.594"),
    ("JSON, texts of moments and whole refusals are kept", "1.251 / 1.593 / 1.160 / 2.997"),
    ("batches gather, metrics are added to directly, garbage is rare", "1.181 / 1.356 / 1.127 / 2.766"),
    ("the bench opens kept connections before it counts", "1.191 / 1.358 / 1.149 / 2.861"),
    ("a batch gathers until it has 64 beacons, and not for 16 turns of the loop", "a new connection: 1.359 to 1.136"),
    ("reasons are hashed as texts, answers to refused beacons are found by their lines", "refused: 1.146 to 1.102"),
    ("counts are one tuple beside what no reading changes, whose JSON is kept", "1,000 sites: 2.813 to 2.551"),
    ("connections that rest are not looked at while instructions are counted", "rounds differ by 0.6 %, not by 4 %"),
    (
        "the bench stops a server once it rests, and sends when it has stopped",
        "runs differ by 0.2 %, new connections 1.4 %",
    ),
    ("tables of settings are dataclasses; bytes are searched without an exception", "1.162 / 1.110 / 1.090"),
    ("handlers have the services bound; members of enums have names of their own", "1.129 / 1.080 / 1.079"),
    ("a reply makes no headers that it does not send; a reason is its own word", "1.111 / 1.081 / 1.039"),
    ("fields of a reply are plain ones", "1.106 / - / 1.036"),
    ("names of routes are kept; a view of no page is one object", "1.100 / - / 1.028 / 2.431"),
    ("left: packing the script call ourselves", "4 % of 1,000 sites"),
    ("left: days as texts, and the last members of enums", "2 % of 1,000 sites"),
    ("left: one task for all sites that send in a turn", "1 % of 1,000 sites"),
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
        "**64 beacons.** A profile of new connections had eleven batches for 64 beacons, and each of them cost as much"
        " as one for all: a third of what was ours. Sixteen turns were too few, as each brings one connection; a number"
        " of beacons also ends the wait of a site that never rests."
    ),
    (
        "**Counts.** In the profile of 1,000 sites, showing the fifteen numbers of an answer took 160,000 of 730,000"
        " instructions: a tuple of 35 fields was replaced by names, and the site's words were hashed for each JSON."
    ),
    (
        "**Connections that rest.** aiohttp looks after twenty seconds whether a connection has rested, 10,000"
        " instructions for each of 64: a round of one server had them, and the same round of another run had not."
    ),
    (
        "**A server that rests.** Stopped while it ended its last round, it found the next one before it waited for it,"
        " and did without that wait; not stopped yet, it read a round in several turns."
    ),
    (
        "**Settings.** In the list of functions, fourteen fields of a site were read through a hook for private"
        " attributes that a model of pydantic has, and a dataclass of pydantic has not: 500 instructions each."
        " `in` asks bytes first for a number, and makes an exception of what is none: 1,800."
    ),
    (
        "**Services and members.** `request.app` is two properties and a look-up; until Python 3.12, a member of an"
        " enum is found by a function in Python, and so is its `value`."
    ),
    (
        "**Replies.** aiohttp's own answer begins with headers, cookies and a reason; ours sends lines that were made"
        " once. Where fields of a class are properties, each is a call: of a reply, its status; of a route, its path."
    ),
    (
        "**One task.** Making a task is some 6,000 of the 600,000 instructions of a beacon of 1,000 sites,"
        " and all else would"
        " stay; a site that waits for a repair or for the disk would need a task of its own all the same."
    ),
    ("**Packing.** hiredis takes some 25,000 instructions for 26 arguments, most of them in sprintf."),
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
MISSED = {
    "seen": (
        "A kept connection",
        (
            "Each of these is a few steps in Python of some 100 instructions: an address behind a proxy that no later"
            " request may know, two blocks of a keyed hash, a place in a batch, and a future to wait on."
        ),
    ),
    "new_connection": (
        "A new connection",
        (
            "Making and ending one costs both servers alike; ours has a place in the limiter beyond that, the"
            " watch over clients that do not read, and the close of a half-closed connection."
        ),
    ),
    "many_sites": (
        "1,000 sites at once",
        (
            "Each beacon is a batch of its own: a task, a number and a copy in the log, 26 arguments of a script call,"
            " its fifteen numbers, which may not fall below those shown before, and the JSON of another site. Joining"
            " the calls of many sites would spare none of that; they leave in one write already."
        ),
    ),
    "refused": (
        "A refused beacon",
        "The exception passes through five functions, and the page's name is noted for `footfall doctor`.",
    ),
}
"""By case: its name, and why it is not less."""


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
    if any("connection" not in counts[case].get("families", {}) for case in MISSED):
        return
    yield ""
    yield FLOOR_HEADING
    yield ""
    for paragraph in floors(counts):
        yield f"- {paragraph}"


def floors(counts: Mapping[str, Any]) -> Iterator[str]:
    """Say what each kind of request takes that misses its goal, what the goal leaves, and why it is not less."""
    for case, (name, why) in MISSED.items():
        of_case = counts[case]
        families = of_case["families"]
        carried = families["framework"] + families["connection"] + families["answer"]
        bound = INSTRUCTIONS[case].bound
        if of_case["ratio"] <= bound:
            continue
        yield (
            f"**{name}** takes {of_case['ours']:,} instructions, and {bound:g} would be"
            f" {round(of_case['empty'] * bound):,}. Reading, routing and answering take {carried:,} of them, where the"
            f" empty server takes {of_case['empty']:,} for all. What remains is {of_case['ours'] - carried:,}: the"
            f" record {families['record']:,}, the address {families['address']:,}, the body and head"
            f" {families['parse']:,}, admission {families['admission']:,}, the hash {families['hash']:,}. {why}"
        )
    yield (
        f"**A page** makes a beacon {counts['page_growth']:.3f} times as dear: its form is looked up twice, to count"
        " and to answer, its views are one more line of the script call and of its answer, and one more field of JSON."
    )

"""Runs the fault matrix and prints its table; the exit status is 0 only if every difference is 0.

    python -m tests.chaos [--fault F7] [--seed 3] [--seeds 3] [--lanes 3]

Without a seed, three are drawn. Every run is a process of its own, on servers of its own.
"""

import argparse
import asyncio
import json
import logging
import random
import sys

from tests.chaos.lanes import Job, play_all, print_table
from tests.chaos.matrix import FAULTS
from tests.chaos.run import run


def main() -> int:
    """Read the command line, run the matrix, print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Inject faults and compare the counts.")
    parser.add_argument("--fault", choices=FAULTS, help="only this one")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--seeds", type=int, default=3, help="how many to draw (3)")
    parser.add_argument("--lanes", type=int, default=3, help="how many faults to play at once (3)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of each fault")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        logging.getLogger().addHandler(logging.NullHandler())  # workers in this process need not log what fails
        print(json.dumps(asyncio.run(run(options.fault, options.seed, quick=options.quick)).as_dict()))
        return 0
    seeds = [options.seed] if options.seed is not None else random.sample(range(1, 100_000), options.seeds)
    names = [options.fault] if options.fault else list(FAULTS)
    jobs = [Job(name, seed, quick=options.quick) for seed in seeds for name in names]
    rows = asyncio.run(play_all(jobs, options.lanes))
    return print_table(jobs, rows)


if __name__ == "__main__":
    sys.exit(main())

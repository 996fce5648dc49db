"""`python -m tests.fuzz --minutes 60 [READER …]`: fuzz readers in turn; print inputs, CPU time, findings."""

import argparse
import itertools
import random
import sys
import time
import traceback

from tests.fuzz.readers import READERS
from tests.fuzz.run import check

BATCH = 200
"""Inputs of a reader before the next one has its turn."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=f"some of {', '.join(READERS)}; default: all")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time, which is printed")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"unknown readers {', '.join(sorted(unknown))}")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    names = options.readers or list(READERS)
    tried = dict.fromkeys(names, 0)
    seconds = dict.fromkeys(names, 0.0)
    findings: dict[str, set[str]] = {name: set() for name in names}
    end = time.monotonic() + 60 * options.minutes
    print(f"seed {seed}; Ctrl-C ends with the table", flush=True)
    for name in itertools.cycle(names):
        if time.monotonic() >= end:
            break
        seed += 1
        began = time.process_time()
        try:
            tried[name] += check(READERS[name], examples=BATCH, seed=seed)
        except KeyboardInterrupt:
            break
        except BaseException as error:  # a panic of an extension module is no Exception
            tried[name] += BATCH
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} in {place.filename}:{place.lineno}: {str(error)[:200]}"
            if kind not in findings[name]:
                findings[name].add(kind)
                print(f"--- {name}, seed {seed}", flush=True)
                traceback.print_exc(file=sys.stdout)
        seconds[name] += time.process_time() - began
    print(f"{'reader':<16} {'inputs':>9} {'CPU s':>7}  findings", flush=True)
    for name in names:
        print(f"{name:<16} {tried[name]:9,} {seconds[name]:7,.0f}  {len(findings[name])}")
        for kind in sorted(findings[name]):
            print(f"    {kind}")
    return 1 if any(findings.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

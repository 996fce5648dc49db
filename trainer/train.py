"""`python -m trainer.train MANIFEST [key=value …]`: train, or go on training.

The same command begins a run, continues it after a kill, and says so when it is
finished. Under torchrun it trains on as many devices as there are processes.
"""

import argparse
import sys
from collections.abc import Sequence

from trainer.stop import StopRequest

EXAMPLE = """example:
  python -m trainer.train manifests/train.yaml out=out/second optimizer.lr=3e-4
  torchrun --nproc-per-node 8 -m trainer.train manifests/train.yaml device=cuda precision=bf16

exit codes: 0 finished, 1 failed, 2 the manifest cannot be used, 75 stopped by SIGTERM or SIGINT with a checkpoint:
the same command continues"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.train",
        description="Train an HRM on a built dataset, or continue where the run was left.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", help="YAML manifest of the run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the manifest")
    parser.add_argument("--dry-run", action="store_true", help="check manifest and dataset, print the plan, and exit")
    options = parser.parse_intermixed_args(arguments)
    with StopRequest() as request:
        # This import takes seconds, in which a request to stop is heard already.
        from trainer.launch import launch

        return launch(options.manifest, options.overrides, dry_run=options.dry_run, request=request)


if __name__ == "__main__":
    sys.exit(main())

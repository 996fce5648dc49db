"""Clusters of near duplicates by datatrove's MinHash, run by any Python that has datatrove and nothing of ours.

    PYTHON datatrove_clusters.py TEXTS OUT N_GRAMS BUCKETS HASHES    # TEXTS: a JSON list; OUT: a JSON list of clusters

Exits with 3 where datatrove is not installed.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

ABSENT = 3


def clusters(texts: list[str], n_grams: int, buckets: int, hashes: int) -> list[int]:
    """Return the cluster of each text; a text alone has one of its own."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.pipeline.dedup import minhash
    from datatrove.utils.logging import logger

    logger.remove()
    config = minhash.MinhashConfig(n_grams=n_grams, num_buckets=buckets, hashes_per_bucket=hashes)
    with tempfile.TemporaryDirectory() as folder:
        documents = (Document(text=text, id=str(number)) for number, text in enumerate(texts))
        minhash.MinhashDedupSignature(f"{folder}/signatures", config).run(documents)
        for bucket in range(buckets):
            minhash.MinhashDedupBuckets(
                f"{folder}/signatures", f"{folder}/buckets", config=config, only_dedup_in_index=False
            ).run(None, bucket, buckets)
        minhash.MinhashDedupCluster(f"{folder}/buckets", f"{folder}/out", config, save_cluster_id=True).run()
        found = np.fromfile(f"{folder}/out/000000.clusters", np.uint32).reshape(-1, 2)
    numbers = np.arange(len(texts)) + len(texts)
    numbers[found[:, 0]] = found[:, 1]
    return [int(number) for number in numbers]


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    source, out, *sizes = sys.argv[1:]
    try:
        import datatrove  # noqa: F401 - only whether it is installed
    except ImportError:
        sys.exit(ABSENT)
    found = clusters(json.loads(Path(source).read_text(encoding="utf-8")), *map(int, sizes))
    Path(out).write_text(json.dumps(found))

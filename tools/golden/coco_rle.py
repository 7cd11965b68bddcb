"""Writes tests/golden/coco_rle.json: masks as pycocotools encodes them.

    python3 -m venv venv && venv/bin/pip install numpy pycocotools
    venv/bin/python tools/golden/coco_rle.py tests/golden/coco_rle.json
"""

import importlib.metadata
import json
import sys

import numpy as np
from pycocotools import mask as coco


def runs(mask):
    """Uncompressed run lengths, down the columns, first those outside."""
    counts, run, current = [], 0, 0
    for value in mask.flatten(order="F"):
        if value != current:
            counts.append(run)
            run, current = 0, value
        run += 1
    return counts + [run]


def main():
    random = np.random.default_rng(7)
    masks = [np.zeros((1, 1)), np.ones((1, 1)), np.ones((3, 5)), np.zeros((7, 2)), np.eye(13)]
    for height, width in [(5, 7), (31, 17), (64, 1), (1, 64), (40, 40)]:
        masks.append(random.random((height, width)) < 0.4)
    for height, width in [(480, 640), (333, 1000)]:
        y, x = np.mgrid[:height, :width]
        masks.append((x - width / 3) ** 2 / 9 + (y - height / 2) ** 2 < (height / 4) ** 2)
        masks.append((x > width / 2) & (y % 97 < 50))
    cases = []
    for mask in masks:
        mask = np.asfortranarray(mask.astype(np.uint8))
        encoded = coco.encode(mask)
        cases.append({"size": encoded["size"], "uncompressed": runs(mask), "counts": encoded["counts"].decode()})
    version = importlib.metadata.version("pycocotools")
    golden = {"component": "coco_rle", "source": f"pycocotools {version}", "seed": 7}
    body = ",\n".join(json.dumps(case, default=int, separators=(",", ":")) for case in cases)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(json.dumps(golden)[:-1] + ', "cases": [\n' + body + "\n]}\n")


if __name__ == "__main__":
    main()

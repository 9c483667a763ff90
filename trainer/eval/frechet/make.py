"""Writes expected.json: two sets of features a case, and pytorch-fid's distance of them.

    python make.py      (numpy, scipy needed)

The formula is pytorch-fid's: means, `np.cov`, `scipy.linalg.sqrtm` of the covariances' product, and where that is
not finite, of the product with 1e-6 on both diagonals. `root_trace_with_offset` is the trace of the latter root in
every case, so that the way back is checked too.
"""

import json
import pathlib

import numpy as np
from scipy import linalg


def root_trace(a, b):
    root = linalg.sqrtm(a.dot(b))
    return float(np.trace(root).real), bool(np.isfinite(root).all())


def distance(a, b):
    (m1, c1), (m2, c2) = [(np.mean(x, axis=0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (a, b)]
    offset = np.eye(len(c1)) * 1e-6
    trace, finite = root_trace(c1, c2)
    with_offset, _ = root_trace(c1 + offset, c2 + offset)
    if not finite:
        trace = with_offset
    difference = m1 - m2
    return float(difference.dot(difference) + np.trace(c1) + np.trace(c2) - 2 * trace), with_offset


def main():
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(12, 12))
    plain = rng.normal(size=(40, 12)) @ mixing
    moved = rng.normal(size=(33, 12)) @ mixing.T * 0.7 + 0.3
    few = rng.normal(size=(5, 12))
    dead = rng.gamma(0.3, size=(30, 12)) * (np.arange(12) % 3 > 0)
    cases = {
        "more pictures than numbers": (plain, moved),
        "fewer pictures than numbers": (few, plain),
        "features that are never used": (dead, np.roll(dead, 1, axis=0)[:20] * 1.1),
        "nearly the same": (plain, plain + 1e-3 * rng.normal(size=plain.shape)),
        "one number each": (plain[:, :1], moved[:, :1]),
    }
    out = []
    for name, (a, b) in cases.items():
        rows = [[[float(f"{v:.7g}") for v in row] for row in x] for x in (a, b)]
        value, with_offset = distance(*map(np.array, rows))
        out.append({"name": name, "a": rows[0], "b": rows[1], "distance": value, "root_trace_with_offset": with_offset})
        print(name, value)
    path = pathlib.Path(__file__).parent / "expected.json"
    path.write_text("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")


if __name__ == "__main__":
    main()

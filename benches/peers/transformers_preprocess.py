"""Pictures per second of processor time of transformers' processors with the PIL backend, on one thread: the peer of
`svgrl bench preprocess`. A decoded picture of 448 by 448 pixels each time.

    OMP_NUM_THREADS=1 python benches/peers/transformers_preprocess.py [SECONDS]"""

import json
import sys
import time

import numpy as np
from transformers import GotOcr2ImageProcessorPil, Qwen2VLImageProcessorPil

SIDE = 448
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
PROCESSORS = {
    "qwen2_5_vl": Qwen2VLImageProcessorPil(patch_size=14, merge_size=2),
    "qwen3_vl": Qwen2VLImageProcessorPil(patch_size=16, merge_size=2),
    "internvl": GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=False),
}

picture = (np.arange(SIDE * SIDE * 3) * 7 % 251).astype(np.uint8).reshape(SIDE, SIDE, 3)
figures = {}
for name, processor in PROCESSORS.items():
    processor([picture], return_tensors="pt")
    started, before, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < SECONDS:
        processor([picture], return_tensors="pt")
        count += 1
    figures[f"{name}_per_cpu_s"] = count / (time.process_time() - before)
print(json.dumps({"figures": figures}))

"""VectorGym's picture of a drawing that failed: white with a red cross, as OpenCV draws lines.

Prints the checksum that the test in trainer/eval/eval_canvas.rs holds; needs opencv-python-headless and numpy.
"""
import zlib

import cv2
import numpy as np

SIDE = 512
CENTRE, ARM, WIDTH = SIDE // 2, SIDE // 5, SIDE // 50

picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
for rise in (1, -1):
    ends = [(CENTRE + way * ARM, CENTRE + way * rise * ARM) for way in (-1, 1)]
    cv2.line(picture, *ends, (255, 0, 0), WIDTH)
print(cv2.__version__, (picture[:, :, 1] == 0).sum(), zlib.crc32(picture.tobytes()))

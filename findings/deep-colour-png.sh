#!/usr/bin/env bash
# Pillow 13.0.0 opens a PNG of 16 bits per channel in colour as 8-bit RGB, without a warning: the lower 8 bits are lost,
# and 12-bit values from 0 to 4095 become 0 to 15. The same values in grey are read whole (mode I;16).
# Prints what is read; exits 1 when this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 numpy==2.4.6 opencv-python-headless==5.0.0.93 2>/dev/null
cd "$work"
"$work/venv/bin/python" -W error - <<'PYTHON'
import sys

import cv2
import numpy as np
import PIL
from PIL import Image

values = np.linspace(0, 4095, 16 * 24 * 3).astype(np.uint16).reshape(16, 24, 3)
cv2.imwrite("colour.png", values[:, :, ::-1])
cv2.imwrite("grey.png", values[:, :, 0])
whole = cv2.imread("colour.png", cv2.IMREAD_UNCHANGED)[:, :, ::-1]
print("OpenCV", cv2.__version__, "of colour:", whole.dtype, "up to", whole.max())

read = {}
for name in ("colour", "grey"):
    with Image.open(f"{name}.png") as image:
        read[name] = np.asarray(image)
        print(f"Pillow {PIL.__version__} of {name}: {image.mode} {read[name].dtype} up to {read[name].max()}")
colour, grey = read["colour"], read["grey"]
lost = colour.dtype == np.uint8 and np.array_equal(colour, values >> 8)
kept = np.array_equal(grey, values[:, :, 0])
sys.exit(0 if np.array_equal(whole, values) and lost and kept else 1)
PYTHON

#!/usr/bin/env bash
# Pillow 13.0.0 opens a zlib-compressed TIFF of five bands in separate planes as a grey picture that holds the first band
# alone: no error, no warning, one frame (float32, uint16 and uint8 alike). The same file without compression is refused.
# Prints what is read; exits 1 when this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6 2>/dev/null
cd "$work"
"$work/venv/bin/python" -W error - <<'PYTHON'
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

silent = refused = 0
for kind, white in (("float32", 1.0), ("uint16", 65535), ("uint8", 255)):
    bands = np.stack([np.full((16, 24), white * (k + 1) / 5).astype(kind) for k in range(5)])
    for name, compression in (("packed.tif", "zlib"), ("plain.tif", None)):
        tifffile.imwrite(
            name, bands, photometric="minisblack", planarconfig="separate", metadata=None, compression=compression
        )
        assert np.array_equal(tifffile.imread(name), bands)
    with tifffile.TiffFile("packed.tif") as file:
        page = file.pages[0]
        print(f"{kind}: {len(file.pages)} page, {page.samplesperpixel} samples per pixel, {page.planarconfig.name}")
    with Image.open("packed.tif") as image:
        read = np.asarray(image)
        print(f"  Pillow {PIL.__version__}, zlib: {image.mode} {read.shape}, {image.n_frames} frame, {np.unique(read)}")
        silent += image.n_frames == 1 and np.array_equal(read, bands[0])
    try:
        with open("plain.tif", "rb") as file:
            np.asarray(Image.open(file))
    except Exception as error:
        print(f"  Pillow {PIL.__version__}, uncompressed: {type(error).__name__}")
        refused += 1
sys.exit(0 if silent == refused == 3 else 1)
PYTHON

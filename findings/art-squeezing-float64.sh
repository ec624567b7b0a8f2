#!/usr/bin/env bash
# adversarial-robustness-toolbox 1.20.1: of its preprocessing defences, FeatureSqueezing alone changes the type of the
# images: float32 in, float64 out, while SpatialSmoothing and JpegCompression keep float32. In front of a float32 network
# in PyTorch, its gradient then raises an error of mixed types.
# Prints the types; exits 1 when this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check adversarial-robustness-toolbox==1.20.1 numpy==2.4.6 pillow==13.0.0 packaging==25.0 2>/dev/null
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import art
import numpy as np
from art.defences.preprocessor import FeatureSqueezing, JpegCompression, SpatialSmoothing

images = np.random.default_rng(0).random((1, 3, 16, 16), dtype=np.float32)
box = (0.0, 1.0)
defences = {
    "FeatureSqueezing": FeatureSqueezing(box, bit_depth=3),
    "SpatialSmoothing": SpatialSmoothing(3, channels_first=True, clip_values=box),
    "JpegCompression": JpegCompression(box, quality=75, channels_first=True),
}
types = {name: str(defence(images)[0].dtype) for name, defence in defences.items()}
for name, kind in types.items():
    print(f"ART {art.__version__}, {name} of float32: {kind}")
wanted = {"FeatureSqueezing": "float64", "SpatialSmoothing": "float32", "JpegCompression": "float32"}
sys.exit(0 if types == wanted else 1)
PYTHON

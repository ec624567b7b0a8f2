#!/usr/bin/env bash
# Try a wheel in environments of its own: without extras, with each extra alone, and with all of them.
#
# Usage: scripts/try-extras.sh WHEEL PYTHON [EXTRA ...]
#
# PYTHON has torch and torchvision, and nothing else of ours: each environment reads these from it through a path file, for
# they are 5.5 GB. An environment is removed when it was tried. Ends with the number of those that failed.
set -uo pipefail
wheel=$(realpath "${1:?a wheel}") lender=${2:?a Python with torch}
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
purelib='import sysconfig; print(sysconfig.get_paths()["purelib"])'
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=1

# what an extra is for, in one line that fails without it
uses() {
    case $1 in
        none) echo 'from assay.models import load_model; load_model("zoo:mnist-cnn")' ;;
        samples) echo 'import assay; m = assay.load_model("efficientnet-lite0"); assert len(assay.load_data("samples", model=m)) == 20' ;;
        timm) echo 'import timm; timm.create_model("resnet10t", pretrained=False)' ;;
        eot) echo 'import kornia.geometry' ;;
        hdf5) echo 'import h5py' ;;
        tiff) echo 'import tifffile' ;;
        heif) echo 'import pillow_heif; pillow_heif.register_heif_opener()' ;;
        nlm) echo 'import cv2; cv2.fastNlMeansDenoising' ;;
        corruptions) echo 'import imagecorruptions' ;;
        onnx) echo 'import onnx, onnxruntime, onnx2pytorch, onnx2torch, onnxslim' ;;
        hf) echo 'import transformers, huggingface_hub, timm; transformers.AutoModelForImageClassification' ;;
        keras) echo 'import os; os.environ["KERAS_BACKEND"] = "torch"; import keras, h5py; keras.layers.Dense(1)' ;;
        litert) echo 'from ai_edge_litert.interpreter import Interpreter' ;;
        remote) echo 'import httpx2, orjson' ;;
        ray) echo 'import ray' ;;
        s3) echo 'import fsspec, s3fs' ;;
        play) echo 'import starlette.applications, uvicorn' ;;
        mlflow) echo 'import mlflow, sqlalchemy, alembic' ;;
        wandb) echo 'import wandb' ;;
        all) echo 'import os; os.environ["KERAS_BACKEND"] = "torch"; import onnxruntime, transformers, keras, ray, s3fs, starlette' ;;
        *) echo "raise SystemExit('scripts/try-extras.sh has no line for the extra $1')" ;;
    esac
}

extras=("$@")
if [ ${#extras[@]} -eq 0 ]; then
    mapfile -t extras < <("$lender" -c "
import tomllib
print('none', *(name for name in tomllib.load(open('$here/pyproject.toml', 'rb'))['project']['optional-dependencies'] if name != 'dev'), sep='\n')")
fi

failed=0
for extra in "${extras[@]}"; do
    venv=$(mktemp -d)
    "$lender" -m venv "$venv"
    "$venv/bin/python" -I - "$("$lender" -I -c "$purelib")" "$("$venv/bin/python" -I -c "$purelib")" << 'PY'
import pathlib, sys
lender, own = sys.argv[1:]
(pathlib.Path(own) / "torch.pth").write_text(lender + "\n", encoding="utf-8")
PY
    asked=$wheel
    [ "$extra" = none ] || asked="$wheel[$extra]"
    cd "$venv" || exit 1
    if "$venv/bin/pip" install --quiet "$asked" > install.log 2>&1 \
        && "$venv/bin/python" -W ignore -c "$(uses "$extra")" > use.log 2>&1 \
        && "$venv/bin/assay" models > use.log 2>&1; then
        size=$(du -sm "$venv" | cut -f1)
        echo "$extra: works, $size MB beside torch, Python $("$venv/bin/python" -c 'import sys; print(sys.version.split()[0])')"
    else
        failed=$((failed + 1))
        echo "$extra: FAILED"
        tail -n 5 install.log use.log 2> /dev/null
    fi
    cd / && rm -rf "$venv"
done
exit "$failed"

#!/usr/bin/env bash
# Make an environment beside .venv for what cannot live in it; say nothing when it is there already.
#
# Usage: scripts/install-beside.sh peers|targets|servers|scale
#
# peers    .venv-peers: the libraries we compare with. They pin old versions that would drag .venv back, so they come
#          without their dependencies, which tests/peers/requirements.txt names.
# targets  .venv-targets: libraries of kinds of models that few users need all of (Hugging Face, Keras, LiteRT).
# scale    .venv-scale: a cluster's engine and an object store (Ray, moto).
# servers  .venv-servers/NAME, for each tests/servers/environments/NAME.txt: servers of models, each a program of its own.
#          TRITON_PYTHON names the Python that Triton is installed for (3.8 to 3.13; as a rule the system's).
#
# Peers, targets and scale read everything else, torch's 5.5 GB above all, from .venv through a path file; their own packages
# come first. Servers read nothing of it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
purelib='import sysconfig; print(sysconfig.get_paths()["purelib"])'

# beside VENV REQUIREMENTS PYTHON WHAT LENDER PIP-OPTION...: LENDER is a Python whose packages are read, or empty
beside() {
    local venv=$1 wanted=$2 python=$3 what=$4 lender=$5
    shift 5
    local stamp=$venv/made-for log=$venv/install.log key options=()
    key="$(cksum < "$wanted" | tr -d ' ') $PWD $("$python" -c 'import sys; print(sys.version.split()[0])')"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] \
        && "$venv/bin/python" -I scripts/venv_check.py > /dev/null 2>&1; then
        return
    fi
    echo "Making $venv with $what."
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    if [ -n "$lender" ] && grep -q 'include-system-site-packages = true' .venv/pyvenv.cfg; then
        options+=(--system-site-packages)
    fi
    "$python" -m venv "${options[@]}" "$venv" > /dev/null
    if [ -n "$lender" ]; then
        # .venv's own path files are followed too: they hold where this clone's package lies, or a lent torch.
        "$venv/bin/python" -I - "$("$lender" -I -c "$purelib")" "$("$venv/bin/python" -I -c "$purelib")" << 'PY'
import pathlib, sys
lender, own = sys.argv[1:]
(pathlib.Path(own) / "torch-of-venv.pth").write_text(f"import site; site.addsitedir({lender!r})\n", encoding="utf-8")
PY
    fi
    if ! "$venv/bin/python" -m pip install "$@" --requirement "$wanted" > "$log" 2>&1; then
        tail -n 15 "$log" >&2
        echo "pip could not install $what (whole log: $log)." >&2
        exit 1
    fi
    printf '%s\n' "$key" > "$stamp"
}

# Triton runs its Python models by a program that holds a Python of its own: one release of Python, with the patch
# level of a distribution. Under a newer 3.11 (of pyenv, say) it does not start.
triton_python() {
    local python=${TRITON_PYTHON:-/usr/bin/python3}
    if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 8) <= sys.version_info < (3, 14))' 2> /dev/null; then
        {
            echo "Triton (nvidia-pytriton) needs a Python from 3.8 to 3.13 with its venv module, and $python is none:"
            "$python" --version 2>&1 || true
            echo "Name another one: TRITON_PYTHON=/path/to/python make test-servers (on Debian: apt install python3-venv)"
        } >&2
        exit 1
    fi
    echo "$python"
}

case ${1:-} in
    peers)
        beside .venv-peers tests/peers/requirements.txt .venv/bin/python \
            "the peers (about 170 MB; torch is read from .venv)" .venv/bin/python --no-deps
        ;;
    targets)
        beside .venv-targets tests/targets/requirements.txt .venv/bin/python \
            "Hugging Face, Keras and LiteRT (about 300 MB; torch is read from .venv)" .venv/bin/python
        ;;
    scale)
        beside .venv-scale tests/scale/requirements.txt .venv/bin/python \
            "Ray and an object store (about 300 MB; torch is read from .venv)" .venv/bin/python
        ;;
    servers)
        # most of what they bring is never imported: compiling all of it takes as long as the rest of the install
        python=.venv/bin/python
        beside .venv-servers/mlserver tests/servers/environments/mlserver.txt $python "MLServer (about 300 MB)" "" --no-compile
        beside .venv-servers/kserve tests/servers/environments/kserve.txt $python "KServe and LitServe (about 400 MB)" "" --no-compile
        python=$(triton_python)
        beside .venv-servers/triton tests/servers/environments/triton.txt "$python" "Triton (about 400 MB)" "" --no-compile
        ;;
    *)
        echo "Usage: scripts/install-beside.sh peers|targets|servers|scale" >&2
        exit 2
        ;;
esac

#!/usr/bin/env bash
# Make .venv-peers: Foolbox, torchattacks, ART, the authors' AutoAttack and adv-lib on top of the packages of .venv.
#
# The peers pin old versions (torchattacks: requests 2.25) and would drag .venv back. So they live in an environment
# of their own, which reads everything else, torch's 5.5 GB above all, from .venv through a path file; its own
# packages come first. They are installed without their dependencies, which tests/peers/requirements.txt names.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-peers
wanted=tests/peers/requirements.txt
stamp=$venv/peers-installed
log=$venv/install.log
key="$(cksum < "$wanted" | tr -d ' ') $PWD $(.venv/bin/python -c 'import sys; print(sys.version.split()[0])')"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] \
    && "$venv/bin/python" -I scripts/venv_check.py > /dev/null 2>&1; then
    exit 0
fi
echo "Making $venv with the peers (about 170 MB; torch is read from .venv)."
rm -rf "$venv"
options=()
if grep -q 'include-system-site-packages = true' .venv/pyvenv.cfg; then options+=(--system-site-packages); fi
.venv/bin/python -m venv "${options[@]}" "$venv" > /dev/null
purelib='import sysconfig; print(sysconfig.get_paths()["purelib"])'
# .venv's own path files are followed too: they hold where this clone's package lies, or a lent torch.
"$venv/bin/python" -I - "$(.venv/bin/python -I -c "$purelib")" "$("$venv/bin/python" -I -c "$purelib")" << 'PY'
import pathlib, sys
lender, own = sys.argv[1:]
(pathlib.Path(own) / "torch-of-venv.pth").write_text(f"import site; site.addsitedir({lender!r})\n", encoding="utf-8")
PY
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
if ! "$venv/bin/python" -m pip install --no-deps --requirement "$wanted" > "$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "pip could not install the peers (whole log: $log)." >&2
    exit 1
fi
printf '%s\n' "$key" > "$stamp"

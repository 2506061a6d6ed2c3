#!/bin/sh
# Runs the digits example on every board that this machine can start, and says which it leaves out.
# usage: demo.sh EDGEPACK
set -eu

edgepack="$1" targets="" left=""
for pair in x86-64-v3:host rpi4:rpi4 jetson-orin:jetson-orin; do
    if "$edgepack" devices prepare "${pair#*:}"; then
        targets="$targets --target ${pair%:*}"
    else
        left="$left ${pair#*:}"
    fi
done
# shellcheck disable=SC2086 - a list of options
if [ -n "$targets" ]; then
    "$edgepack" run recipes/digits.yaml $targets
else
    "$edgepack" package recipes/digits.yaml --target x86-64-v3 --out dist
fi
if [ -n "$left" ]; then
    echo "Left out, because this machine cannot start these virtual boards (the reasons are above):$left" >&2
fi

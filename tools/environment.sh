#!/bin/sh
# Makes a Python environment in the user's cache folder and prints its path.
#
# An environment that exists for the same requirements is reused. With BASE, the path of another
# environment, the packages of that one are there too, unless the requirements name other versions.
#
# usage: tools/environment.sh NAME REQUIREMENTS.txt [BASE]
set -eu
name=$1
requirements=$2
base=${3:-}
python=${PYTHON:-python3}
version=$("$python" -c '
import sys
assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"
print("%d.%d" % sys.version_info[:2])')
# Also follows the .pth files of the base, as that of a package that was installed editable.
pth=${base:+"import site; site.addsitedir('$base/lib/python$version/site-packages')"}
key=$( (echo "$version"; cat "$requirements"; echo "$pth" | sed '/^$/d') | cksum | cut -d' ' -f1)
folder="${XDG_CACHE_HOME:-$HOME/.cache}/voxquarry/$name-$version-$key"
if [ ! -e "$folder/ready" ]; then
    rm -rf "$folder"
    echo "making the Python environment $name" >&2
    "$python" -m venv "$folder" >&2
    if [ -n "$base" ]; then
        packages=$(cd "$folder"/lib/python3*/site-packages && pwd)
        echo "$pth" > "$packages/base.pth"
    fi
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2
    touch "$folder/ready"
fi
echo "$folder"

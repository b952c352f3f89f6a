#!/bin/sh
# Installs Footfall from this folder, without internet: sh install.sh /opt/footfall
#
# Needs Python 3.11, 3.12 or 3.13 with venv (apt install python3-venv) on Linux, x86-64 or arm64. A second word names the
# Python. Run again with a newer folder, it upgrades; systemctl restart footfall then starts the new version.
set -eu
target=${1:?Which folder? sh install.sh /opt/footfall}
python=${2:-python3}
cd "$(dirname "$0")"
sha256sum --check --quiet --strict SHA256SUMS
"$python" -m venv "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links wheels \
    --only-binary :all: --require-hashes -r requirements.txt
"$target/bin/footfall" version
echo "The files to copy are in $PWD/deploy, the manual in $PWD/man, completion for shells in $PWD/completion."

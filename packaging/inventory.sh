#!/bin/sh
# Makes the programs, and beside them in dist/ what is in them: sbom.json and copyright.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
. bin/.bundle
if [ ! -e dist/sbom.json ] || [ dist/.made -nt dist/sbom.json ] || [ packaging/inventory.ts -nt dist/sbom.json ]; then
  "$NODE" --disable-warning=ExperimentalWarning packaging/inventory.ts
fi

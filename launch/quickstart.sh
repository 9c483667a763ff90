#!/bin/sh
# `make quickstart`: says what will happen and how long it takes, builds, trains, and names the report.
set -eu
cd "$(dirname "$0")/.."

missing=
has() { command -v "$1" > /dev/null 2>&1; }
has cargo || missing="$missing
  Rust      https://rustup.rs (its cargo is not on the PATH)"
has c++ || has g++ || missing="$missing
  a C++ compiler      apt-get install g++"
has python3 && python3 -m pip --version > /dev/null 2>&1 || missing="$missing
  Python 3 with pip      apt-get install python3 python3-pip"
if [ -n "$missing" ]; then
    echo "quickstart: these are not here yet:$missing" >&2
    exit 2
fi

cores=$(getconf _NPROCESSORS_ONLN)
program=${CARGO_TARGET_DIR:-target}/release/svgrl
report=$PWD/runs/quickstart/report.html
cat << END
What happens now, on $cores cores; what is there already is not made again:
  1. libtorch is downloaded into your cache folder: 550 MB, 3 GB with an NVIDIA GPU; once
  2. svgrl is built: about 15 minutes on two cores, less on more; once
  3. a small policy is trained, SFT and then GRPO: about 5 minutes on two cores
  4. the report of the run stands in $report
Ctrl-C stops it at any time; the same command goes on from there.
END
make setup
cargo build --release
"$program" train configs/quickstart.yaml
echo "report: file://$report"

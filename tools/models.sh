#!/usr/bin/env bash
# Checks the orderings of the lock-free table with loom, and that each planted bug is found.
# Takes minutes; LOOM_MAX_PREEMPTIONS=N looks deeper and takes longer.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" exec cargo test -p kswitch-tables --release --lib loom -- "$@"

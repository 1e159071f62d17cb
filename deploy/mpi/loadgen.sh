#!/bin/bash
# One measurement by the hosts of an MPI launcher, each process with a shard of it. Its arguments are those of mpirun:
# `./loadgen.sh --hostfile hosts -n 3`. The results and their union are in a folder that all hosts share.
# docs/scale-out.md
set -eu

export TARGET=${TARGET:-tcp://server:7777}
export LOAD=${LOAD:--c 300 -R 30k -w 2s -d 30s}
export OUT=${OUT:-$PWD/loadgen-$(date +%Y%m%dT%H%M%S)}
LEAD=${LEAD:-15} # seconds that all hosts have to start and to connect

mkdir -p "$OUT"
START=@$(($(date +%s) + LEAD))
export START
# Open MPI passes variables on if they are named; MPICH passes all of them, and knows no -x.
pass=(-x TARGET -x LOAD -x OUT -x START)
mpirun --version | grep -q 'Open MPI' || pass=()
# A process that fails would end the others.
mpirun "${pass[@]}" "$@" sh -c '
    rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-$PMIX_RANK}}
    loadgen run "$TARGET" $LOAD --rank auto --start-at "$START" --quiet --allow-invalid --json "$OUT/$rank.json" || true'
loadgen merge "$OUT"/*.json --json "$OUT.json"

#!/bin/sh
# Whether a server has become worse: the steps of docs/ci.md, to be copied into a pipeline.
#
#   ci-example.sh BASE_COMMAND NEW_COMMAND DIRECTORY
#
# The commands start the server as it was and as it is to be; see `loadgen compare --help` for how it
# tells its port. Results stay in DIRECTORY, whatever comes of it. The exit code is loadgen's: 0 no
# regression is established, 98 one is, 97 the runs can't be believed.
set -u
loadgen=${LOADGEN:-loadgen}
base=$1 new=$2 directory=$3
mkdir -p "$directory"

"$loadgen" compare --base-command "$base" --new-command "$new" \
    --connections "${CONNECTIONS:-16}" --duration "${WINDOW:-2s}" --warmup "${WARM_UP:-500ms}" \
    --rounds "${ROUNDS:-15}" --max-rounds "${MAX_ROUNDS:-60}" --threshold "${THRESHOLD:-5%}" \
    --json "$directory/comparison.json" > "$directory/comparison.txt"
code=$?
cat "$directory/comparison.txt"
exit "$code"

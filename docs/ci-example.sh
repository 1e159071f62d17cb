#!/bin/sh
# Whether a server has become worse: the steps of docs/ci.md, to be copied into a pipeline.
#
#   ci-example.sh BASE_COMMAND NEW_COMMAND DIRECTORY
#
# The commands start the server as it was and as it is to be; see `loadgen compare --help` for how it
# tells its port. With TARGET in the environment, the address of a server that runs, that server's
# capacity is searched too, and with BASELINE, a stored result, it is compared with that. Results and
# pages for a browser stay in DIRECTORY, whatever comes of it.
#
# The exit code is that of the first step that is not content: 98 a regression is established, 99 the
# objectives are missed at the load that is needed, 97 the runs can't be believed.
set -u
loadgen=${LOADGEN:-loadgen}
base=$1 new=$2 directory=$3
worst=0
mkdir -p "$directory"

# step NAME ARGUMENTS...: runs loadgen, keeps its table, its result and its page.
step() {
    name=$1
    shift
    "$loadgen" "$@" --json "$directory/$name.json" > "$directory/$name.txt"
    code=$?
    cat "$directory/$name.txt"
    if [ -s "$directory/$name.json" ]; then
        "$loadgen" report "$directory/$name.json" -o "$directory/$name.html"
    fi
    [ "$worst" -ne 0 ] || worst=$code
}

step comparison compare --base-command "$base" --new-command "$new" \
    --connections "${CONNECTIONS:-16}" --duration "${WINDOW:-2s}" --warmup "${WARM_UP:-500ms}" \
    --rounds "${ROUNDS:-15}" --max-rounds "${MAX_ROUNDS:-60}" --threshold "${THRESHOLD:-5%}"

if [ -n "${TARGET:-}" ]; then
    # From the rate that is needed up to the rate of which it no longer matters how much more there is.
    step capacity search "$TARGET" --connections "${CONNECTIONS:-16}" --slo "${SLO:-p99<10ms}" \
        --min "${NEEDED:-1k}" --start "${NEEDED:-1k}" --max "${ENOUGH:-20k}" --trial "${TRIAL:-1s}"
fi

if [ -n "${TARGET:-}" ] && [ -n "${BASELINE:-}" ]; then
    step run run "$TARGET" --connections "${CONNECTIONS:-16}" --duration "${WINDOW:-2s}" \
        --warmup "${WARM_UP:-500ms}" --repeat "${REPEAT:-10}" --allow-invalid
    step baseline compare "$BASELINE" "$directory/run.json" --threshold "${THRESHOLD:-5%}"
fi

exit "$worst"

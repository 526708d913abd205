#!/bin/bash
# The read gate: on every interpreter of the machine, one thread of 1 000 plain frames must
# cost one call when warm (3.8 to 3.10, whose frames are objects: two). Exact, so that it
# can fail a build.
#
# usage: gate.sh [ONLOOKER]       (default: the release build of this checkout, built first)
#
# Ends with 1 when an interpreter is over its budget, and with ONLOOKER_REQUIRE_ALL=1 also
# when one is missing.
set -euo pipefail

workspace=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$workspace/target}
tree=$target/interpreters/sid
program=$workspace/tests/programs/plain1000.py
export PYTHONDONTWRITEBYTECODE=1

onlooker=${1:-}
if [[ -z $onlooker ]]; then
    (cd "$workspace" && cargo build --release --package onlooker)
    onlooker=$target/release/onlooker
fi

passed=0
failed=0
skipped=0

skip() {
    printf 'skipped: %s\n' "$*" >&2
    skipped=$((skipped + 1))
}

# The interpreter itself: what was started, or its only child when that is `unshare`.
process_of() {
    local pid=$1 child
    while [[ $(readlink "/proc/$pid/exe") == */unshare ]]; do
        read -r child _ <"/proc/$pid/task/$pid/children"
        pid=$child
    done
    printf '%s\n' "$pid"
}

# check LABEL CALLS COMMAND...
check() {
    local label=$1 calls=$2 line pid status=0
    shift 2
    coproc TARGET { exec "$@"; }
    local started=$TARGET_PID
    # The ready line (tests/README.md) comes when the stack is at rest.
    if ! read -r -t 60 line <&"${TARGET[0]}" || [[ $line != '{"ready": true'* ]]; then
        skip "$label does not start"
        kill -KILL "$started" 2>/dev/null || true
        wait "$started" 2>/dev/null || true
        return
    fi
    pid=$(process_of "$started")
    printf '\n== %s: at most %d call(s) when warm\n' "$label" "$calls"
    "$onlooker" reads -p "$pid" --max-warm-calls "$calls" || status=$?
    # SIGKILL because unshare ignores SIGTERM; it takes the interpreter along.
    kill -KILL "$started" 2>/dev/null || true
    wait "$started" 2>/dev/null || true
    if ((status == 0)); then
        passed=$((passed + 1))
    else
        printf '== %s: FAILED (exit code %d)\n' "$label" "$status"
        failed=$((failed + 1))
    fi
}

budget() { if (($1 < 11)); then echo 2; else echo 1; fi; }

pyenv=${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}/versions
for minor in 8 9 10 11 12 13 14 15; do
    found=0
    for python in "$pyenv"/*/bin/python3.$minor; do
        [[ -x $python ]] || continue
        found=1
        check "$python" "$(budget $minor)" "$python" "$program"
    done
    if ((found == 0 && minor <= 13)); then
        skip "no Python 3.$minor in a pyenv"
    fi
done

if minor=$(/usr/bin/python3 -I -S -c 'import sys; print(sys.version_info[1])' 2>/dev/null); then
    check /usr/bin/python3 "$(budget "$minor")" /usr/bin/python3 "$program"
else
    skip "no /usr/bin/python3"
fi

if [[ -e $tree/.complete ]]; then
    install -m 644 "$workspace/tests/programs/oracle.py" "$program" "$tree/onlooker-tests/"
    inside=/onlooker-tests/plain1000.py
    for minor in 14 15; do
        python=/usr/bin/python3.$minor
        if ((EUID == 0)); then
            check "sid 3.$minor, chroot" 1 chroot "$tree" "$python" "$inside"
        else
            skip "sid 3.$minor, chroot: needs root"
        fi
        check "sid 3.$minor, namespace" 1 \
            unshare --map-root-user --mount --pid --fork --kill-child "--mount-proc=$tree/proc" \
            chroot "$tree" "$python" "$inside"
        check "sid 3.$minor, loader" 1 \
            "$tree/lib64/ld-linux-x86-64.so.2" --library-path "$tree/usr/lib/x86_64-linux-gnu" \
            "$tree$python" "$program"
    done
else
    skip "3.14 and 3.15 of Debian sid: run tests/interpreters/fetch-sid.sh"
fi

printf '\nread gate: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0 && passed > 0)) || exit 1
[[ ${ONLOOKER_REQUIRE_ALL:-} != 1 ]] || ((skipped == 0)) || exit 1

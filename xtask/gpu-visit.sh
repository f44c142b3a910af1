#!/usr/bin/env bash
# Learn as much as possible from a short time on a machine that has a GPU.
#
#   xtask/gpu-visit.sh MAITRE OUT [SECONDS]
#
# MAITRE is a binary built with `--features cuda,fault-injection`; OUT is a folder for logs and reports, each written as it comes;
# all work ends within SECONDS (300 unless given). No step stops the next:
#
#   smoke      one greedy answer of the bundled model, on the GPU and on the processor: they must be equal
#   checks     maitre gpu-check --only checks
#   memcheck   compute-sanitizer on the smallest checks, where it is installed, and
#   racecheck  the same at the same time
#   speeds     maitre gpu-check --only speeds, with all the time that is left
#
# STEPS="smoke checks" does only these.
set -uo pipefail

maitre=$1 out=$2 seconds=${3:-300}
steps=${STEPS:-smoke checks memcheck racecheck speeds}
began=$SECONDS
mkdir -p "$out"

left() { echo $((seconds - (SECONDS - began))); }
wanted() { [[ " $steps " == *" $1 "* ]]; }
# At most so many of the seconds that are left.
at_most() { local all; all=$(left); echo $((all < $1 ? (all > 1 ? all : 1) : $1)); }
say() { echo "== $1, at $((SECONDS - began)) s"; }

# cuBLASLt may have come with Python's packages.
if ! ldconfig -p | grep -q libcublasLt; then
    library=$(find /opt /usr /root -name 'libcublasLt.so.1[23]' 2>/dev/null | head -1)
    [[ -n "$library" ]] && export LD_LIBRARY_PATH="${library%/*}:${LD_LIBRARY_PATH:-}"
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv | tee "$out/gpu.txt"

answer() {
    timeout -k 5 "$(at_most 45)" "$maitre" generate --device "$1" --dtype f32 --temperature 0 --max-tokens 24 \
        --prompt "Once upon a time" >"$out/smoke-${1%:0}.txt" 2>"$out/smoke-${1%:0}.log"
}
if wanted smoke; then
    say smoke
    answer cuda:0 || tail -3 "$out/smoke-cuda.log"
    answer cpu || tail -3 "$out/smoke-cpu.log"
    cmp "$out/smoke-cuda.txt" "$out/smoke-cpu.txt" && echo "the answers are equal"
fi
if wanted checks; then
    say checks
    timeout -k 5 "$(at_most 150)" "$maitre" gpu-check --only checks --time-limit "$(at_most 130)" --out "$out/checks" \
        >"$out/checks.txt" 2>"$out/checks.log"
    grep -v ' passed$' "$out/checks.txt" || cat "$out/checks/gpu-check.md"
fi
for tool in memcheck racecheck; do
    if wanted $tool && command -v compute-sanitizer >/dev/null; then
        timeout -k 5 "$(at_most 70)" compute-sanitizer --target-processes all --tool $tool \
            "$maitre" gpu-check --only checks --shape tiny --time-limit "$(at_most 60)" --out "$out/$tool" \
            >"$out/$tool.txt" 2>&1 &
    fi
done
if wanted memcheck || wanted racecheck; then
    say sanitizers
    wait
    for tool in memcheck racecheck; do
        echo "$tool:" && tail -4 "$out/$tool.txt"
        grep -m 3 -A 6 'Invalid\|Error: \|hazard' "$out/$tool.txt"
    done
fi
if wanted speeds; then
    say speeds
    time_limit=$(at_most "$(($(left) > 6 ? $(left) - 5 : 1))")
    timeout -k 5 "$(at_most "$((time_limit + 5))")" "$maitre" gpu-check --only speeds --time-limit "$time_limit" --out "$out/speeds" \
        >"$out/speeds.txt" 2>"$out/speeds.log"
    cat "$out/speeds.txt"
    [[ -s "$out/speeds.txt" ]] || cat "$out/speeds/gpu-check.md"
fi
say end

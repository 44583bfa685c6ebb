#!/usr/bin/env bash
# Instructions per operation of the hot cores, counted by valgrind: the same on a busy machine as on a quiet
# one, so that a regression shows. Clock time is what `cargo bench` is for.
#
#   benches/instructions.sh [CRATE…]     counts, and compares with benches/instructions.tsv
#   benches/instructions.sh --save       counts all, and writes them there
#
# A crate joins by `benches/instructions.rs`, a bench without a harness: called without arguments it lists its
# workloads, called with `NAME TIMES` it runs one so often. Each is run twice, and the difference divided by
# that of the times: what it takes to begin and to end is not counted.
set -euo pipefail
cd "$(dirname "$0")/.."

saved=benches/instructions.tsv
few=20
many=120
save=false
if [ "${1:-}" = --save ]; then save=true; shift; fi
crates=("$@")
if [ ${#crates[@]} -eq 0 ]; then
  for bench in */benches/instructions.rs; do crates+=("${bench%%/*}"); done
fi

counted() { # BINARY NAME TIMES
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" "$2" "$3" 2>&1 >/dev/null |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

packages=()
for crate in "${crates[@]}"; do packages+=(-p "$crate"); done
# All in one build: apart, each would build what they share with its own features.
built=$(cargo bench --locked "${packages[@]}" --bench instructions --no-run --message-format=json |
  sed -n 's#.*"manifest_path":"[^"]*/\([^/"]*\)/Cargo.toml".*"executable":"\([^"]*\)".*#\1 \2#p')

if $save; then : > "$saved"; fi
printf '%-34s %14s %14s %9s\n' workload instructions before change
while read -r crate binary; do
  for name in $("$binary"); do
    per_operation=$((($(counted "$binary" "$name" $many) - $(counted "$binary" "$name" $few)) / (many - few)))
    before=$(awk -v name="$crate/$name" '$1 == name { print $2 }' "$saved" 2>/dev/null || true)
    change=''
    if [ -n "$before" ]; then
      change=$(awk -v a="$before" -v b="$per_operation" 'BEGIN { printf "%+.1f %%", (b - a) * 100 / a }')
    fi
    printf '%-34s %14s %14s %9s\n' "$crate/$name" "$per_operation" "$before" "$change"
    if $save; then printf '%s\t%s\n' "$crate/$name" "$per_operation" >> "$saved"; fi
  done
done <<< "$built"

#!/usr/bin/env bash
# Decode and prefill on the CPU against other engines that read the same file, in one run on one machine: every program
# in turn (A B C A B C ...), on the same cores with the same number of threads; prints medians and ratios.
# Builds and fetches nothing: give it the programs. Needs taskset (util-linux), jq and awk.
set -euo pipefail
export LC_ALL=C # decimal points, and sort that agrees with awk

usage() {
  cat <<'END'
Usage: bench/peers/cpu.sh -m FILE PROGRAM... [options]

Programs, each optional, in the order in which they run:
  --llama-bench PATH      llama.cpp's llama-bench
  --ik-llama-bench PATH   ik_llama.cpp's llama-bench
  --antirez-bench PATH    antirez/ds4's ds4-bench, built for the CPU
  --ds4-bench PATH        this project's ds4-bench
Options:
  -m, --model FILE        the GGUF file that all of them read
  --prompts N[,N...]      tokens of prefill, each from an empty context (128,512)
  --gen N                 tokens of decode (32)
  --rounds N              times that each program runs (3)
  --cpus LIST             cores to run on, as taskset takes them; one thread on each (0,1)
  --llama-args ARGS       more arguments of llama-bench, separated by spaces; so also --ik-llama-args,
  --ik-llama-args ARGS    --antirez-args and --ds4-args
  --csv FILE              writes every measurement there: round,program,test,tokens_per_second
Ratios are this project's ds4-bench over the fastest of the others.
END
}

fail() {
  echo "cpu.sh: $1" >&2
  exit 1
}

declare -A path=() args=()
programs=()
model='' prompts=128,512 gen=32 rounds=3 cpus=0,1 csv=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit ;;
  esac
  [ $# -ge 2 ] || fail "$1 needs a value; see --help"
  case $1 in
    --llama-bench | --ik-llama-bench | --antirez-bench | --ds4-bench)
      program=${1#--} && program=${program%-bench}
      path[$program]=$2
      ;;
    --llama-args | --ik-llama-args | --antirez-args | --ds4-args)
      program=${1#--} && args[${program%-args}]=$2
      ;;
    -m | --model) model=$2 ;;
    --prompts) prompts=$2 ;;
    --gen) gen=$2 ;;
    --rounds) rounds=$2 ;;
    --cpus) cpus=$2 ;;
    --csv) csv=$2 ;;
    *) fail "unknown option $1; see --help" ;;
  esac
  shift 2
done

for program in llama ik-llama antirez ds4; do
  [ -n "${path[$program]:-}" ] || continue
  [ -x "${path[$program]}" ] || fail "--$program-bench: ${path[$program]} is not a program"
  programs+=("$program")
done
[ ${#programs[@]} -gt 0 ] || fail "no program to run; see --help"
[ -r "$model" ] || fail "-m: cannot read '$model'"
[[ $prompts =~ ^[1-9][0-9]*(,[1-9][0-9]*)*$ ]] || fail "--prompts: '$prompts' is not a list of numbers"
[[ $gen =~ ^[1-9][0-9]*$ ]] || fail "--gen: '$gen' is not a number above 0"
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds: '$rounds' is not a number above 0"
for tool in taskset jq awk; do
  command -v "$tool" >/dev/null || fail "$tool is missing; install util-linux, jq and an awk"
done
threads=$(taskset -c "$cpus" nproc) || fail "--cpus: taskset does not take '$cpus'"
IFS=, read -ra prompt_sizes <<<"$prompts"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Runs a program on the chosen cores; what it says is shown only when it fails.
pinned() {
  taskset -c "$cpus" "$@" >"$work/out" 2>"$work/log" && return
  tail -n 20 "$work/log" >&2
  fail "$1 failed"
}

# llama-bench would run each prompt once more before it counts. A short prompt whose time is thrown away maps the file as
# well and takes a tenth of the time; ds4-bench does so by itself.
warm_up=63

# The two llama-bench differ in how a warm-up is turned off. Prints TEST TOKENS_PER_SECOND lines.
measure_llama_bench() {
  local program=$1 extra
  read -ra extra <<<"${args[$program]:-}"
  if [ "$program" = llama ]; then extra+=(--no-warmup); else extra+=(-w 0); fi
  pinned "${path[$program]}" -m "$model" -t "$threads" -r 1 -o json -p "$warm_up,$prompts" -n "$gen" "${extra[@]}"
  # A build may print a line of its own before the JSON.
  sed -n '/^\[$/,$p' "$work/out" | jq -r --argjson warm_up "$warm_up" '
    .[] | select(.n_prompt != $warm_up)
        | "\(if .n_gen > 0 then "tg\(.n_gen)" else "pp\(.n_prompt)" end) \(.avg_ts)"'
}

# Both ds4-bench: a process for each prompt, since a row's prefill counts only the tokens since the row before. Decode is
# taken after the first prompt.
measure_ds4_bench() {
  local program=$1 extra size tokens=$gen
  read -ra extra <<<"${args[$program]:-}"
  if [ "$program" = antirez ]; then
    extra+=(--cpu --warm-weights --prompt-file "$work/prompt")
  fi
  for size in "${prompt_sizes[@]}"; do
    pinned "${path[$program]}" -m "$model" -t "$threads" --ctx-start "$size" --ctx-max "$size" --gen-tokens "$tokens" \
      --csv "$work/rows" "${extra[@]}"
    awk -F, -v size="$size" -v gen="$gen" -v first="$([ "$size" = "${prompt_sizes[0]}" ] && echo 1)" '
      NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
      $column["ctx_tokens"] == size {
        print "pp" size, $column["prefill_tps"]
        if (first) print "tg" gen, $column["gen_tps"]
      }' "$work/rows"
    tokens=1
  done
}

# A text of more tokens than any prompt, whatever the vocabulary.
longest=$(printf '%s\n' "${prompt_sizes[@]}" | sort -n | tail -n 1)
awk -v words="$((2 * longest))" 'BEGIN { for (i = 0; i < words; i++) printf "%d plus %d ", i, (i * 7919) % 1000 }' >"$work/prompt"

: >"$work/all"
echo "load before: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
for ((round = 1; round <= rounds; round++)); do
  for program in "${programs[@]}"; do
    case $program in
      llama | ik-llama) measure_llama_bench "$program" >"$work/measured" ;;
      *) measure_ds4_bench "$program" >"$work/measured" ;;
    esac
    [ "$(wc -l <"$work/measured")" -eq $((${#prompt_sizes[@]} + 1)) ] || fail "${path[$program]}: measurements are missing"
    echo "round $round: $program $(tr '\n' ' ' <"$work/measured")" >&2
    sed "s/^/$round $program /" "$work/measured" >>"$work/all"
  done
done
echo "load after: $(cut -d' ' -f1-3 /proc/loadavg)" >&2

if [ -n "$csv" ]; then
  { echo round,program,test,tokens_per_second && tr ' ' , <"$work/all"; } >"$csv"
fi

echo "$(basename "$model"): medians of $rounds runs, tokens/s, $threads threads on cores $cpus"
sort -k2,2 -k3,3 -k4,4g "$work/all" | awk -v names="${programs[*]}" -v tests="tg$gen ${prompt_sizes[*]/#/pp}" '
  function finish() { if (n) median[key] = (sorted[int((n + 1) / 2)] + sorted[int(n / 2) + 1]) / 2 }
  key != $2 " " $3 { finish(); key = $2 " " $3; n = 0 }
  { sorted[++n] = $4 }
  END {
    finish()
    programs = split(names, program, " "); columns = split(tests, test, " ")
    printf "%-24s", ""; for (t = 1; t <= columns; t++) printf "%10s", test[t]; print ""
    for (p = 1; p <= programs; p++) {
      printf "%-24s", program[p]
      for (t = 1; t <= columns; t++) {
        value = median[program[p] " " test[t]]
        printf "%10.2f", value
        if (program[p] != "ds4" && value > fastest[test[t]]) fastest[test[t]] = value
      }
      print ""
    }
    if (program[programs] != "ds4" || programs == 1) exit
    printf "%-24s", "ds4 / fastest other"
    for (t = 1; t <= columns; t++) printf "%9.2fx", median["ds4 " test[t]] / fastest[test[t]]
    print ""
  }'

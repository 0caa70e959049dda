#!/usr/bin/env bash
# Builds, checks and times the CUDA kernels on this machine's GPU, table last. Needs nvcc and g++ only.
#   bench/gpu/run.sh [build folder]
# PROGRAMS="product_bench" runs only one of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/gpu-bench}
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
mkdir -p "$build"

capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
# wgmma and its kin exist under the architecture-specific target only.
case $capability in 90 | 100) capability=${capability}a ;; esac
flags=(-std=c++20 -O3 -fmad=false -Isrc -Iinclude -gencode "arch=compute_$capability,code=sm_$capability")

pids=()
for source in src/backend/gpu/cuda/*.cu bench/gpu/*.cu \
    src/quant/iq2_xxs.cpp; do
    "$nvcc" "${flags[@]}" -Xptxas -v -c "$source" -o "$build/$(basename "$source").o" \
        2>"$build/$(basename "$source").log" || { cat "$build/$(basename "$source").log" >&2; exit 1; } &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
shared=("$build"/{rows,experts_gate_up,experts_down,repack,product,grouped,pairs,attention,attention_prompt,indexer,streams,streams_prompt,entries,support}.cu.o "$build/iq2_xxs.cpp.o")
for program in matrix_bench product_bench attention_bench indexer_bench streams_bench graph_bench; do
    "$nvcc" -o "$build/$program" "${shared[@]}" "$build/$program.cu.o"
done
for name in rows experts_gate_up experts_down product grouped attention attention_prompt indexer streams streams_prompt; do
    echo "$name: $(grep -o 'Used [0-9]* registers\|[0-9]* bytes spill stores\|C75[0-9]*' "$build/$name.cu.log" | paste -sd, -)"
done
failed=0
for program in ${PROGRAMS:-graph_bench streams_bench indexer_bench attention_bench product_bench matrix_bench}; do
    "$build/$program" || failed=1
done
exit $failed

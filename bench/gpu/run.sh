#!/usr/bin/env bash
# Builds, checks and times the CUDA kernels on this machine's GPU, table last. Needs nvcc and g++ only.
#   bench/gpu/run.sh [build folder]
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
for source in src/backend/gpu/cuda/{rows,experts_gate_up,experts_down,repack}.cu bench/gpu/{support,matrix_bench}.cu \
    src/quant/iq2_xxs.cpp; do
    "$nvcc" "${flags[@]}" -Xptxas -v -c "$source" -o "$build/$(basename "$source").o" \
        2>"$build/$(basename "$source").log" || { cat "$build/$(basename "$source").log" >&2; exit 1; } &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
"$nvcc" -o "$build/matrix_bench" "$build"/*.o
for name in rows experts_gate_up experts_down; do
    echo "$name: $(grep -o 'Used [0-9]* registers\|[0-9]* bytes spill stores' "$build/$name.cu.log" | paste -sd, -)"
done
exec "$build/matrix_bench"

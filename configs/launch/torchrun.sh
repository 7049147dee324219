#!/usr/bin/env bash
# DDP without accelerate's launcher: one process per GPU (per core where there is no GPU).
#
# One node:   configs/launch/torchrun.sh examples/finetune.py --model gpt2 --data notes.txt
# Many nodes: on each of them, with the name of any one that all can reach:
#             NODES=4 HEAD=node01 configs/launch/torchrun.sh examples/finetune.py ...
set -euo pipefail

nodes=${NODES:-1}
common=(--nproc-per-node "${RANKS:-auto}")
if [ "$nodes" -eq 1 ]; then
  exec torchrun --standalone "${common[@]}" "$@"
fi
exec torchrun "${common[@]}" --nnodes "$nodes" --rdzv-backend c10d --rdzv-id "${JOB:-neuronxa}" \
  --rdzv-endpoint "${HEAD:?HEAD must name one of the nodes}:${PORT:-29500}" "$@"

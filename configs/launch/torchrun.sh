#!/usr/bin/env bash
# DDP with torchrun: one process per GPU, or per core on a machine without a GPU.
#
# One node:   configs/launch/torchrun.sh examples/finetune.py --model gpt2 --data notes.txt
# Many nodes: run on each node, with the name of one node that all can reach as HEAD:
#             NODES=4 HEAD=node01 configs/launch/torchrun.sh examples/finetune.py ...
set -euo pipefail

nodes=${NODES:-1}
common=(--nproc-per-node "${RANKS:-auto}")
if [ "$nodes" -eq 1 ]; then
  exec torchrun --standalone "${common[@]}" "$@"
fi
exec torchrun "${common[@]}" --nnodes "$nodes" --rdzv-backend c10d --rdzv-id "${JOB:-neuronxa}" \
  --rdzv-endpoint "${HEAD:?set HEAD to the name of one node}:${PORT:-29500}" "$@"

#!/bin/bash
# One shard of a capture a task:
#
#     array=$(sbatch --parsable --array=1-8 recipes/slurm/capture.sh RECIPE)
#     sbatch --dependency=afterany:$array recipes/slurm/measures.sh RECIPE
#
# Every task captures each 8th checkpoint, one model on one GPU, into the recipe's store, which must lie on
# a file system that all nodes share. A task that was killed or ran out of time is started again by
# submitting the same array once more: tasks with nothing left to do end within seconds. Submit the whole
# array, not single tasks: the number of tasks decides which checkpoints a shard has.
#SBATCH --job-name=phasescope-capture
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=INT@60
#SBATCH --output=phasescope-%A_%a.log
set -euo pipefail

recipe=${1:?usage: sbatch --array=1-8 capture.sh RECIPE}
: "${SLURM_ARRAY_TASK_ID:?start it with sbatch --array=1-8}"
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-8}

# srun, because the signal before the time limit goes to steps: an interrupted shard gives its leases back.
# Exit 1 tells of failed checkpoints, which are marked in the store with their reason; 130 of an interruption.
srun phasescope run "$recipe" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"

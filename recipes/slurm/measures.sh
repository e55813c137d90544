#!/bin/bash
# After the array of capture.sh: what a shard could not finish is captured here, then measures and phases
# are computed. It needs a GPU only if the recipe's `capture.device` does and something is missing.
#SBATCH --job-name=phasescope-measures
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=phasescope-%j.log
set -euo pipefail

recipe=${1:?usage: sbatch --dependency=afterany:JOB measures.sh RECIPE}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-16}

srun phasescope run "$recipe"

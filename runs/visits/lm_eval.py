"""A visit that runs tasks of the LM Evaluation Harness."""

from __future__ import annotations

import xarray as xr

from runs.loaded import LoadedModel
from runs.products.base import ArraySpec, Spec
from runs.tasks import score_tasks, task_coordinates, task_layout, task_options
from runs.visits.base import VisitRow


def _evaluate(loaded: LoadedModel, spec: Spec) -> xr.Dataset:
    found = score_tasks(loaded, spec)
    return xr.Dataset(
        {
            "value": (("task", "metric"), found.value),
            "standard_error": (("task", "metric"), found.standard_error),
            "questions": ("task", found.samples),
        }
    )


def _layout(spec: Spec) -> dict[str, ArraySpec]:
    return task_layout(spec)


ROW = VisitRow(
    "lm_eval",
    _evaluate,
    _layout,
    task_options,
    version=1,
    source="the LM Evaluation Harness, arXiv 2405.14782",
    coordinates=task_coordinates,
)

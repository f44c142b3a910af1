"""The held-out text of the bundled model for lm-evaluation-harness."""

import pathlib

import datasets

TEXT = pathlib.Path(__file__).parents[3] / "crates" / "maitre-bundled" / "heldout.txt"


def documents(**_):
    """Each document on its own."""
    texts = TEXT.read_text().split("<|endoftext|>")
    return {"test": datasets.Dataset.from_dict({"text": texts})}


def whole(**_):
    """One text; documents are separated by a control token."""
    return {"test": datasets.Dataset.from_dict({"text": [TEXT.read_text()]})}

"""Texts become what an encoder takes, as its own library has it; and go to a built encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from builder.errors import CheckpointError, DataError
from builder.texts import read_texts, tokenize
from trident import main

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "very", "##ly"]
TEXTS = ["good film", "very bad film", "Badly"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a BERT tokenizer, which was trained with a cut and a padding of its own."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer(vocab={word: number for number, word in enumerate(WORDS)})
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    (tmp_path / "bert").mkdir()
    tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
    return tmp_path / "bert"


def test_tokens_are_those_of_transformers(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]")
    for length, options in (
        (None, {"padding": "longest", "truncation": False}),
        (4, {"padding": "max_length", "max_length": 4, "truncation": True}),
    ):
        ours, expected = (
            tokenize(folder, TEXTS, length, types=True),
            theirs(TEXTS, return_tensors="np", return_token_type_ids=True, **options),
        )
        assert ours.keys() == {"input_ids", "attention_mask", "token_type_ids"}
        for name, array in ours.items():
            assert array.dtype == np.int64
            assert (array == expected[name]).all(), name
    assert tokenize(folder, TEXTS)["input_ids"].tolist() == [[2, 4, 6, 3, 0], [2, 7, 5, 6, 3], [2, 5, 8, 3, 0]]


def test_the_command_writes_data_with_labels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts.tsv").write_text("".join(f"{label}\t{text}\n" for label, text in zip("102", TEXTS, strict=True)))
    out = tmp_path / "out.npz"
    with pytest.raises(SystemExit) as done:
        main.main(["tokenize", str(folder), str(tmp_path / "texts.tsv"), "--labels", "--out", str(out), "--json"])
    assert done.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told["arrays"]["input_ids"] == {"dtype": "int64", "shape": [3, 5]}
    with np.load(out) as arrays:
        assert sorted(arrays.files) == ["attention_mask", "input_ids", "label"]
        assert arrays["label"].tolist() == [1, 0, 2]
        assert arrays["label"].dtype == np.int64
        assert arrays["attention_mask"].tolist()[0] == [1, 1, 1, 1, 0]


def test_scores_of_people_are_labels_too(tmp_path: Path) -> None:
    (tmp_path / "texts.tsv").write_text("7.5\tgood film\n\n3\tbad\tfilm\n")
    texts, labels = read_texts(tmp_path / "texts.tsv", labelled=True)
    assert texts == ["good film", "bad\tfilm"]
    assert labels["label"].tolist() == [7.5, 3.0]


def test_what_cannot_be_tokenized_gets_a_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json does not exist; name the folder of a Hugging Face"):
        tokenize(tmp_path, TEXTS)
    with pytest.raises(DataError, match="there is no text to tokenize"):
        tokenize(folder, [])
    with pytest.raises(DataError, match=r"2 tokens are too few: .*tokenizer\.json adds 2 to each text; give more"):
        tokenize(folder, TEXTS, 2)
    (tmp_path / "texts.txt").write_text("good film\n")
    with pytest.raises(DataError, match="text 1 is 'good film'; with labels a line is a number, a tab and the text"):
        read_texts(tmp_path / "texts.txt", labelled=True)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bad\.txt cannot be read as UTF-8 text"):
        read_texts(tmp_path / "bad.txt", labelled=False)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        tokenize(folder, TEXTS)

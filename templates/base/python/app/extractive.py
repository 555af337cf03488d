"""Stands in for a language model until LLM_MODEL is set: quotes the sentences that fit a question best, or refuses."""

import json
import re
from typing import Any

import numpy as np

from app import embeddings
from app.llm import Completion, Draft, Messages, OnText, Quote, Tools
from app.splitting import sentences

NOTICE = "(Sentences quoted from the documents, without a language model: LLM_MODEL sets one.)"
ENOUGH = 0.66  # what fits less does not answer; measured on documents and questions of three kinds
COMMON = """a about all also am an and any are as at be because but by can could did do does doing for from get give had
    happen happens has have how i if in into is it its just me mean more most must my need no not of on only or other
    our out should so some such than that the their them then there these they this to up use used using was we were
    what when where which while who why will with work would you your"""


class ExtractiveModel:
    name, provider = "extractive", "built-in"

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
    """Up to 500 characters from each of the best three passages, around the three sentences that fit best."""
    split = [sentences(passage["text"]) for passage in passages]
    target, *rest = np.array(await embeddings.embed_built_in([question, *(s for parts in split for s in parts)]))
    vectors, wanted, best = iter(rest), _words(question), []
    for passage, parts in zip(passages, split, strict=True):
        meanings, fits = np.array([next(vectors) for _ in parts]), []
        for start in range(max(1, len(parts) - 2)):
            window, text = meanings[start : start + 3], " ".join(parts[start : start + 3])
            whole = window.sum(axis=0) @ target / np.linalg.norm(window.sum(axis=0))
            shared = len(wanted & _words(f"{passage['source']} {passage['heading']} {text}")) / max(1, len(wanted))
            fits.append((float(whole + (window @ target).max()) / 2 + 0.3 * shared, start))
        (fit, start), end = max(fits), max(fits)[1] + 3
        while end < len(parts) and len("".join(parts[start : end + 1])) <= 500:
            end += 1
        while start and len("".join(parts[start - 1 : end])) <= 500:
            start -= 1
        best.append((fit, Quote(passage=passage["passage"], quote="".join(parts[start:end]).strip())))
    best = sorted(best, key=lambda scored: -scored[0])[:3]
    if not best or best[0][0] < ENOUGH:
        return Draft(answered=False, text=f"Nothing in the documents answers this. {NOTICE}", quotes=[])
    return Draft(answered=True, text="\n\n".join([*(q.quote for _, q in best), NOTICE]), quotes=[q for _, q in best])


def _words(text: str) -> set[str]:  # by their first letters, so that sort, sorts and sorting are one
    return {word[:5] for word in re.findall(r"[^\W_]+", text.lower()) if word not in COMMON.split()}

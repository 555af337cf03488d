"""Stands in for a language model: looks the question up and quotes the sentences that fit it best, or refuses.

When LLM_MODEL is set, this file can go, together with the lines in llm.py that name it.
"""

import json
import re
from itertools import chain
from typing import Any

import numpy as np

from app import embeddings
from app.llm import Completion, Draft, Messages, OnText, Quote, Tools
from app.splitting import sentences

NOTICE = "(Sentences quoted from the documents, without a language model: LLM_MODEL sets one.)"
ENOUGH = 0.65  # what scores less does not answer; measured with the built-in embedding model
COMMON = re.findall(
    r"\w+",
    """a about all also am an and any are as at be because been before but by can could did do does doing
 for from get give had happen happens has have he her his how i if in into is it its just me mean more most must my
 need no not of on one only or other our out over same she should so some such than that the their them then there these they this
 to too up use used using very was we were what when where which while who whom why will with work would you your""",
)


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
    """From each of the best three passages the best three sentences in a row."""
    split = [sentences(passage["text"]) for passage in passages]
    target, *rest = np.array(await embeddings.embed_built_in([question, *chain(*split)]))
    vectors, wanted, best = iter(rest), _words(question), []
    for passage, parts in zip(passages, split, strict=True):
        meanings, scored = [next(vectors) for _ in parts], []
        for start in range(max(1, len(parts) - 2)):
            quote, meaning = "".join(parts[start : start + 3]), np.sum(meanings[start : start + 3], axis=0)
            shared = wanted & _words(f"{passage['source']} {passage['heading']} {quote}")
            similarity = float(meaning @ target / np.linalg.norm(meaning))
            scored.append((similarity + 0.3 * len(shared) / max(1, len(wanted)), quote.strip(), passage["passage"]))
        best.append(max(scored))
    best = sorted(best, reverse=True)[:3]
    if not best or best[0][0] < ENOUGH:
        return Draft(answered=False, text=f"Nothing in the documents answers this. {NOTICE}", quotes=[])
    quotes = [Quote(passage=passage, quote=quote) for _, quote, passage in best]
    return Draft(answered=True, text="\n\n".join([*(quote.quote for quote in quotes), NOTICE]), quotes=quotes)


def _words(text: str) -> set[str]:  # by their first letters, so that sort, sorts and sorting are one
    return {word[:5] for word in re.findall(r"[^\W_]+", text.lower()) if word not in COMMON}

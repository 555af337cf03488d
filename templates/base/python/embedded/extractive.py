"""Stands in for a language model until LLM_MODEL is set: quotes the sentences that fit a question best, or refuses."""

import asyncio
import json
import re
from itertools import pairwise
from math import hypot
from operator import mul
from typing import Any

from app.llm import Completion, Draft, Messages, OnText, Quote
from embedded import minilm

NOTICE = "(Sentences quoted from the documents, without a language model: LLM_MODEL sets one.)"
ENOUGH = 0.62  # what fits less does not answer; measured on documents and questions of three kinds
COMMON = """about all also and any are because but can could did does doing for from get give had happen happens has
    have how into its just mean more most must need not only other our out should some such than that the their them
    then there these they this use used using was were what when where which while who why will with would you your"""
SENTENCE_END = re.compile(
    r"""(?: (?<=[.!?]) | (?<=[.!?]["')\]]) ) (?<!\be\.g\.) (?<!\bi\.e\.) (?<!\bcf\.) (?<!\bvs\.) (?<!\b[DM]r\.)
        \s+ (?![a-z])
    | \n[ \t]*\n\s*                          # the end of a paragraph
    | \n (?=[ \t]*(?:[-*+]|\d+[.)])[ \t])    # the next item of a list""",
    re.VERBOSE,
)


async def complete(messages: Messages, on_text: OnText) -> Completion:
    """As a model does: first a call of the search, then an answer."""
    question = str([message["content"] for message in messages if message["role"] == "user"][-1])
    if messages[-1]["role"] != "tool":
        function = {"name": "search_documents", "arguments": json.dumps({"query": question})}
        call: Any = {"id": "search", "type": "function", "function": function}
        return Completion(model="extractive", tool_calls=[call], cost_usd=0)
    draft = await answer(question, json.loads(str(messages[-1]["content"])))
    await on_text(draft.text)
    return Completion(model="extractive", draft=draft, cost_usd=0)


async def answer(question: str, passages: list[dict[str, Any]]) -> Draft:
    """Up to 500 characters from each of the best passages, from the three sentences on that fit best."""
    split = [sentences(passage["text"]) for passage in passages]
    target, *rest = await asyncio.to_thread(minilm.embed, [question, *(s for parts in split for s in parts)])
    vectors, wanted, found, best = iter(rest), _words(question), set[str](), []
    for passage, parts in zip(passages, split, strict=True):
        meanings, fits = [next(vectors) for _ in parts], []
        likeness = [sum(map(mul, meaning, target)) for meaning in meanings]
        for start in range(max(1, len(parts) - 2)):
            window, alike = meanings[start : start + 3], likeness[start : start + 3]
            words = _words(" ".join([passage["source"], passage["heading"], *parts[start : start + 3]]))
            similarity = (sum(alike) / hypot(*map(sum, zip(*window, strict=True))) + max(alike)) / 2
            fits.append((similarity + 0.3 * len(wanted.keys() & words) / max(1, len(wanted)), start))
            found.update(words)
        (fit, start), end = max(fits), max(fits)[1] + 3
        while end < len(parts) and len("".join(parts[start : end + 1])) <= 500:
            end += 1
        best.append((fit, Quote(passage=passage["passage"], quote="".join(parts[start:end]).strip())))
    best = sorted(best, key=lambda scored: -scored[0])[:3]
    unknown = [word for key, word in wanted.items() if key not in found and not minilm.is_common(word)]
    if unknown or not best or best[0][0] < ENOUGH:
        return Draft(answered=False, text=f"Nothing in the documents answers this. {NOTICE}", quotes=[])
    quotes = [quote for fit, quote in best if fit > 0.75 * best[0][0]]  # the others are of something else
    return Draft(answered=True, text="\n\n".join([*(quote.quote for quote in quotes), NOTICE]), quotes=quotes)


def sentences(text: str) -> list[str]:
    """Sentences, ends of paragraphs and items of lists; joined, they are the text again."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in pairwise(ends) if start < end]


def _words(text: str) -> dict[str, str]:  # by their first letters, so that sort, sorts and sorting are one
    return {word[:5]: word for word in re.findall(r"[^\W_]{3,}", text.lower()) if word not in COMMON.split()}

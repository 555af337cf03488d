"""The stand-in for a language model."""

import json
from typing import Any
from unittest.mock import AsyncMock

import pytest

from embedded import extractive

BILLING = "Invoices are sent monthly. They are kept for ten years. The portal shows three of them."


async def draft(question: str) -> Any:
    found = json.dumps([{"passage": 4, "source": "billing.md", "heading": "Invoices", "text": BILLING}])
    tool: Any = {"role": "tool", "tool_call_id": "1", "content": found}
    return (await extractive.complete([{"role": "user", "content": question}, tool], AsyncMock())).draft


@pytest.mark.anyio
async def test_it_quotes_what_answers_the_question_and_refuses_what_nothing_answers() -> None:
    answer, refusal = await draft("How long are invoices kept?"), await draft("Who won the football match in Lisbon?")
    assert (answer.answered, refusal.answered) == (True, False)
    assert "kept for ten years" in answer.quotes[0].quote and answer.quotes[0].quote in BILLING

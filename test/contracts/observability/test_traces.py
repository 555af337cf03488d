"""One trace a question, from a request through the queue down to the calls of the model."""

from collections.abc import Sequence

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import main, observability, workflows
from app.agent import Question
from app.settings import settings
from tests.fake_openai import FakeOpenAI


def path(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> list[str]:
    above = {other.context.span_id: other for other in spans if other.context}
    names = [span.name]
    while span.parent and span.parent.span_id in above:
        span = above[span.parent.span_id]
        names.insert(0, span.name)
    return names


@pytest.mark.anyio
async def test_a_question_is_one_trace(
    database_server: None, model: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "llm_api_key", "a-secret-key")
    exporter = InMemorySpanExporter()
    async with main.stack(8, sample=True):
        provider = trace.get_tracer_provider()
        assert isinstance(provider, TracerProvider) or hasattr(provider, "add_span_processor")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        with observability.span("request"):
            run_id = await workflows.start_question(Question(question="How long are invoices kept?"))
            run = await workflows.wait(run_id, 60)
            observability.answered(run and run.result)
    assert run and run.status == "succeeded"
    spans = exporter.get_finished_spans()
    calls = [span for span in spans if span.name.startswith("chat ")]
    assert [path(call, spans)[:4] for call in calls] == [
        ["request", "start question", "question", "llm 1"],
        ["request", "start question", "question", "llm 2"],
    ]
    assert run.trace_url is None
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    for span in spans:
        if span.name in ("request", "question"):
            shown = str(dict(span.attributes or {}))
            assert "How long are invoices kept?" in shown
            assert "kept for ten" in shown
    told = str(dict(calls[-1].attributes or {}))  # each tool has its own names for it
    assert settings.llm_model in told
    assert "1000" in told  # tokens
    assert "0.00021" in told  # what it cost
    assert "kept for ten" in told
    assert "How long are invoices kept?" in told
    assert "a-secret-key" not in str([span.to_json() for span in spans])
    assert caplog.text.count("Traces are not kept") <= 1


@pytest.mark.anyio
async def test_doctor_is_told_that_nothing_is_kept() -> None:
    [found] = [detail async for detail in observability.diagnose()]
    assert "not kept" in found

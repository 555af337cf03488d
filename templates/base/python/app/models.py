"""What the parts of the service hand to each other."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]  # databases take no NUL
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class UserError(Exception):
    """What a user can mend; the message says how. Any other error is a bug, and keeps its traceback."""


class Fault(UserError):
    """What `doctor` finds amiss: the cause, and what to do about it."""

    def __init__(self, cause: str, remedy: str, status: Literal["failed", "warning"] = "failed") -> None:
        super().__init__(cause)
        self.remedy, self.status = remedy, status


class Check(BaseModel):
    """A line of `doctor`. What is skipped needs what has failed before it."""

    name: str
    status: Literal["ok", "warning", "failed", "skipped"]
    detail: str
    remedy: str | None = None


class Document(BaseModel):
    id: UUID
    source: str
    content_hash: str
    metadata: dict[str, str] = {}
    chunks: int = 0


class Chunk(BaseModel):
    position: int
    heading: str
    text: str


class Hit(Chunk):
    document_id: UUID
    source: str
    score: float


class Citation(BaseModel):
    document_id: UUID
    source: str
    position: int
    heading: str
    quote: str  # stands word for word in the passage


class Answer(BaseModel):
    """`refused`: the documents do not answer. `stopped`: the limit that ended the run. `cost_usd`: where known."""

    text: str
    citations: list[Citation] = []
    refused: bool = False
    stopped: Literal["steps", "time", "cost"] | None = None
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class Step(BaseModel):
    number: int
    name: str
    attempts: int
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None


class Run(BaseModel):
    id: str
    kind: str
    subject: str  # the question, or the source of the document
    status: Status
    created_at: datetime
    finished_at: datetime | None = None
    steps: list[Step] = []
    result: Answer | Document | None = None
    error: str | None = None
    unreadable: bool = False  # the document cannot be taken in; `error` says why
    url: str | None = None  # where the workflow engine shows it
    traceparent: str | None = None
    trace_url: str | None = None


class Feedback(BaseModel):
    helpful: bool
    comment: Annotated[Text, Field(max_length=4_000)] = ""


class Event(BaseModel):
    """Something that happened in a run. `number` counts from 1: a reader resumes after it."""

    number: int
    type: Literal["step", "text"]
    data: dict[str, Any]

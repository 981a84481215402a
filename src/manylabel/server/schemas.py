"""The shapes of the answers, for the OpenAPI document; what is sent is built from `Prediction` itself."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ErrorReason(BaseModel):
    """Why there is no answer: `kind` for programs, `message` for people."""

    kind: str
    message: str


class ErrorAnswer(BaseModel):
    """The answer to a request that could not be served."""

    error: ErrorReason


class PredictionAnswer(BaseModel):
    """The answer for one image, the same as in Python and on the command line."""

    image: str = Field(description="What the request called the image.")
    labels: list[str] | None = Field(
        description="The labels in order of their margin above the threshold; null where the image cannot be used."
    )
    probabilities: dict[str, float] = Field(description="Of the given labels, or of all with all_probabilities.")
    thresholds: dict[str, float] = Field(description="Of the same labels: given where probability >= threshold.")
    model: str = Field(description="The digest of the model that answered.")
    error: ErrorReason | None = Field(description="Why the image cannot be used, or null.")


class ExplanationAnswer(BaseModel):
    """Where in an image the evidence for a label lies."""

    image: str
    label: str
    probability: float
    map: list[list[float]] = Field(
        description="Rows from the top: the log-odds that the label loses, beside the others, where a place is hidden."
    )
    peak: list[float] = Field(description="Where that is most, as shares of width and height from the upper left.")
    notes: list[str] = Field(description="What is doubtful about the map.")
    model: str


class RuleEffectAnswer(BaseModel):
    """What one rule of the model changed about the labels of an image."""

    rule: str = Field(description="The rule in words.")
    added: list[str] = Field(description="What it gives although the probability is below the threshold.")
    removed: list[str] = Field(description="What it leaves out although the probability reaches the threshold.")


class DecisionAnswer(BaseModel):
    """The labels of one image for thresholds that were moved."""

    labels: list[str] = Field(description="The labels in order of their margin above the threshold.")
    probabilities: dict[str, float] = Field(description="Of the given labels.")
    thresholds: dict[str, float] = Field(description="Of the given labels: the moved one, or the model's.")
    by_rules: list[RuleEffectAnswer] = Field(description="What rules changed; the list is empty where none did.")
    notes: list[str] = Field(description="What the model no longer promises with moved thresholds.")
    model: str = Field(description="The digest of the model whose policy decided.")
    needs_person: bool = Field(
        default=False, description="Whether a person should look at the image; only where the model abstains."
    )


class LabelThreshold(BaseModel):
    """A label and from which probability it is given."""

    label: str
    threshold: float


class LabelsAnswer(BaseModel):
    """The labels of the model in their order."""

    labels: list[LabelThreshold]
    model: str


class ModelAnswer(BaseModel):
    """Which model answers, and what it sees of an image."""

    model: str
    num_labels: int
    image_width_px: int
    image_height_px: int
    resize: str
    backbone: str
    head: str


class StatusAnswer(BaseModel):
    """The state of the server in one word."""

    status: str


_PREDICTION = {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionAnswer"}}}
_UNUSABLE: dict[str, Any] = {
    "application/json": {
        "schema": {
            "anyOf": [
                {"$ref": "#/components/schemas/PredictionAnswer"},
                {"type": "array", "items": {"$ref": "#/components/schemas/PredictionAnswer"}},
                {"$ref": "#/components/schemas/ErrorAnswer"},
            ]
        }
    }
}

PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The answer for the image of a raw body, or a list with one for each image of a form.",
        "model": PredictionAnswer | list[PredictionAnswer],
    },
    400: {"description": "The image is damaged, or the body or form is.", "content": _UNUSABLE},
    408: {"description": "The body did not arrive in time.", "model": ErrorAnswer},
    413: {"description": "The body or the image is too large, or there are too many.", "content": _UNUSABLE},
    415: {"description": "The body is no image in a supported format.", "content": _UNUSABLE},
    422: {"description": "A parameter is unknown or wrong, or the image makes its decoder fail.", "content": _UNUSABLE},
    503: {"description": "Busy: try again after Retry-After seconds.", "model": ErrorAnswer},
}
"""What `POST /predict` answers."""

PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one image, or a form with up to 32 files; at most 20 MB.",
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "maxItems": 32,
                        }
                    },
                    "required": ["images"],
                }
            },
        },
    }
}
"""What `POST /predict` takes; the handler reads the body itself, to bound it while it arrives."""

EXPLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The image is damaged, or the body is.", "model": ErrorAnswer},
    408: {"description": "The body did not arrive in time.", "model": ErrorAnswer},
    413: {"description": "The body or the image is too large.", "model": ErrorAnswer},
    415: {"description": "The body is no image in a supported format.", "model": ErrorAnswer},
    422: {
        "description": "A parameter or the label is unknown, or the image makes its decoder fail.",
        "model": ErrorAnswer,
    },
    503: {"description": "Busy: try again after Retry-After seconds.", "model": ErrorAnswer},
}
"""What `POST /explain` answers."""

EXPLAIN_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The bytes of one image; at most 20 MB.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "application/octet-stream")
        },
    }
}
"""What `POST /explain` takes."""

DECIDE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The decision for a table of probabilities, or a list with one for each table of a list.",
        "model": DecisionAnswer | list[DecisionAnswer],
        "content": {
            "application/json": {
                "example": {
                    "labels": ["dog", "animal"],
                    "probabilities": {"dog": 0.75, "animal": 0.75},
                    "thresholds": {"dog": 0.625, "animal": 0.875},
                    "by_rules": [{"rule": "dog implies animal", "added": ["animal"], "removed": []}],
                    "notes": [],
                    "model": "7f00963c20097029",
                }
            }
        },
    },
    400: {"description": "The body is empty, or no JSON in UTF-8.", "model": ErrorAnswer},
    408: {"description": "The body did not arrive in time.", "model": ErrorAnswer},
    413: {"description": "The body is larger than 2 MB, or has more than 32 images.", "model": ErrorAnswer},
    415: {"description": "The Content-Type is not application/json.", "model": ErrorAnswer},
    422: {
        "description": "A label is unknown, missing or stands twice, a number is none from 0 to 1, or the JSON is not "
        "of this shape or has more than 32 tables and lists in one another.",
        "model": ErrorAnswer,
    },
    503: {"description": "Busy: try again after Retry-After seconds.", "model": ErrorAnswer},
}
"""What `POST /decide` answers."""

_SHARES: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}

DECIDE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The probabilities of all labels, as /predict?all_probabilities=true shows them, of one image "
        "or of up to 32; and the thresholds that are moved. At most 2 MB.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "probabilities": {
                            "anyOf": [_SHARES, {"type": "array", "items": _SHARES, "minItems": 1, "maxItems": 32}]
                        },
                        "thresholds": _SHARES,
                    },
                    "required": ["probabilities"],
                    "additionalProperties": False,
                },
                "example": {
                    "probabilities": {"animal": 0.75, "dog": 0.75, "car": 0.125},
                    "thresholds": {"dog": 0.625, "animal": 0.875},
                },
            }
        },
    }
}
"""What `POST /decide` takes; the handler reads the body itself, to bound it before it is JSON."""

GUARD_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"description": "The server has a token and the request has not.", "model": ErrorAnswer},
    403: {"description": "A page of another site sent the request.", "model": ErrorAnswer},
    421: {"description": "The Host header is not one of the server's names.", "model": ErrorAnswer},
    429: {"description": "Too many wrong tokens.", "model": ErrorAnswer},
}
"""What the guard in front of every path may answer."""

"""Finding: one thing that a person should know about their data, and every kind of it that there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What is the matter, how bad it is, where, and what cures it.

    `error` means that training on the table as it is would fail or mislead; `warning`, that a person should look;
    `note`, that something was decided for them. `kind` is a stable word for programs (a row of `FINDING_KINDS`),
    `rows` are image ids or label names.
    """

    severity: Severity
    kind: str
    message: str
    rows: tuple[str, ...] = ()
    fix: str = ""

    def to_dict(self) -> Mapping[str, object]:
        """Return the finding as INTERFACE's JSON."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "message": self.message,
            "rows": list(self.rows),
            "fix": self.fix,
        }


@dataclass(frozen=True)
class FindingKind:
    """How bad a kind of finding is, what its rows are, and what cures it (an imperative without a full stop)."""

    severity: Severity
    rows: str
    cure: str


FINDING_KINDS: Mapping[str, FindingKind] = {
    # Files.
    "missing-image": FindingKind("error", "images", "Correct the paths in the table, or remove the rows"),
    "image-missing": FindingKind("error", "images", "Correct the paths in the table, or remove the rows"),
    "image-empty": FindingKind("error", "images", "Copy the files again, or remove the rows"),
    "image-broken": FindingKind("error", "images", "Copy the files again, or remove the rows"),
    "image-unreadable": FindingKind("error", "images", "Give yourself the right to read them, or remove the rows"),
    "image-not-a-file": FindingKind("error", "images", "Put files in their place, or remove the rows"),
    "image-unsupported-format": FindingKind("error", "images", "Convert them to JPEG or PNG, or remove the rows"),
    "image-too-large": FindingKind("error", "images", "Make them smaller, or remove the rows"),
    "image-too-many-scans": FindingKind("error", "images", "Save them again as ordinary JPEG, or remove the rows"),
    "image-tiny": FindingKind("warning", "images", "Look whether they are thumbnails; remove the rows if they are"),
    "image-huge": FindingKind("note", "images", "Make smaller copies if reading them slows training down"),
    "image-misnamed": FindingKind("note", "images", "Nothing to do here; rename them if other programs read them"),
    "image-turned": FindingKind("note", "images", "Nothing to do here: they are turned upright before use"),
    # Duplicates.
    "duplicate-in-two-parts": FindingKind(
        "error", "images", "Split anew with 'manylabel split --fresh': it keeps such images together"
    ),
    "contradicting-duplicates": FindingKind("warning", "images", "Decide on the labels of each picture"),
    "exact-duplicate": FindingKind("note", "images", "Keep one of each"),
    "near-duplicate": FindingKind("note", "images", "Nothing to do: 'manylabel split' keeps them in one part"),
    # Rows.
    "repeated-image": FindingKind("note", "images", "Nothing to do; what is written has each once"),
    "contradicting-rows": FindingKind("warning", "images", "Decide on one row per image"),
    "image-in-two-parts": FindingKind("error", "images", "Keep each image in one part"),
    "group-in-two-parts": FindingKind(
        "error", "images", "Split anew with 'manylabel split --fresh': it keeps groups together"
    ),
    "outside-label-folder": FindingKind("warning", "images", "Move them into label folders"),
    "missing-mask": FindingKind("warning", "images", "Add their masks, or remove the images"),
    "image-without-label": FindingKind("note", "images", "Nothing to do if none of the labels fits them"),
    "image-without-known-label": FindingKind("warning", "images", "Label them, or remove the rows"),
    "cells-decided": FindingKind("note", "none", "Nothing to do if the flag was meant"),
    "unknown-cells": FindingKind("note", "labels", "Nothing to do; look at these images first when you label more"),
    # Labels.
    "label-without-positive": FindingKind("warning", "labels", "Add images, or remove these labels"),
    "label-without-negative": FindingKind("warning", "labels", "Add images without them, or remove these labels"),
    "label-too-rare": FindingKind("warning", "labels", "Add images with them, merge them into others or remove them"),
    "rare-label": FindingKind("warning", "labels", "Add images with them"),
    "label-missing-in-part": FindingKind(
        "warning", "labels", "Split anew with 'manylabel split --fresh', or add images with them"
    ),
    "label-named-missing": FindingKind(
        "warning", "labels", "If it means that nobody knows, remove it and mark the labels of its images as unknown"
    ),
    "same-label": FindingKind("warning", "labels, each followed by the name to keep", "Rename the one to the other"),
    "similar-labels": FindingKind(
        "warning", "labels, each followed by the more frequent one", "Rename the one to the other if they mean the same"
    ),
    "identical-labels": FindingKind("warning", "labels, in pairs", "Keep one of them if they mean the same"),
    "implied-label": FindingKind("note", "labels, each with the one it never lacks", "Nothing to do if that is so"),
    "co-occurring-labels": FindingKind("note", "labels, in pairs", "Nothing to do; expect them to be confused"),
    # Columns.
    "doubtful-column": FindingKind("warning", "columns", "Correct it if it is a label"),
    "text-column": FindingKind("note", "columns", "Nothing to do; --label-column reads the labels from it instead"),
    "contradicting-column": FindingKind("warning", "images", "Decide which is right, or read one with --label-column"),
}
"""Every kind of finding: what `docs/reference/findings.md` explains, in the same order."""


def build_finding(kind: str, message: str, rows: Iterable[str] = ()) -> Finding:
    """Return a finding of a kind with the severity and the cure that the kind has."""
    known = FINDING_KINDS[kind]
    return Finding(known.severity, kind, message, tuple(rows), known.cure)

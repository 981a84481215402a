"""The manifest of a bundle: labels, preprocessing, decisions and provenance as JSON, checked when read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError, ManylabelError, build_message
from manylabel.labels.space import LabelSpace

SCHEMA_VERSION = 2
"""Raised when an older manylabel could misread a newer manifest: 2 may hold a calibration, rules and an abstention.

A manifest of version 1 is read as one of version 2 without those: its policy has only the keys that it had, so that its
digest stays the same.
"""

_REQUIRED = ("schema_version", "labels", "preprocess", "policy", "backbone", "head", "provenance", "files")


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle knows beside its weights; `files` maps each file to its SHA-256."""

    label_space: LabelSpace
    preprocess: Preprocess
    policy: DecisionPolicy
    backbone: Mapping[str, Any]
    head: Mapping[str, Any]
    provenance: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify what the model answers: weights, labels, pixels and decisions."""
        answering = {
            "labels": self.label_space.names,
            "preprocess": self.preprocess.to_dict(),
            "policy": self.policy.to_dict(),
            "files": dict(self.files),
        }
        return hashlib.sha256(json.dumps(answering, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in `manifest.json`; `checksum` is over all the rest."""
        values = self._describe()
        return {**values, "checksum": _checksum(values)}

    def _describe(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "digest": self.digest,
            "labels": list(self.label_space.names),
            "preprocess": self.preprocess.to_dict(),
            "policy": self.policy.to_dict(),
            "backbone": dict(self.backbone),
            "head": dict(self.head),
            "provenance": dict(self.provenance),
            "files": dict(self.files),
        }

    @classmethod
    def from_answering_part(cls, values: Mapping[str, Any], network_sha256: str, where: str) -> Manifest:
        """Read what an ONNX file holds beside its network; where it came from and how it was trained are not there.

        Raises:
            BundleError: as `from_dict`.
        """
        known = {**values, "provenance": {}, "files": {"model.onnx": network_sha256}}
        return cls.from_dict(known, where, is_sealed=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str, *, is_sealed: bool = True) -> Manifest:
        """Read what `to_dict` wrote; `is_sealed` demands the digest and checksum of it.

        Raises:
            BundleError: a key is missing, the schema is newer than this manylabel, or the digest does not fit.
        """
        missing = [key for key in _REQUIRED if key not in values]
        if missing:
            raise BundleError(build_message(where, f"the manifest lacks {missing[0]!r}", do="Export the model again"))
        version = values["schema_version"]
        if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
            raise BundleError(
                build_message(
                    where,
                    "the manifest is of a kind that this manylabel does not know",
                    got=version,
                    expected=f"1 to {SCHEMA_VERSION}",
                    do="Upgrade manylabel",
                )
            )
        try:
            space = LabelSpace(tuple(values["labels"]))
            manifest = cls(
                space,
                Preprocess.from_dict(values["preprocess"]),
                DecisionPolicy.from_dict(values["policy"], space),
                dict(values["backbone"]),
                dict(values["head"]),
                dict(values["provenance"]),
                dict(values["files"]),
            )
        except (TypeError, AttributeError, ValueError, KeyError, ManylabelError) as error:
            raise BundleError(
                build_message(where, f"the manifest is damaged ({str(error).rstrip('.')})", do="Export the model again")
            ) from error
        if not is_sealed:
            return manifest
        checksum = _checksum({key: value for key, value in values.items() if key != "checksum"})
        for key, computed in (("digest", manifest.digest), ("checksum", checksum)):
            if values.get(key) != computed:
                problem = f"the manifest was changed after it was written: its {key} does not fit"
                raise BundleError(
                    build_message(where, problem, got=values.get(key), expected=computed, do="Export the model again")
                )
        return manifest


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

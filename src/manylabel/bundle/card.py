"""The model card: what the model is, for a person who finds its folder."""

from __future__ import annotations

from manylabel.bundle.bundle import CARD_NAME, Bundle
from manylabel.bundle.manifest import Manifest
from manylabel.decisions.calibrate import NO_CALIBRATION
from manylabel.decisions.policy import DecisionPolicy
from manylabel.files import write_text_atomically

_TEMPLATE = """# {title}

A multi-label image classifier made with manylabel: every image gets any number of these {num_labels} labels, also none.

| | |
|---|---|
| Backbone | {backbone} |
| Image size | {width} x {height} px |
| Trained | {created}, on {num_train} images |
| Chosen by | `{monitor}` = {monitor_value} on {num_val} validation images |
| Thresholds | for `{goal}`, chosen on the validation images |
| Calibration | {calibration} |
| Rules | {rules} |
| Digest | `{digest}` |

## Use

```console
manylabel predict THIS_FOLDER IMAGES...
```

```python
import manylabel as ml
model = ml.load("THIS_FOLDER")
print(model.predict("image.jpg").labels)
```

Without manylabel: `model.onnx` takes float32 images `[batch, 3, height, width]` as `manifest.json` says under
`preprocess`, and gives a probability per label; a label is given where its probability is at least its threshold.
{after}

{results}## Labels and thresholds

| label | given from | threshold of |
|---|---|---|
{rows}
"""


def save_card(bundle: Bundle, results: str = "") -> None:
    """Write the card of a bundle, with what was measured about it; new thresholds make a card without it.

    Raises:
        RunError: the file cannot be written.
    """
    write_text_atomically(bundle.folder / CARD_NAME, write_card(bundle.manifest, results))


def write_card(manifest: Manifest, results: str = "") -> str:
    """Return the model card as Markdown, from the manifest and what was measured, as Markdown too."""
    policy, provenance = manifest.policy, manifest.provenance
    sources = policy.sources if policy.sources else ("",) * len(manifest.label_space)
    meaning = {"label": "its own", "global": "all labels", "": ""}
    rows = "\n".join(
        f"| {_escape(name)} | {threshold:.3f} | {meaning.get(source, source)} |"
        for name, threshold, source in zip(manifest.label_space, policy.thresholds, sources, strict=True)
    )
    monitor_value = provenance.get("monitor_value")
    return _TEMPLATE.format(
        title=_escape(str(provenance.get("name", "Model"))),
        num_labels=len(manifest.label_space),
        backbone=_escape(str(manifest.backbone.get("name", "unknown"))),
        width=manifest.preprocess.width_px,
        height=manifest.preprocess.height_px,
        created=provenance.get("created", "unknown"),
        num_train=provenance.get("num_train", "unknown"),
        num_val=provenance.get("num_val", "unknown"),
        monitor=provenance.get("monitor", "unknown"),
        monitor_value=f"{monitor_value:.3f}" if isinstance(monitor_value, float) else "undefined",
        goal=policy.goal,
        calibration=policy.calibration.method,
        rules=_escape("; ".join(str(rule) for rule in policy.rules)) if policy.rules else "none",
        after=_explain_around(policy),
        digest=manifest.digest,
        rows=rows,
        results=f"{results}\n\n" if results else "",
    )


def _explain_around(policy: DecisionPolicy) -> str:
    """Return what a decision needs beside thresholds."""
    parts = ["a calibration before that"] if policy.calibration != NO_CALIBRATION else []
    parts += ["rules after that"] if policy.rules else []
    return f"This model has {' and '.join(parts)}, as `policy` says." if parts else ""


def _escape(text: str) -> str:
    """Keep a hostile name from ending a table cell or starting markup."""
    for sign in ("\\", "|", "<", "`", "[", "*", "_"):
        text = text.replace(sign, "&lt;" if sign == "<" else f"\\{sign}")
    return text

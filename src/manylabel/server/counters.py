"""Counters: what the server has done, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Counter:
    """A number that only grows, for each value of one label (or for none)."""

    def __init__(self, name: str, text: str, label: str = "") -> None:
        self._name, self._text, self._label = name, text, label
        self._values: dict[str, int] = {} if label else {"": 0}

    def add(self, value: str = "") -> None:
        """Count one more."""
        self._values[value] = self._values.get(value, 0) + 1

    def read(self, value: str = "") -> int:
        """Return how many there were."""
        return self._values.get(value, 0)

    def write(self) -> Iterable[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self._name} {self._text}"
        yield f"# TYPE {self._name} counter"
        for value, number in sorted(self._values.items()):
            yield f'{self._name}{{{self._label}="{value}"}} {number}' if self._label else f"{self._name} {number}"


class Histogram:
    """How long something took, in buckets."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._numbers = [0] * (len(_BUCKETS_SECONDS) + 1)
        self._sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one that took so long."""
        self._numbers[bisect_left(_BUCKETS_SECONDS, seconds)] += 1
        self._sum_seconds += seconds

    def write(self) -> Iterable[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self._name} {self._text}"
        yield f"# TYPE {self._name} histogram"
        total = 0
        for bound, number in zip((*_BUCKETS_SECONDS, None), self._numbers, strict=True):
            total += number
            yield f'{self._name}_bucket{{le="{"+Inf" if bound is None else f"{bound:g}"}"}} {total}'
        yield f"{self._name}_sum {self._sum_seconds:.6f}"
        yield f"{self._name}_count {total}"


class Counters:
    """All that `/metrics` counts; values that rise and fall are given to `write`."""

    def __init__(self) -> None:
        self.requests = Counter("manylabel_requests_total", "Answered requests by HTTP status.", "status")
        self.images = Counter("manylabel_images_total", "Images by outcome: answered, or why not.", "outcome")
        self.dropped = Counter("manylabel_dropped_total", "Images dropped before inference: too late or client gone.")
        self.decoder_deaths = Counter("manylabel_decoder_deaths_total", "Decoder processes that ended.")
        self.reloads = Counter("manylabel_reloads_total", "Reloads of the model by outcome.", "outcome")
        self.request_seconds = Histogram("manylabel_request_seconds", "From the head of a request to its answer.")
        self.decode_seconds = Histogram("manylabel_decode_seconds", "Decoding and resizing one image.")
        self.batch_seconds = Histogram("manylabel_batch_seconds", "The network on one batch of images.")

    def write(self, gauges: Mapping[str, tuple[str, float]], model: str) -> str:
        """Return the page; `gauges` gives name: (help text, value)."""
        lines = [
            "# HELP manylabel_model The model that answers.",
            "# TYPE manylabel_model gauge",
            f'manylabel_model{{digest="{model}"}} 1',
        ]
        for name, (text, value) in gauges.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {value:g}"]
        for counted in vars(self).values():
            lines += counted.write()
        return "\n".join(lines) + "\n"

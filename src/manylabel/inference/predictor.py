"""Predictor: a bundle that answers, one image at a time or many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from manylabel.bundle.bundle import Bundle, load_bundle
from manylabel.cores import count_cores
from manylabel.data.annotations import Annotations
from manylabel.data.images import ImageError
from manylabel.data.preprocess import Preprocess
from manylabel.decisions.policy import DecisionPolicy
from manylabel.errors import BundleError, ConfigError, build_message
from manylabel.inference.engines import REFERENCE, Engine, EngineChoice, choose_engine, open_engine
from manylabel.inference.prediction import Prediction
from manylabel.labels.predictions import Predictions
from manylabel.labels.space import LabelSpace

ImageSource = str | os.PathLike[str] | bytes | npt.NDArray[np.generic] | Image.Image
Item = TypeVar("Item")

_IMAGES_AHEAD = 256
"""How many images are in the works before their turn: enough to go on with while a part of the answers is written."""

_BYTES_AHEAD = 2**25
"""How much they may hold where they are no files but bytes, as those of an archive; one image may be larger."""

_FEW = 4
"""So many images are worth a network for several at once."""


class Predictor:
    """A loaded model: images in, label sets out; torch is not needed.

    The network sees one image at a time: on a CPU a batch is not faster, and the answer for an image never depends on
    its neighbours. Of many images several are in the works at once, each with one core.
    """

    def __init__(self, bundle: Bundle, num_threads: int | None = None, engine: str = REFERENCE) -> None:
        """Open the network of a bundle.

        Args:
            bundle: the model.
            num_threads: how many cores an answer uses; None takes all.
            engine: one of `ENGINES`, or `auto` for the fastest that is installed and answers alike; what was measured
                is kept, so that the next time takes nothing.

        Raises:
            BundleError: the network cannot be used, or is not that of the manifest.
            ConfigError: no such engine, or it is not installed; fewer than one thread.
        """
        if num_threads is not None and num_threads < 1:
            raise ConfigError(build_message("num_threads", "too few", got=num_threads, expected="1 or more, or None"))
        self.bundle = bundle
        self.engine_choice: EngineChoice | None = None
        network = bundle.read_network()
        if engine == "auto":
            from manylabel.data.scan import find_cache_folder  # SQLite: not every answer needs it

            shape = (3, self.preprocess.height_px, self.preprocess.width_px)
            self.engine_choice = choose_engine(network, shape, num_threads, find_cache_folder())
            engine = self.engine_choice.name
        self.engine_name = engine
        self._engine = open_engine(network, engine, num_threads)
        self._engine_for_many = self._engine if num_threads == 1 or count_cores() == 1 else None
        self._check_shapes()

    @property
    def label_space(self) -> LabelSpace:
        """The labels and their order."""
        return self.bundle.manifest.label_space

    @property
    def preprocess(self) -> Preprocess:
        """What is done to an image before the network sees it."""
        return self.bundle.manifest.preprocess

    @property
    def policy(self) -> DecisionPolicy:
        """How probabilities become label sets."""
        return self.bundle.manifest.policy

    def predict(self, image: ImageSource, name: str | None = None, *, top_k: int | None = None) -> Prediction:
        """Return the labels of one image; one that cannot be used gives a Prediction with `error` set.

        Args:
            image: a path, the bytes of a file, an array (height x width, or height x width x 3), or a Pillow image.
            name: what the answer calls the image; by default its path.
            top_k: gives the k most probable labels instead of those above their thresholds.
        """
        shown = name if name is not None else str(image) if isinstance(image, str | os.PathLike) else "image"
        return self._describe(shown, self._answer(self._engine, image, shown), top_k)

    def predict_many(
        self, images: Iterable[str | os.PathLike[str]], *, top_k: int | None = None
    ) -> Iterator[Prediction]:
        """Yield a Prediction for each path, in order; images are decoded ahead in threads.

        Raises:
            BundleError: the files of the model were replaced since it was loaded.
        """
        return self.predict_sources(((str(image), image) for image in images), top_k=top_k)

    def predict_sources(
        self, sources: Iterable[tuple[str, ImageSource | ImageError]], *, top_k: int | None = None
    ) -> Iterator[Prediction]:
        """Yield a Prediction for each name and what is to be read for it, or why there is nothing, in order."""
        for shown, raw in self._answer_ahead(sources):
            yield self._describe(shown, raw, top_k)

    def predict_annotations(
        self, annotations: Annotations
    ) -> Iterator[tuple[int, npt.NDArray[np.float32] | ImageError]]:
        """Yield (row, probabilities [L] or the reason why there are none) for every image of a table, in order."""
        sources = ((record.id, record.source) for record in annotations.records)
        for row, (_, raw) in enumerate(self._answer_ahead(sources)):
            yield row, raw

    def _check_shapes(self) -> None:
        """Stop where the network and the manifest speak of different images or numbers of labels.

        Raises:
            BundleError: with what each of them says.
        """
        wanted = ((3, self.preprocess.height_px, self.preprocess.width_px), (len(self.label_space),))
        given = (self._engine.input_shape, self._engine.output_shape)
        for kind, found, shape in zip(("images", "labels"), given, wanted, strict=True):
            if found != shape:
                raise BundleError(
                    build_message(
                        self.bundle.onnx_path,
                        f"the network's {kind} are not those of the manifest",
                        got=found,
                        expected=str(shape),
                        do="Export the model again",
                    )
                )

    def _answer(
        self, engine: Engine, image: ImageSource | ImageError, name: str
    ) -> npt.NDArray[np.float32] | ImageError:
        """Return what the network says of an image, or why it cannot."""
        if isinstance(image, ImageError):
            return image
        try:
            pixels_CHW = self.preprocess.load(image, name=name)
        except ImageError as error:
            return error
        return _answer_one(engine, pixels_CHW)

    def _answer_ahead(
        self, sources: Iterable[tuple[str, ImageSource | ImageError]]
    ) -> Iterator[tuple[str, npt.NDArray[np.float32] | ImageError]]:
        """Yield name and answer of each source, in order; of more than a few, several are answered at once."""
        left = iter(sources)
        first = list(islice(left, _FEW))
        if len(first) < _FEW:
            for name, source in first:
                yield name, self._answer(self._engine, source, name)
            return
        if self._engine_for_many is None:
            self._engine_for_many = open_engine(self.bundle.read_network(), self.engine_name, 1)
        engine = self._engine_for_many
        waiting: deque[tuple[str, int, Future[npt.NDArray[np.float32] | ImageError]]] = deque()
        num_bytes = 0
        with ThreadPoolExecutor(max_workers=count_cores()) as pool:
            try:
                for name, source in chain(first, left):
                    size = len(source) if isinstance(source, bytes) else 0
                    waiting.append((name, size, pool.submit(self._answer, engine, source, name)))
                    num_bytes += size
                    while len(waiting) >= _IMAGES_AHEAD or (num_bytes > _BYTES_AHEAD and len(waiting) > 1):
                        shown, size, future = waiting.popleft()
                        num_bytes -= size
                        yield shown, future.result()
                while waiting:
                    shown, _, future = waiting.popleft()
                    yield shown, future.result()
            finally:
                for _, _, future in waiting:
                    future.cancel()

    def answer_pixels(self, pixels_CHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what the network says of an image as `preprocess` gives it: probabilities [L], before calibration."""
        return _answer_one(self._engine, pixels_CHW)

    def _describe(self, name: str, raw: npt.NDArray[np.float32] | ImageError, top_k: int | None) -> Prediction:
        if isinstance(raw, ImageError):
            error = {"kind": raw.kind, "message": str(raw)}
            needs_person = None if self.policy.abstention is None else True
            return Prediction(name, None, model=self.bundle.digest, error=error, needs_person=needs_person)
        probs_L = self.policy.adjust(raw)
        columns = (
            self.policy.order(raw)
            if top_k is None
            else [int(column) for column in np.argsort(-probs_L, kind="stable")[:top_k]]
        )
        names = self.label_space.names
        return Prediction(
            name,
            tuple(names[column] for column in columns),
            dict(zip(names, probs_L.tolist(), strict=True)),
            dict(zip(names, self.policy.thresholds, strict=True)),
            self.bundle.digest,
            needs_person=None if self.policy.abstention is None else bool(self.policy.is_doubtful(raw)),
        )


def _answer_one(engine: Engine, pixels_CHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(engine.run(pixels_CHW[np.newaxis])[0], np.float32)


def load(path: str | os.PathLike[str], num_threads: int | None = None, engine: str = REFERENCE) -> Predictor:
    """Load a model from a bundle, a run folder or an ONNX file of ours; neither torch nor the training code is needed.

    Args and Raises: as `Predictor` and `load_bundle`.
    """
    return Predictor(load_bundle(path), num_threads, engine)


def collect_predictions(
    predictor: Predictor, annotations: Annotations, on_image: Callable[[], None] | None = None
) -> tuple[Predictions, dict[str, str]]:
    """Return the predictions for the usable images of a table with their truth, and why the others have none.

    The labels of the table are matched by name; all of the table's labels have to be the model's. `on_image` is told
    after each image.
    """
    aligned = annotations.align(predictor.label_space)
    rows, probs, skipped = [], [], {}
    for row, answer in predictor.predict_annotations(aligned):
        if isinstance(answer, ImageError):
            skipped[aligned.records[row].id] = str(answer)
        else:
            rows.append(row)
            probs.append(answer)
        if on_image is not None:
            on_image()
    usable = aligned.select(rows)
    probs_NL = np.stack(probs) if probs else np.zeros((0, len(predictor.label_space)), np.float32)
    predictions = Predictions(
        usable.images, predictor.label_space, probs_NL, usable.targets, predictor.bundle.digest, usable.digest
    )
    return predictions, skipped

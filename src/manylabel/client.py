"""Client: ask a running `manylabel serve` from Python, with the standard library and typed answers.

Example, with a server on this machine:

    from manylabel.client import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("cat.jpg").labels)
"""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import urlencode, urlsplit

from manylabel.errors import ConfigError, RunError, build_message
from manylabel.inference.prediction import Prediction

if TYPE_CHECKING:
    from manylabel.decisions.reasons import Decision

ImageFile = str | os.PathLike[str] | bytes

MAX_IMAGES = 32
"""How many images go into one request."""

_BUSY = (429, 503)


class ServerError(RunError):
    """The server did not answer for the image: `status` is HTTP's (0: no connection), `kind` is the server's word."""

    def __init__(self, message: str, status: int, kind: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass
class Client:
    """One connection to a server; not to be shared between threads.

    A busy server (429, 503) is asked again after the time that it suggests, up to `num_tries` times in all.

    Args:
        url: where the server is, such as `http://127.0.0.1:8000`; https is spoken by what stands in front of it.
        token: what the server was started with, if anything.
        timeout_seconds: how long to wait for the network, each time.
        num_tries: how often a request is sent at most.
    Raises:
        ConfigError: the URL is not one of http or https.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    timeout_seconds: float = 60.0
    num_tries: int = 3
    _connection: http.client.HTTPConnection = field(init=False, repr=False)
    _prefix: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(build_message("url", "not the address of a server", got=self.url, expected="http://..."))
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=self.timeout_seconds)
        self._prefix = parts.path.rstrip("/")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; asking again opens it again."""
        self._connection.close()

    def predict(
        self, image: ImageFile, name: str | None = None, *, all_probabilities: bool = False, top_k: int | None = None
    ) -> Prediction:
        """Return the labels of one image; one that cannot be used gives a Prediction with `error` set.

        Args:
            image: a path, or the bytes of an image file.
            name: what the answer calls the image; by default its path, or "image".
            all_probabilities: gives the probability of every label instead of the chosen ones.
            top_k: gives the k most probable labels instead of those above their thresholds.
        Raises:
            ServerError: there is no server, or it did not answer for the image.
        """
        shown, data = _read_image(image, name)
        query = _build_query(all_probabilities, top_k, name=_encode(shown[:255]).decode()[:255])
        answer = self._ask("POST", f"/predict?{query}", data, "application/octet-stream")
        return _to_prediction(answer, shown)

    def predict_many(
        self, images: Iterable[ImageFile], *, all_probabilities: bool = False, top_k: int | None = None
    ) -> list[Prediction]:
        """Return the labels of up to 32 images, in order, from one request.

        Raises:
            ConfigError: more images than one request takes, or none.
            ServerError: as for `predict`.
        """
        named = [_read_image(image, None) for image in images]
        if not 1 <= len(named) <= MAX_IMAGES:
            raise ConfigError(build_message("images", "too many or none", got=len(named), expected="1 to 32"))
        body, content_type = _build_form(named)
        query = _build_query(all_probabilities, top_k)
        answers = self._ask("POST", f"/predict?{query}", body, content_type)
        return [_to_prediction(answer, shown) for answer, (shown, _) in zip(answers, named, strict=True)]

    @overload
    def decide(self, probabilities: Mapping[str, float], thresholds: Mapping[str, float] | None = None) -> Decision: ...

    @overload
    def decide(
        self, probabilities: Iterable[Mapping[str, float]], thresholds: Mapping[str, float] | None = None
    ) -> list[Decision]: ...

    def decide(
        self,
        probabilities: Mapping[str, float] | Iterable[Mapping[str, float]],
        thresholds: Mapping[str, float] | None = None,
    ) -> Decision | list[Decision]:
        """Return the labels of an image, or of up to 32, for their probabilities and other thresholds than the model's.

        Args:
            probabilities: those of all labels of an image, as `predict` gives them when it is asked to; or a list of
                such tables, which is answered with a list.
            thresholds: those that are moved, by label; the others stay.
        Raises:
            ConfigError: more images than one request takes, or none, or what is no table.
            ServerError: there is no server, or it could not decide.
        """
        if isinstance(probabilities, Mapping):
            return self.decide([probabilities], thresholds)[0]
        tables = list(probabilities)
        if wrong := [table for table in tables if not isinstance(table, Mapping)]:
            expected = "a table with the number of each label, or a list of them"
            raise ConfigError(build_message("probabilities", "not of this form", got=wrong[0], expected=expected))
        if not 1 <= len(tables) <= MAX_IMAGES:
            raise ConfigError(build_message("probabilities", "too many or none", got=len(tables), expected="1 to 32"))
        question = {
            "probabilities": [dict(table) for table in tables],
            "thresholds": dict(thresholds if thresholds is not None else {}),
        }
        body = json.dumps(question).encode()
        return [_to_decision(answer) for answer in self._ask("POST", "/decide", body, "application/json")]

    def read_thresholds(self) -> dict[str, float]:
        """Return the labels of the model in their order, each with its threshold."""
        return {row["label"]: row["threshold"] for row in self._ask("GET", "/labels")["labels"]}

    def read_model(self) -> dict[str, Any]:
        """Return which model answers: its digest under `model`, its image size, its backbone."""
        return dict(self._ask("GET", "/model"))

    def is_ready(self) -> bool:
        """Tell whether the server takes requests; False where there is none."""
        try:
            status, _, _ = self._send("GET", "/readyz", None, "")
        except ServerError:
            return False
        return status == 200

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Any:
        for tries_left in range(self.num_tries - 1, -1, -1):
            status, headers, answer = self._send(method, path, body, content_type)
            if status not in _BUSY or tries_left == 0:
                break
            time.sleep(_read_seconds(headers.get("Retry-After", "1")))
        if status == 200 or (isinstance(answer, list) or (isinstance(answer, dict) and "image" in answer)):
            return answer
        reason = answer.get("error", {}) if isinstance(answer, dict) else {}
        message = f"{self.url}: the server answered {status}: {reason.get('message', 'no reason given')}"
        raise ServerError(message, status, str(reason.get("kind", "")))

    def _send(self, method: str, path: str, body: bytes | None, content_type: str) -> tuple[int, Message, Any]:
        headers = {"Content-Type": content_type} if body is not None else {}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        # A server closes what has been idle; the first try may meet such a connection, a new one cannot.
        for is_last in (self._connection.sock is None, True):
            try:
                self._connection.request(method, self._prefix + path, body, headers)
                response = self._connection.getresponse()
                data = response.read()
                return response.status, response.headers, _read_json(data)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if is_last:
                    message = build_message(self.url, f"no answer ({error})", do="Check that the server runs there")
                    raise ServerError(message, 0, "no_connection") from error
        raise AssertionError("unreachable")


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:  # what stands in front of the server may answer in its own words
        return {}


def _read_seconds(text: str) -> float:
    return min(60.0, float(text)) if text.isdecimal() else 1.0


def _read_image(image: ImageFile, name: str | None) -> tuple[str, bytes]:
    if isinstance(image, bytes):
        return name if name is not None else "image", image
    try:
        return name if name is not None else str(image), Path(image).read_bytes()
    except OSError as error:
        reason = error.strerror if error.strerror else str(error)
        raise ConfigError(build_message(image, f"the file cannot be read ({reason})", do="Check the path")) from error


def _build_query(all_probabilities: bool, top_k: int | None, **more: str) -> str:
    given = {"all_probabilities": "true"} if all_probabilities else {}
    return urlencode({**more, **given, **({"top_k": str(top_k)} if top_k is not None else {})})


def _build_form(named: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    boundary = f"manylabel-{os.urandom(16).hex()}"
    parts = []
    for name, data in named:
        shown = Path(name).name[:255].replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="{shown}"\r\n'
        parts.append(_encode(head) + b"Content-Type: application/octet-stream\r\n\r\n" + data + b"\r\n")
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _encode(text: str) -> bytes:
    """File names that are no text hold lone surrogates, which UTF-8 cannot: they are sent as escapes."""
    return text.encode("utf-8", "backslashreplace")


def _to_prediction(answer: Mapping[str, Any], name: str) -> Prediction:
    labels = answer["labels"]
    return Prediction(
        name,
        None if labels is None else tuple(labels),
        dict(answer["probabilities"]),
        dict(answer["thresholds"]),
        str(answer["model"]),
        None if answer["error"] is None else dict(answer["error"]),
        answer.get("needs_person"),
    )


def _to_decision(answer: Mapping[str, Any]) -> Decision:
    from manylabel.decisions.reasons import Decision, RuleEffect  # numpy: asking for predictions does without

    effects = [
        RuleEffect(effect["rule"], tuple(effect["added"]), tuple(effect["removed"])) for effect in answer["by_rules"]
    ]
    return Decision(tuple(answer["labels"]), tuple(effects), answer.get("needs_person"))

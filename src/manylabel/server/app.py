"""The application: the paths of the interface, from a request to what decodes, answers and describes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive as StarletteReceive
from starlette.types import Scope as StarletteScope
from starlette.types import Send as StarletteSend

from manylabel.data.images import ImageError
from manylabel.errors import join_names, suggest_name
from manylabel.inference.prediction import Prediction
from manylabel.server.batching import Batcher
from manylabel.server.counters import Counters
from manylabel.server.deciding import Decider
from manylabel.server.decoding import DecoderPool
from manylabel.server.explaining import Explainer
from manylabel.server.guard import BUG, Application, Guard, Message, Receive, Scope, Send, encode_error
from manylabel.server.limits import (
    MAX_JSON_BYTES,
    MAX_NAME_LENGTH,
    Admission,
    RequestError,
    Ticket,
    read_body,
    seconds_left,
)
from manylabel.server.model import ModelPlace, ServedModel
from manylabel.server.multipart import NamedImage, clean_name, parse_form
from manylabel.server.pages import load_static, write_docs_page
from manylabel.server.schemas import (
    DECIDE_BODY,
    DECIDE_RESPONSES,
    EXPLAIN_BODY,
    EXPLAIN_RESPONSES,
    GUARD_RESPONSES,
    PREDICT_BODY,
    PREDICT_RESPONSES,
    ErrorAnswer,
    ExplanationAnswer,
    LabelsAnswer,
    ModelAnswer,
    StatusAnswer,
)
from manylabel.server.settings import ServerSettings

STATUS_OF_KIND: Mapping[str, int] = {"unsupported_format": 415, "too_large": 413, "crashed": 422, "too_slow": 422}
"""The HTTP status for an image that cannot be used, by its kind of error; 400 for the others."""

_COSTLY_PATHS: Mapping[str, int] = {"/predict": 1, "/explain": 1, "/decide": 0}
"""What there has to be room for, and the places that it takes at least in the queue of images."""

_LINGER_SECONDS = 2.0
_LINGER_BYTES = 100_000_000

AllProbabilities = Annotated[bool, Query(description="Give the probability of every label.")]
TopK = Annotated[
    int | None,
    Query(ge=1, le=100_000, description="The k most probable labels instead of those above their thresholds."),
]
Name = Annotated[
    str | None,
    Query(max_length=MAX_NAME_LENGTH, description="What the answer calls the image of a raw body; default 'image'."),
]

Label = Annotated[str, Query(max_length=MAX_NAME_LENGTH, description="The label to explain, as /labels spells it.")]


class Service:
    """Everything behind the paths: the model, the decoders, the network's threads, and what is counted."""

    def __init__(self, place: ModelPlace, settings: ServerSettings, counters: Counters) -> None:
        self.place = place
        self.settings = settings
        self.counters = counters
        self.admission = Admission(settings.max_queue)
        self.decoders = DecoderPool(settings.num_workers, counters)
        self.batcher = Batcher(settings.num_workers, counters)
        self.explainer = Explainer()
        self.decider = Decider()
        self.is_started = False
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether requests should come here: started, not on the way out, and no decoder dies again and again."""
        return self.is_started and not self.is_draining and self.decoders.is_healthy

    async def start(self) -> None:
        """Start the decoders; the model has answered once already, when it was loaded."""
        await self.decoders.start()
        self.is_started = True

    async def stop(self) -> None:
        """End the decoders and the threads; what runs may take a while, during which the event loop goes on."""
        self.is_started = False
        await self.decoders.stop()
        for part in (self.batcher, self.explainer, self.decider):
            await asyncio.to_thread(part.stop)

    async def answer(self, image: NamedImage, model: ServedModel, top_k: int | None, ticket: Ticket) -> Prediction:
        """Return the answer for one image; one that cannot be used gives a Prediction with `error` set.

        Raises:
            RequestError: 503, there was no time or no decoder for it.
        """
        try:
            pixels_HWC = await self.decoders.decode(image.data, image.name, model.predictor.preprocess, ticket)
        except ImageError as error:
            return _refuse_image(image, model, error.kind, str(error))
        except RequestError as refusal:
            if refusal.status != 422:
                raise
            return _refuse_image(image, model, refusal.kind, str(refusal))
        return await self.batcher.predict(model, pixels_HWC, image.name, top_k, ticket)

    def write_metrics(self) -> str:
        """Return the page of numbers."""
        gauges = {
            "manylabel_ready": ("1 where the server takes requests.", float(self.is_ready)),
            "manylabel_queue_images": ("Images taken on and not answered.", float(self.admission.num_images)),
            "manylabel_queue_limit": ("How many images are taken on at most.", float(self.admission.max_images)),
            "manylabel_bytes_in_flight": ("Bytes of bodies held.", float(self.admission.num_bytes)),
        }
        return self.counters.write(gauges, self.place.current.digest)


def _refuse_image(image: NamedImage, model: ServedModel, kind: str, message: str) -> Prediction:
    return Prediction(image.name, None, model=model.digest, error={"kind": kind, "message": message})


class AdmissionGate:
    """Turns requests away that there is no room for, before anything is spent on them."""

    def __init__(self, app: Application, admission: Admission, deadline_seconds: float) -> None:
        self._app = app
        self._admission = admission
        self._deadline_seconds = deadline_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] not in _COSTLY_PATHS or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        is_gone, num_images = state.get("is_gone", _is_never_gone), _COSTLY_PATHS[scope["path"]]
        ticket = self._admission.admit(self._deadline_seconds, is_gone, num_images)
        state["ticket"] = ticket

        async def send_and_release(message: Message) -> None:
            # Before the answer goes out: a client that takes it slowly keeps no place in the queue.
            ticket.release()
            await send(message)

        try:
            await self._app(scope, receive, send_and_release)
        finally:
            ticket.release()


def _is_never_gone() -> bool:
    return False


class RefusalResponse(Response):
    """The JSON of an error; where the connection ends with it, the rest of the body is read first.

    A system that closes a connection with unread bytes resets it, and the client would see the reset instead of the
    answer.
    """

    def __init__(self, refusal: RequestError) -> None:
        body = encode_error(refusal.kind, str(refusal))
        super().__init__(body, refusal.status, refusal.headers, "application/json")
        self._lingers = refusal.status == 413 and "Connection" in refusal.headers

    async def __call__(self, scope: StarletteScope, receive: StarletteReceive, send: StarletteSend) -> None:
        """Send the answer."""
        if not self._lingers:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        num_bytes = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while num_bytes < _LINGER_BYTES:
                    message = await receive()
                    num_bytes += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def build_app(service: Service) -> Application:
    """Return the whole application: the guard, the gate and the paths."""
    api = _build_api(service)
    gate = AdmissionGate(api, service.admission, service.settings.deadline_seconds)
    return Guard(gate, service.settings, service.counters, lambda: service.is_draining)


def _build_api(service: Service) -> FastAPI:
    @asynccontextmanager
    async def run_service(api: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the signature of a lifespan
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    api = FastAPI(
        title="manylabel",
        description="Which labels an image has, and how far each is from its threshold.",
        version="1",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=run_service,
        responses=GUARD_RESPONSES,
    )
    api.add_exception_handler(RequestError, _answer_refusal)
    api.add_exception_handler(Exception, _answer_bug)
    api.add_exception_handler(HTTPException, _answer_http_error)
    api.add_exception_handler(RequestValidationError, _answer_wrong_parameter)
    _add_prediction(api, service)
    _add_explanation(api, service)
    _add_decision(api, service)
    _add_descriptions(api, service)
    _add_health(api, service)
    _add_pages(api)
    return api


def _add_prediction(api: FastAPI, service: Service) -> None:
    @api.post(
        "/predict",
        responses=PREDICT_RESPONSES,
        openapi_extra=PREDICT_BODY,
        operation_id="predict",
        dependencies=[Depends(_take_only("all_probabilities", "top_k", "name"))],
    )
    async def predict(
        request: Request, all_probabilities: AllProbabilities = False, top_k: TopK = None, name: Name = None
    ) -> Response:
        """Give the labels of one image (a raw body), or of up to 32 (a form with files).

        A form is answered with 200 as soon as one of its images can be used; the others carry their error.
        """
        ticket: Ticket = request.state.ticket
        is_form = _is_form(request.headers.get("content-type", ""))
        body = await read_body(request.receive, request.headers.get("content-length"), ticket)
        if is_form:
            images = await asyncio.to_thread(parse_form, body, request.headers["content-type"])
            ticket.add_images(len(images) - 1)
        else:
            images = [NamedImage(clean_name(name if name is not None else ""), body)]
        predictions = await _answer_all(service, images, top_k, ticket)
        for prediction in predictions:
            service.counters.images.add(prediction.error["kind"] if prediction.error is not None else "answered")
        answers = [prediction.to_dict(all_probabilities) for prediction in predictions]
        return Response(_to_json(answers if is_form else answers[0]), _choose_status(predictions), None, _JSON)


def _add_explanation(api: FastAPI, service: Service) -> None:
    @api.post(
        "/explain",
        responses=EXPLAIN_RESPONSES,
        openapi_extra=EXPLAIN_BODY,
        operation_id="explain",
        response_model=ExplanationAnswer,
        dependencies=[Depends(_take_only("label", "name"))],
    )
    async def explain(request: Request, label: Label, name: Name = None) -> Response:
        """Say which parts of one image (a raw body) speak for a label: what it loses where a place is hidden."""
        ticket: Ticket = request.state.ticket
        if _is_form(request.headers.get("content-type", "")):
            raise RequestError(415, "unsupported_type", "One image as it is can be explained, and no form.")
        body = await read_body(request.receive, request.headers.get("content-length"), ticket)
        shown, model = clean_name(name if name is not None else ""), service.place.current
        try:
            async with asyncio.timeout(seconds_left(ticket)):
                pixels_HWC = await service.decoders.decode(body, shown, model.predictor.preprocess, ticket)
                found = await service.explainer.explain(model, pixels_HWC, shown, label, ticket)
        except ImageError as error:
            raise RequestError(STATUS_OF_KIND.get(error.kind, 400), error.kind, str(error)) from None
        except TimeoutError:
            raise RequestError.for_now("late", "There was no map before the deadline; try again later.") from None
        return Response(_to_json(found), 200, None, _JSON)


def _add_decision(api: FastAPI, service: Service) -> None:
    @api.post("/decide", responses=DECIDE_RESPONSES, openapi_extra=DECIDE_BODY, operation_id="decide")
    async def decide(request: Request) -> Response:
        """Give the labels for probabilities that predictions showed, with some thresholds in the place of the model's.

        The rules of the model are applied, and what they changed is said. Without moved thresholds the labels are those
        of the prediction.
        """
        ticket: Ticket = request.state.ticket
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise RequestError(415, "unsupported_type", "The Content-Type is not that of JSON; send application/json.")
        declared = request.headers.get("content-length")
        body = await read_body(request.receive, declared, ticket, MAX_JSON_BYTES, num_images=0)
        try:
            async with asyncio.timeout(seconds_left(ticket)):
                decided = await service.decider.decide(body, service.place.current, ticket)
        except TimeoutError:
            raise RequestError.for_now("late", "Nothing was decided before the deadline; try again later.") from None
        return Response(_to_json(decided), 200, None, _JSON)


_JSON = "application/json"


def _take_only(*names: str) -> Callable[[Request], Awaitable[None]]:
    """Return what refuses other parameters than these; it runs before FastAPI misses one that was misspelt."""

    async def check(request: Request) -> None:
        for given in request.query_params:
            if given not in names:
                shown = clean_name(given)
                takes = f"{request.url.path} takes {join_names(names)}"
                message = f"There is no parameter {shown!r}{suggest_name(shown, names)}; {takes}."
                raise RequestError(422, "wrong_parameter", message)

    return check


def _is_form(content_type: str) -> bool:
    """Tell a form from a raw image by the type that the request names.

    Raises:
        RequestError: 415 for any other type, such as those that a web page may send without asking.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return True
    if kind.startswith("image/") or kind == "application/octet-stream":
        return False
    raise RequestError(
        415,
        "unsupported_type",
        "The Content-Type is not that of an image; send image/jpeg or another image type, or multipart/form-data.",
    )


async def _answer_all(
    service: Service, images: list[NamedImage], top_k: int | None, ticket: Ticket
) -> list[Prediction]:
    model = service.place.current
    try:
        async with asyncio.timeout(seconds_left(ticket)):
            if len(images) == 1:
                return [await service.answer(images[0], model, top_k, ticket)]
            answers = await asyncio.gather(
                *(service.answer(image, model, top_k, ticket) for image in images), return_exceptions=True
            )
    except TimeoutError:
        raise RequestError.for_now("late", "There was no answer before the deadline; try again later.") from None
    predictions = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        predictions.append(answer)
    return predictions


def _choose_status(predictions: list[Prediction]) -> int:
    """Return 200 where an image can be used, else what is wrong with all of them, or 400 for different reasons."""
    if any(prediction.error is None for prediction in predictions):
        return 200
    found = {STATUS_OF_KIND.get(prediction.error["kind"], 400) for prediction in predictions if prediction.error}
    return found.pop() if len(found) == 1 else 400


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _add_descriptions(api: FastAPI, service: Service) -> None:
    @api.get("/labels", response_model=LabelsAnswer, operation_id="labels")
    async def labels() -> dict[str, Any]:
        """Give the labels of the model, each with its threshold."""
        return service.place.current.describe_labels()

    @api.get("/model", response_model=ModelAnswer, operation_id="model")
    async def model() -> dict[str, Any]:
        """Say which model answers, and at what size it sees an image."""
        return service.place.current.describe()

    @api.get("/metrics", response_class=PlainTextResponse, operation_id="metrics")
    async def metrics() -> Response:
        """Give counts and times in the text format of Prometheus."""
        return Response(service.write_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_health(api: FastAPI, service: Service) -> None:
    async def livez() -> dict[str, str]:
        """Say that the process answers: while it does, nobody needs to restart it."""
        return {"status": "alive"}

    async def readyz() -> dict[str, str]:
        """Say whether requests should come here: not before the first inference, and not on the way out."""
        if not service.is_ready:
            raise RequestError.for_now("not_ready", "The server takes no new requests at the moment.")
        return {"status": "ready"}

    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready.", "model": ErrorAnswer}}
    for path, handler, responses in (("/livez", livez, {}), ("/readyz", readyz, not_ready)):
        api.add_api_route(
            path, handler, methods=["GET"], response_model=StatusAnswer, responses=responses, operation_id=path[1:]
        )
        api.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)


def _add_pages(api: FastAPI) -> None:
    files = load_static()

    async def index() -> Response:
        return Response(files["index.html"][0], media_type=files["index.html"][1])

    async def static(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name][0], media_type=files[name][1])

    async def docs() -> Response:
        return HTMLResponse(write_docs_page(api.openapi()))

    for path, handler in (("/", index), ("/static/{name}", static), ("/docs", docs)):
        api.add_api_route(path, handler, methods=["GET", "HEAD"], include_in_schema=False)


def _answer_refusal(request: Request, refusal: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
    assert isinstance(refusal, RequestError)
    return RefusalResponse(refusal)


def _answer_bug(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
    return JSONResponse(
        {"error": {"kind": "internal", "message": BUG}}, 500
    )  # the guard writes the traceback to the log


def _answer_http_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
    assert isinstance(error, HTTPException)
    known = {
        404: ("not_found", "There is nothing at this path."),
        405: ("wrong_method", "This path has no such method."),
    }
    kind, message = known.get(error.status_code, ("refused", "The request cannot be served."))
    return JSONResponse({"error": {"kind": kind, "message": message}}, error.status_code, error.headers)


def _answer_wrong_parameter(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature of a handler
    assert isinstance(error, RequestValidationError)
    problems = [f"{' '.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    return JSONResponse({"error": {"kind": "wrong_parameter", "message": "; ".join(problems)}}, 422)

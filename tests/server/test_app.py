"""The paths of the interface: the same answers as in Python, and a clear refusal for everything else."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.server.conftest import BLACK, CYAN, RED, TOKEN, build_service, connect, encode

from manylabel.inference.predictor import load
from manylabel.server import explaining
from manylabel.server.app import Service
from manylabel.server.guard import SAFETY_HEADERS
from manylabel.server.limits import MAX_BODY_BYTES

Ask = Callable[..., Any]


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (name, data, "image/png")) for name, data in files]


# ---------------------------------------------------------------------------------------------------------------------
# Answers.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(RED, id="one label"),
        pytest.param(CYAN, id="two labels"),
        pytest.param(BLACK, id="no label"),
        pytest.param(encode((200, 90, 40), (400, 300), "JPEG"), id="a JPEG that is made smaller while it is decoded"),
    ],
)
@pytest.mark.parametrize("all_probabilities", [False, True])
def test_the_answer_is_that_of_the_predictor_to_the_last_bit(
    ask: Ask, model_folder: Path, image: bytes, all_probabilities: bool
) -> None:
    response = ask(image, query=f"?name=a/b.png&all_probabilities={str(all_probabilities).lower()}")
    assert response.status_code == 200
    assert response.json() == load(model_folder).predict(image, "a/b.png").to_dict(all_probabilities)


def test_top_k_gives_the_most_probable_labels(ask: Ask) -> None:
    assert ask(RED, query="?top_k=2").json()["labels"] == ["red", "green"]


def test_a_raw_image_without_a_name_is_called_image(ask: Ask) -> None:
    assert ask(RED).json()["image"] == "image"


@pytest.mark.parametrize("content_type", ["image/png", "image/whatever", "application/octet-stream", "IMAGE/PNG; x=y"])
def test_the_content_decides_what_an_image_is_and_not_its_type(ask: Ask, content_type: str) -> None:
    assert ask(RED, content_type).json()["labels"] == ["red"]


def test_a_form_is_answered_in_order_and_a_broken_image_only_for_itself(client: TestClient) -> None:
    response = client.post("/predict", files=form(("r.png", RED), ("broken.png", RED[:50]), ("c.png", CYAN)))
    assert response.status_code == 200
    answers = response.json()
    assert [answer["image"] for answer in answers] == ["r.png", "broken.png", "c.png"]
    assert [answer["labels"] for answer in answers] == [["red"], None, ["green", "blue"]]
    assert answers[1]["error"]["kind"] == "broken"
    assert answers[1]["error"]["message"].startswith("broken.png: damaged image: PNG ")


def test_neighbours_in_a_form_change_no_answer(client: TestClient, ask: Ask) -> None:
    alone = ask(CYAN, query="?name=x&all_probabilities=true").json()
    files = form(*(("x", CYAN if number % 4 == 1 else RED[: 40 + number]) for number in range(32)))
    together = client.post("/predict?all_probabilities=true", files=files).json()
    assert [answer for answer in together if answer["error"] is None] == [alone] * 8


def test_a_name_from_a_form_is_text_in_the_answer_and_nothing_else(client: TestClient) -> None:
    names = ["../../etc/passwd", "<script>alert(1)</script>", "ü" * 300, "a\u202eb.png"]
    answers = client.post("/predict", files=form(*((name, RED) for name in names))).json()
    assert [answer["image"] for answer in answers] == [*names[:2], "ü" * 255, "a\N{REPLACEMENT CHARACTER}b.png"]


def test_labels_stand_in_their_order_with_their_thresholds(client: TestClient, service: Service) -> None:
    assert client.get("/labels").json() == {
        "labels": [
            {"label": "red", "threshold": 0.5},
            {"label": "green", "threshold": 0.25},
            {"label": "blue", "threshold": 0.75},
        ],
        "model": service.place.current.digest,
    }


def test_the_model_is_described_without_its_place(client: TestClient, model_folder: Path) -> None:
    answer = client.get("/model")
    assert answer.json() | {"model": ""} == {
        "model": "",
        "num_labels": 3,
        "image_width_px": 16,
        "image_height_px": 16,
        "resize": "squash",
        "backbone": "colours",
        "head": "linear",
    }
    assert str(model_folder) not in answer.text


def ask_why(client: TestClient, data: bytes, query: str, content_type: str = "image/png") -> Any:
    return client.post(f"/explain{query}", content=data, headers={"Content-Type": content_type})


def test_a_label_is_explained_where_it_is(client: TestClient, service: Service) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[8:24, 2:14, 0] = 255  # red on the left
    pixels[8:24, 18:30, 2] = 255  # blue on the right
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    for label, is_left in (("red", True), ("blue", False)):
        response = ask_why(client, buffer.getvalue(), f"?label={label}&name=two.png")
        assert response.status_code == 200, response.text
        answer = response.json()
        assert list(answer) == ["image", "label", "probability", "map", "peak", "notes", "model"]
        assert (answer["image"], answer["label"]) == ("two.png", label)
        assert answer["model"] == service.place.current.digest
        rows = np.array(answer["map"])
        assert rows.shape == (24, 24)
        assert (answer["peak"][0] < 0.5) == is_left
        assert (rows[:, :12].sum() > rows[:, 12:].sum()) == is_left


@pytest.mark.parametrize(
    ("data", "query", "content_type", "status", "kind"),
    [
        pytest.param(RED, "?label=rad", "image/png", 422, "unknown_label", id="no such label"),
        pytest.param(RED, "", "image/png", 422, "wrong_parameter", id="no label"),
        pytest.param(RED[:60], "?label=red", "image/png", 400, "broken", id="a broken image"),
        pytest.param(b"x", "?label=red", "image/png", 415, "unsupported_format", id="no image"),
        pytest.param(RED, "?label=red", "text/plain", 415, "unsupported_type", id="another type"),
        pytest.param(RED, "?label=red", "multipart/form-data; boundary=x", 415, "unsupported_type", id="a form"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    client: TestClient, data: bytes, query: str, content_type: str, status: int, kind: str
) -> None:
    response = ask_why(client, data, query, content_type)
    assert (response.status_code, response.json()["error"]["kind"]) == (status, kind)


def test_one_image_at_a_time_is_explained_and_answers_do_not_wait(
    client: TestClient, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    real = explaining.explain

    def wait(*given: Any, **more: Any) -> Any:
        has_begun.set()
        assert may_end.wait(10)
        return real(*given, **more)

    monkeypatch.setattr(explaining, "explain", wait)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask_why, client, RED, "?label=red")
        assert has_begun.wait(10)
        second = ask_why(client, RED, "?label=red")
        assert (second.status_code, second.json()["error"]["kind"]) == (503, "busy")
        assert int(second.headers["Retry-After"]) >= 1
        assert ask(RED).status_code == 200
        may_end.set()
        assert first.result().status_code == 200
    assert ask_why(client, RED, "?label=red").status_code == 200


def test_an_explanation_ends_with_its_deadline(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[int] = []
    real = explaining.explain

    def dawdle(*given: Any, on_part: Any, **more: Any) -> Any:
        def slow() -> None:
            parts.append(1)
            time.sleep(0.05)
            on_part()

        return real(*given, on_part=slow, **more)

    monkeypatch.setattr(explaining, "explain", dawdle)
    service = build_service(model_folder, deadline_seconds=0.5)
    with connect(service) as client:
        late = ask_why(client, RED, "?label=red")
        assert (late.status_code, late.json()["error"]["kind"]) == (503, "late")
        time.sleep(0.2)
        count = len(parts)
        time.sleep(0.3)
        assert len(parts) == count < 80, "nothing goes on for nobody"


# ---------------------------------------------------------------------------------------------------------------------
# Refusals.
# ---------------------------------------------------------------------------------------------------------------------


def chunk_by_chunk(num_bytes: int) -> Any:
    for _ in range(num_bytes // 1_000_000 + 1):
        yield b"x" * 1_000_000


@pytest.mark.parametrize(
    ("data", "content_type", "query", "status", "kind"),
    [
        pytest.param(b"", "image/png", "", 400, "empty", id="nothing"),
        pytest.param(b"\0", "image/png", "", 415, "unsupported_format", id="one byte"),
        pytest.param(RED[:60], "image/png", "", 400, "broken", id="cut off"),
        pytest.param(RED[:-20] + b"\0" * 20, "image/png", "", 400, "broken", id="no end"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF", "image/jpeg", "", 415, "unsupported_format", id="PostScript"),
        pytest.param(b"<svg onload='x'/>", "image/svg+xml", "", 415, "unsupported_format", id="SVG"),
        pytest.param(RED, "text/plain", "", 415, "unsupported_type", id="a type that any page may send"),
        pytest.param(RED, "application/x-www-form-urlencoded", "", 415, "unsupported_type", id="what curl names"),
        pytest.param(RED, "", "", 415, "unsupported_type", id="no type"),
        pytest.param(b'{"url": "http://x"}', "application/json", "", 415, "unsupported_type", id="an address"),
        pytest.param(RED, "image/png", "?top_k=0", 422, "wrong_parameter", id="top_k of none"),
        pytest.param(RED, "image/png", "?top_k=many", 422, "wrong_parameter", id="top_k in letters"),
        pytest.param(RED, "image/png", f"?name={'x' * 256}", 422, "wrong_parameter", id="a name too long"),
        pytest.param(b"x" * (MAX_BODY_BYTES + 1), "image/png", "", 413, "too_large", id="a large body"),
        pytest.param(chunk_by_chunk(MAX_BODY_BYTES), "image/png", "", 413, "too_large", id="a large body in chunks"),
        pytest.param(RED, "multipart/form-data", "", 400, "bad_form", id="a form without a boundary"),
        pytest.param(RED, "multipart/form-data; boundary=x", "", 400, "bad_form", id="a form that is none"),
        pytest.param(b"--x\r\n", "multipart/form-data; boundary=x", "", 400, "bad_form", id="a form that ends early"),
        pytest.param(
            b"\r\n" * 100_000 + b"--x--",
            "multipart/form-data; boundary=x",
            "",
            422,
            "no_images",
            id="a form of line ends",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_a_kind_and_a_sentence(
    ask: Ask, data: Any, content_type: str, query: str, status: int, kind: str
) -> None:
    response = ask(data, content_type, query)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["kind"] == kind
    assert error["message"].endswith(".") or kind == "wrong_parameter"
    assert "Traceback" not in response.text
    assert "/src/" not in response.text


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param(
            "/predict?nonsense=1",
            "There is no parameter 'nonsense'; /predict takes all_probabilities, top_k, name.",
            id="unknown",
        ),
        pytest.param(
            "/predict?top-k=2",
            "There is no parameter 'top-k' (did you mean 'top_k'?); /predict takes all_probabilities, top_k, name.",
            id="misspelt",
        ),
        pytest.param(
            "/explain?lable=red",
            "There is no parameter 'lable' (did you mean 'label'?); /explain takes label, name.",
            id="a needed one misspelt",
        ),
        pytest.param(
            f"/explain?label=red&{'x' * 9000}=",
            f"There is no parameter '{'x' * 255}'; /explain takes label, name.",
            id="a long one is cut",
        ),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(client: TestClient, path: str, message: str) -> None:
    response = client.post(path, content=RED, headers={"Content-Type": "image/png"})
    assert response.status_code == 422
    assert response.json()["error"] == {"kind": "wrong_parameter", "message": message}


def test_an_image_with_too_many_pixels_is_refused_by_its_header(ask: Ask) -> None:
    bomb = bytearray(encode((0, 0, 0), (1, 1)))
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2
    import zlib

    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    response = ask(bytes(bomb))
    assert (response.status_code, response.json()["error"]["kind"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("files", "status"),
    [
        pytest.param([("a", RED[:60]), ("b", RED[:70])], 400, id="all broken"),
        pytest.param([("a", b"%PDF"), ("b", b"BZh9")], 415, id="all of other formats"),
        pytest.param([("a", b"%PDF"), ("b", RED[:60])], 400, id="different reasons"),
    ],
)
def test_a_form_without_a_usable_image_is_an_error_with_an_answer_for_each(
    client: TestClient, files: list[tuple[str, bytes]], status: int
) -> None:
    response = client.post("/predict", files=form(*files))
    assert response.status_code == status
    assert [answer["labels"] for answer in response.json()] == [None, None]


@pytest.mark.parametrize(
    ("make", "status", "kind"),
    [
        pytest.param(lambda: {"files": form(*[("x", RED)] * 33)}, 413, "too_many_images", id="33 images"),
        pytest.param(
            lambda: {"data": {f"f{number}": "x" for number in range(21)}, "files": form(("x", RED))},
            413,
            "too_many_fields",
            id="21 fields",
        ),
        pytest.param(lambda: {"files": {"x": (None, b"text")}}, 422, "no_images", id="no file"),
        pytest.param(lambda: {"files": form(("x" * 20_000, RED))}, 400, "bad_form", id="a head of 20 kB"),
    ],
)
def test_a_form_beyond_its_limits_is_refused(
    client: TestClient, make: Callable[[], dict[str, Any]], status: int, kind: str
) -> None:
    response = client.post("/predict", **make())
    assert (response.status_code, response.json()["error"]["kind"]) == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("DELETE", "/labels", 405),
        ("OPTIONS", "/predict", 405),
        ("GET", "/labels/", 404),
        ("GET", "//labels", 404),
    ],
)
def test_other_paths_and_methods_are_errors_in_json(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, f"http://127.0.0.1:8000{path}")
    assert response.status_code == status
    assert set(response.json()) == {"error"}


TRAVERSALS = [
    "../app.py", "..%2fapp.py", "%2e%2e/app.py", "..%252fapp.py", "..\\app.py", "..%5capp.py", "/etc/passwd",
    "//etc/passwd", "C:/windows/win.ini", "page.css/../../app.py", "page.css%00", "page.css.", "page.css/",
    "....//app.py", "%c0%ae%c0%ae/app.py", "file:///etc/passwd", "__init__.py",
]  # fmt: skip


@pytest.mark.parametrize("probe", TRAVERSALS)
def test_no_path_leads_out_of_the_files_of_the_page(client: TestClient, probe: str) -> None:
    response = client.request("GET", f"http://127.0.0.1:8000/static/{probe}")
    assert response.status_code == 404, response.text
    assert response.json()["error"]["kind"] == "not_found"


def test_a_bug_is_a_500_that_tells_nothing_and_a_traceback_in_the_log(
    model_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build_service(model_folder)
    monkeypatch.setattr(service, "answer", lambda *_: 1 / 0)
    with connect(service) as client:
        response = client.post("/predict", content=RED, headers={"Content-Type": "image/png"})
    assert response.status_code == 500
    assert response.json() == {
        "error": {"kind": "internal", "message": "The server failed in a way that is a bug; its log says more."}
    }
    assert "ZeroDivisionError" in caplog.text


# ---------------------------------------------------------------------------------------------------------------------
# Headers, health, numbers, documents.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/static/page.js", "/livez", "/labels", "/metrics", "/gone", "/predict"]
)
def test_every_answer_carries_the_safety_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    for name, value in SAFETY_HEADERS:
        assert headers[name.decode()] == value.decode()
    assert "server" not in headers
    assert not [name for name in headers if name.startswith("access-control")]


def test_health_tells_the_truth_before_during_and_after(model_folder: Path) -> None:
    service = build_service(model_folder)
    never_started = connect(service)
    assert never_started.get("/livez").status_code == 200
    response = never_started.get("/readyz")
    assert (response.status_code, response.json()["error"]["kind"]) == (503, "not_ready")
    with connect(service) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        assert client.head("/readyz").status_code == 200
        service.is_draining = True
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").headers["connection"] == "close"


def test_the_numbers_are_those_of_the_requests(model_folder: Path) -> None:
    with connect(build_service(model_folder)) as client:
        for data in (RED, RED, RED[:60]):
            client.post("/predict", content=data, headers={"Content-Type": "image/png"})
        response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    for line in (
        'manylabel_images_total{outcome="answered"} 2',
        'manylabel_images_total{outcome="broken"} 1',
        'manylabel_requests_total{status="200"} 2',
        'manylabel_requests_total{status="400"} 1',
        "manylabel_request_seconds_count 3",
        "manylabel_queue_images 0",
        "manylabel_bytes_in_flight 0",
        "manylabel_ready 1",
    ):
        assert line in lines
    shape = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"\})? [\d.e+-]+')
    assert all(shape.fullmatch(line) for line in lines)


def test_pages_load_nothing_from_elsewhere_and_hold_no_script_of_their_own(client: TestClient) -> None:
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert re.findall(r'(?:src|href)="(?!/)[^"]*"', text) == []
        assert re.findall(r"<script(?! src)|<style| on\w+=|style=", text) == []
    assert not re.search(
        r"https?://(?!www.w3.org)", client.get("/static/page.js").text + client.get("/static/page.css").text
    )


def test_the_page_of_the_interface_has_every_path_of_the_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    page = client.get("/docs").text
    described = {"/predict", "/explain", "/decide", "/labels", "/model", "/metrics", "/livez", "/readyz"}
    assert set(document["paths"]) == described
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in page
            assert all(f"<code>{status}</code>" in page for status in operation["responses"])


def test_the_document_names_the_keys_that_answers_have(client: TestClient, ask: Ask) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["PredictionAnswer"]
    assert list(schema["properties"]) == list(ask(RED).json())


def test_the_page_says_nothing_of_the_model_so_it_needs_no_token(model_folder: Path) -> None:
    with connect(build_service(model_folder, token=TOKEN)) as client:
        for path in ("/", "/static/page.css", "/livez", "/readyz"):
            assert client.get(path).status_code == 200
            assert "red" not in re.findall(r"\w+", client.get("/").text)
        for path in ("/labels", "/model", "/metrics", "/docs", "/openapi.json", "/gone"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (200, 404)


def test_answers_are_one_json_text_with_letters_as_they_are(client: TestClient) -> None:
    response = client.post("/predict?name=%C3%BC.png", content=RED, headers={"Content-Type": "image/png"})
    assert '"image": "ü.png"' in response.text
    assert json.loads(response.text)["image"] == "ü.png"

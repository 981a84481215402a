"""`POST /decide`: the policy of the model decides for moved thresholds, and what is no question is told why."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.server.conftest import RED, TOKEN, build_service, connect

from manylabel.decisions.calibrate import NO_CALIBRATION, Calibration
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.reasons import Decision, decide_with_reasons
from manylabel.decisions.rules import Rule
from manylabel.errors import ConfigError, DataError
from manylabel.labels.space import LabelSpace
from manylabel.server import deciding
from manylabel.server.app import Service
from manylabel.server.deciding import MAX_WAITING, Decider, read_question
from manylabel.server.limits import Admission, RequestError, Ticket
from manylabel.server.model import ServedModel

NAMES = ("animal", "dog", "cat", "day", "night")
SPACE = LabelSpace(NAMES)
HALVES = (0.5,) * len(NAMES)
RULES = (
    Rule("implies", ("dog",), ("animal",)),
    Rule("exclusive", ("day", "night")),
    Rule("required", ("day", "night")),
)
HALVED = Calibration("temperature", weights=((0.5, 0.5, 0.0),) * len(NAMES))
Decide = Callable[..., Any]


class FakeNetwork:
    """Says what a test wants it to say, of every image."""

    def __init__(self) -> None:
        self.says_L: npt.NDArray[np.float32] = np.zeros(len(NAMES), np.float32)

    def run(self, pixels_BCHW: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.repeat(self.says_L[np.newaxis], len(pixels_BCHW), axis=0)


def put_policy(service: Service, policy: DecisionPolicy, network: FakeNetwork) -> None:
    """Serve a policy behind a network of which a test knows what it says."""
    predictor = copy.copy(service.place.current.predictor)
    manifest = replace(predictor.bundle.manifest, policy=policy, label_space=policy.label_space)
    predictor.bundle = replace(predictor.bundle, manifest=manifest)
    predictor._engine = network  # type: ignore[assignment]
    service.place.current = ServedModel(predictor, dict(zip(policy.label_space, policy.thresholds, strict=True)))


@pytest.fixture(scope="module")
def own_service(model_folder: Path) -> Service:
    return build_service(model_folder)


@pytest.fixture(scope="module")
def own_client(own_service: Service) -> Iterator[TestClient]:
    with connect(own_service) as client:
        yield client


@pytest.fixture
def network(own_service: Service) -> FakeNetwork:
    """The network behind a policy with rules."""
    network = FakeNetwork()
    put_policy(own_service, DecisionPolicy(SPACE, HALVES, rules=RULES), network)
    return network


@pytest.fixture
def decide(ruled_client: TestClient) -> Decide:
    """Post a question."""

    def post(probabilities: Any, thresholds: Any = None, **more: Any) -> Any:
        body = {"probabilities": probabilities, **({} if thresholds is None else {"thresholds": thresholds}), **more}
        return post_body(ruled_client, json.dumps(body))

    return post


@pytest.fixture
def ruled_client(own_client: TestClient, network: FakeNetwork) -> TestClient:  # noqa: ARG001 - it stands behind it
    return own_client


def post_body(client: TestClient, body: str | bytes, content_type: str = "application/json", **headers: str) -> Any:
    return client.post("/decide", content=body, headers={"Content-Type": content_type, **headers})


def table(*probabilities: float) -> dict[str, float]:
    return dict(zip(NAMES, probabilities, strict=True))


# ---------------------------------------------------------------------------------------------------------------------
# What is decided.
# ---------------------------------------------------------------------------------------------------------------------


def test_rules_are_applied_to_moved_thresholds_and_what_they_change_is_said(
    decide: Decide, own_service: Service
) -> None:
    # Worked by hand: with 0.25 the dog (0.375) has the largest margin, 0.125, and brings the animal; day (0.875) keeps
    # the night (0.75) out, which reaches its threshold too.
    response = decide(table(0.25, 0.375, 0.125, 0.875, 0.75), {"dog": 0.25})
    assert response.status_code == 200
    assert response.json() == {
        "labels": ["day", "dog", "animal"],
        "probabilities": {"day": 0.875, "dog": 0.375, "animal": 0.25},
        "thresholds": {"day": 0.5, "dog": 0.25, "animal": 0.5},
        "by_rules": [
            {"rule": "dog implies animal", "added": ["animal"], "removed": []},
            {"rule": "only one of day, night", "added": [], "removed": ["night"]},
        ],
        "notes": [],
        "model": own_service.place.current.digest,
    }


def test_a_demand_gives_the_label_that_is_nearest_to_its_threshold(decide: Decide) -> None:
    answer = decide(table(0, 0, 0, 0.25, 0.375)).json()
    assert answer["labels"] == ["night"]
    assert answer["by_rules"] == [{"rule": "one of day, night at least", "added": ["night"], "removed": []}]
    answer = decide(table(0, 0, 0, 0.25, 0.375), {"day": 0.3125}).json()
    assert answer["labels"] == ["day"]


def test_an_image_on_a_moved_threshold_has_the_label(decide: Decide) -> None:
    assert "cat" in decide(table(0, 0, 0.1, 1, 0), {"cat": 0.1}).json()["labels"]
    assert "cat" not in decide(table(0, 0, 0.1, 1, 0), {"cat": 0.1001}).json()["labels"]


def test_a_list_is_answered_with_a_list_in_its_order_and_a_table_without_one(decide: Decide) -> None:
    tables = [table(0, 0, cat, 1, 0) for cat in (0.25, 0.75, 0.5)]
    answers = decide(tables, {"cat": 0.5}).json()
    assert [answer["labels"] for answer in answers] == [["day"], ["day", "cat"], ["day", "cat"]]
    assert decide(tables[:1], {"cat": 0.5}).json() == answers[:1]
    assert decide(tables[0], {"cat": 0.5}).json() == answers[0]


def test_probabilities_are_those_that_are_shown_and_are_not_calibrated_again(
    own_client: TestClient, own_service: Service, network: FakeNetwork, decide: Decide
) -> None:
    # Halves the log-odds: 0.9 becomes 0.75, and 0.75 would become 0.634.
    put_policy(own_service, DecisionPolicy(SPACE, (0.7,) * 5, calibration=HALVED), network)
    network.says_L = np.array([0.9, 0, 0, 0, 0], np.float32)
    shown = predict(own_client)
    assert shown["probabilities"]["animal"] == pytest.approx(0.75)
    assert decide(shown["probabilities"]).json()["labels"] == shown["labels"] == ["animal"]
    assert decide(shown["probabilities"], {"animal": 0.7501}).json()["labels"] == []


@pytest.mark.parametrize(
    ("goal", "rules", "note"),
    [
        (
            "top_k,k=2",
            (Rule("at_most", count=2),),
            "The model gives the most probable labels, whatever their thresholds",
        ),
        ("miss_rate,at_most=0.1", (), "What its goal 'miss_rate,at_most=0.1' promises holds for the model's own"),
        ("precision,at_least=0.9", (), "What its goal 'precision,at_least=0.9' promises holds for the model's own"),
    ],
)
def test_a_goal_that_moved_thresholds_do_not_keep_says_so(
    own_service: Service, network: FakeNetwork, decide: Decide, goal: str, rules: tuple[Rule, ...], note: str
) -> None:
    put_policy(own_service, DecisionPolicy(SPACE, (0.0,) * 5, goal, rules=rules), network)
    assert decide(table(0.5, 0.5, 0, 0, 0)).json()["notes"] == []
    assert decide(table(0.5, 0.5, 0, 0, 0), {"dog": 0.0}).json()["notes"] == []  # where it was
    (said,) = decide(table(0.5, 0.5, 0, 0, 0), {"dog": 0.25}).json()["notes"]
    assert said.startswith(note)


def test_the_most_probable_labels_become_those_highest_above_moved_thresholds(
    own_service: Service, network: FakeNetwork, decide: Decide
) -> None:
    policy = DecisionPolicy(SPACE, (0.0,) * 5, "top_k,k=2", rules=(Rule("at_most", count=2),))
    put_policy(own_service, policy, network)
    probabilities = table(0.5, 0.375, 0.25, 0.125, 0)
    answer = decide(probabilities).json()
    assert answer["labels"] == ["animal", "dog"]
    assert answer["by_rules"] == [{"rule": "at most 2 labels", "added": [], "removed": ["cat", "day", "night"]}]
    assert decide(probabilities, {"animal": 0.4375}).json()["labels"] == ["dog", "cat"]


def test_who_needs_a_person_is_decided_with_the_moved_thresholds(
    own_service: Service, network: FakeNetwork, decide: Decide
) -> None:
    put_policy(own_service, DecisionPolicy(SPACE, HALVES, abstention=Abstention("margin", -0.1, 0.1)), network)
    clear = table(0.75, 0.25, 0.25, 0.25, 0.25)
    assert decide(clear).json()["needs_person"] is False
    answer = decide(clear, {"dog": 0.3125}).json()
    assert answer["needs_person"] is True
    assert answer["notes"] == ["How many images need a person was chosen with the model's own thresholds."]


# ---------------------------------------------------------------------------------------------------------------------
# Without moved thresholds: /predict.
# ---------------------------------------------------------------------------------------------------------------------


def predict(client: TestClient) -> Any:
    return client.post("/predict?all_probabilities=true", content=RED, headers={"Content-Type": "image/png"}).json()


def draw_rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    """Return rules at random that do not contradict each other."""
    labels = st.permutations(NAMES)
    rules: list[Rule] = []
    for _ in range(draw(st.integers(0, 4))):
        names, num = draw(labels), draw(st.integers(1, 2))
        kind = draw(
            st.sampled_from(("at_most", "at_least", "exclusive", "required", "implies", "forbids", "hierarchy"))
        )
        if kind in ("at_most", "at_least"):
            rule = Rule(kind, tuple(names[: draw(st.sampled_from((0, 3)))]), count=num)
        elif kind in ("exclusive", "required"):
            rule = Rule(kind, tuple(names[: num + 1]))
        else:
            rule = Rule(kind, tuple(names[:1]), tuple(names[1 : 1 + num]))
        try:
            DecisionPolicy(SPACE, HALVES, rules=(*rules, rule))
        except ConfigError:
            continue
        rules.append(rule)
    return tuple(rules)


@st.composite
def policies(draw: st.DrawFn) -> DecisionPolicy:
    """Policies with rules, calibration and abstention at random; thresholds are coarse, so that ties are met."""
    doubt = draw(st.sampled_from((None, Abstention("margin", -0.125, 0.1), Abstention("width", 2.0, 0.1))))
    return DecisionPolicy(
        SPACE,
        tuple(draw(st.lists(shares, min_size=len(NAMES), max_size=len(NAMES)))),
        rules=draw_rules(draw),
        abstention=doubt,
        calibration=draw(st.sampled_from((NO_CALIBRATION, HALVED))),
    )


shares = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1, width=32))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(policy=policies(), says=st.lists(shares, min_size=len(NAMES), max_size=len(NAMES)))
def test_without_moved_thresholds_the_labels_are_those_of_predict(
    own_client: TestClient, own_service: Service, policy: DecisionPolicy, says: list[float]
) -> None:
    network = FakeNetwork()
    network.says_L = np.array(says, np.float32)
    put_policy(own_service, policy, network)
    shown = predict(own_client)
    for moved in ({}, shown["thresholds"]):
        body = json.dumps({"probabilities": shown["probabilities"], "thresholds": moved})
        decided = post_body(own_client, body).json()
        assert decided["labels"] == shown["labels"]
        assert decided.get("needs_person") == shown.get("needs_person")
        assert decided["notes"] == []
        reached = {label for label, p in shown["probabilities"].items() if p >= shown["thresholds"][label]}
        added = {label for effect in decided["by_rules"] for label in effect["added"]}
        removed = {label for effect in decided["by_rules"] for label in effect["removed"]}
        assert added == set(shown["labels"]) - reached
        assert removed == reached - set(shown["labels"])


@settings(max_examples=100, deadline=None)
@given(policy=policies(), says=st.lists(shares, min_size=len(NAMES), max_size=len(NAMES)), data=st.data())
def test_moved_thresholds_decide_as_a_policy_that_was_built_with_them(
    policy: DecisionPolicy, says: list[float], data: st.DataObject
) -> None:
    moved = data.draw(st.dictionaries(st.sampled_from(NAMES), shares))
    own = dict(zip(NAMES, policy.thresholds, strict=True))
    built = replace(policy, thresholds=tuple((own | moved)[name] for name in NAMES))
    replaced = policy.replace_thresholds(moved)
    assert replaced.order(says) == built.order(says)
    assert bool(replaced.is_doubtful(says)) == bool(built.is_doubtful(says))
    assert dict(zip(NAMES, policy.thresholds, strict=True)) == own


def test_a_policy_with_other_thresholds_says_nothing_of_what_its_own_ones_brought() -> None:
    policy = DecisionPolicy(SPACE, HALVES, "f1", ("label",) * 5, "digest", gain={"gain": 0.1}, given={"dog": 0.5})
    moved = policy.replace_thresholds({"dog": 0.25})
    assert (moved.sources, moved.chosen_on, moved.gain, moved.given) == ((), "", {}, {})
    assert policy.replace_thresholds({}) == policy
    with pytest.raises(DataError, match=r"unknown label 'dgo' \(did you mean 'dog'\?\)"):
        policy.replace_thresholds({"dgo": 0.5})


# ---------------------------------------------------------------------------------------------------------------------
# What is refused.
# ---------------------------------------------------------------------------------------------------------------------

FULL = table(0, 0, 0, 0, 0)
WITHOUT_CAT = {name: 0.5 for name in NAMES if name != "cat"}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ([FULL], "wrong_type", "The JSON is not a table with 'probabilities'"),
        ("probabilities", "wrong_type", "The JSON is not a table with 'probabilities'"),
        ({}, "wrong_type", "'probabilities' is not a table"),
        ({"probabilities": []}, "wrong_type", "'probabilities' is not a table"),
        ({"probabilities": [0.5] * 5}, "wrong_type", "'probabilities' is not a table"),
        ({"probabilities": [FULL, [FULL]]}, "wrong_type", "'probabilities' is not a table"),
        ({"probabilities": FULL, "thresholds": [0.5]}, "wrong_type", "'thresholds' is not a table"),
        ({"probabilities": FULL, "thresholds": None}, "wrong_type", "'thresholds' is not a table"),
        (
            {"probabilities": FULL, "top_k": 2},
            "unknown_field",
            "There is no field 'top_k'; there are 'probabilities' and",
        ),
        ({"probabilities": {**FULL, "dgo": 0.5}}, "unknown_label", "The model has no label 'dgo'; /labels lists them."),
        ({"probabilities": FULL, "thresholds": {"\ud800\n": 0.5}}, "unknown_label", "The model has no label '��'"),
        ({"probabilities": [FULL, WITHOUT_CAT]}, "missing_label", "The probability of 'cat' is missing"),
        ({"probabilities": {}}, "missing_label", "The probability of 'animal' is missing"),
        *(
            ({"probabilities": {**FULL, "dog": wrong}}, "wrong_number", "The probability of 'dog' is not a number from")
            for wrong in (float("nan"), float("inf"), -0.001, 1.0000001, True, "0.5", None, [0.5], {}, 10**400)
        ),
        *(
            (
                {"probabilities": FULL, "thresholds": {"dog": wrong}},
                "wrong_number",
                "The threshold of 'dog' is not a num",
            )
            for wrong in (float("nan"), float("-inf"), -1, 1.5, False, "0")
        ),
    ],
)
def test_a_wrong_question_is_told_in_one_sentence_what_is_wrong_with_it(
    ruled_client: TestClient, body: Any, kind: str, message: str
) -> None:
    response = post_body(ruled_client, json.dumps(body))
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["kind"] == kind
    assert error["message"].startswith(message)
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        pytest.param(b"", 400, "empty", id="nothing"),
        pytest.param(b"{", 400, "broken", id="JSON that ends early"),
        pytest.param(b'{"probabilities": {"dog": 01}}', 400, "broken", id="no number of JSON"),
        pytest.param(b'{"probabilities": {"\xff": 1}}', 400, "broken", id="no UTF-8"),
        pytest.param('{"probabilities": 1}'.encode("utf-16"), 400, "broken", id="UTF-16"),
        pytest.param(b"9" * 5000, 400, "broken", id="a number of thousands of digits"),
        pytest.param(b'{"probabilities": {"dog": 0, "dog": 1}}', 422, "repeated", id="a label twice"),
        pytest.param(b"[" * 33 + b"]" * 33, 422, "too_deep", id="one list too deep"),
        pytest.param(b"[" * 32 + b"]" * 32, 422, "wrong_type", id="as deep as may be"),
        pytest.param(b"[" * 1_900_000, 422, "too_deep", id="nothing but brackets"),
        pytest.param(b'{"a":' * 380_000, 422, "too_deep", id="tables in tables"),
        pytest.param(b"[]," * 600_000, 413, "too_many_images", id="many empty lists"),
        pytest.param(b'{"probabilities":[' + b"[]," * 600_000, 413, "too_many_images", id="600,000 images"),
        pytest.param(b"[" + b"[]," * 39 + b"[]]", 413, "too_many_images", id="one list too many"),
        pytest.param(b"[" + b"[]," * 38 + b"[]]", 422, "wrong_type", id="as many lists as may be"),
        pytest.param(b'["' + b"[]," * 99 + b'"]', 422, "wrong_type", id="many brackets in a string"),
        pytest.param(b'"' + b'\\"' * 900_000, 400, "broken", id="a string that never ends"),
        pytest.param(b'["' + b"[" * 99 + b'"]', 422, "wrong_type", id="brackets in a string"),
        pytest.param(b'["\\"' + b"[" * 99 + b'"]', 422, "wrong_type", id="brackets after a quote in a string"),
        pytest.param(b" " * 2_000_001, 413, "too_large", id="one byte too many"),
    ],
)
def test_a_body_that_is_no_question_is_refused(ruled_client: TestClient, body: bytes, status: int, kind: str) -> None:
    response = post_body(ruled_client, body)
    assert (response.status_code, response.json()["error"]["kind"]) == (status, kind)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 1_900_000, id="nothing but brackets"),
        pytest.param(b'{"a":' * 380_000, id="tables in tables"),
        pytest.param(b'{"probabilities":[' + b"[]," * 600_000, id="600,000 lists"),
    ],
)
def test_what_would_be_long_to_read_is_not_read(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(RequestError) as raised:
        read_question(body, SPACE)
    assert raised.value.status in (413, 422)


def test_a_string_that_never_ends_is_looked_at_once() -> None:
    # Time of this thread's own, whatever else the machine does: looking again from each quote takes minutes.
    started = time.thread_time()
    with pytest.raises(RequestError, match="not JSON"):
        read_question(b'"' + b'\\"' * 900_000, SPACE)
    assert time.thread_time() - started < 5


def test_32_images_are_decided_at_once_and_33_are_not(decide: Decide) -> None:
    assert len(decide([FULL] * 32).json()) == 32
    response = decide([FULL] * 33)
    assert response.status_code == 413
    assert response.json()["error"] == {
        "kind": "too_many_images",
        "message": "The body has more than 32 images; send several requests.",
    }


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", ""])
def test_only_json_is_taken_so_that_no_other_page_can_send_it_unasked(
    ruled_client: TestClient, content_type: str
) -> None:
    response = post_body(ruled_client, json.dumps({"probabilities": FULL}), content_type)
    assert (response.status_code, response.json()["error"]["kind"]) == (415, "unsupported_type")
    assert post_body(ruled_client, json.dumps({"probabilities": FULL}), "Application/JSON; x=y").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "example.org"}, 421),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_the_guard_stands_before_it(ruled_client: TestClient, headers: dict[str, str], status: int) -> None:
    assert post_body(ruled_client, json.dumps({"probabilities": FULL}), **headers).status_code == status


def test_it_needs_the_token_but_no_place_of_an_image_and_is_counted(model_folder: Path) -> None:
    service = build_service(model_folder, token=TOKEN, max_queue=1)
    body = json.dumps({"probabilities": {"red": 1, "green": 0, "blue": 0}})
    with connect(service) as client:
        assert post_body(client, body).status_code == 401
        granted = {"Authorization": f"Bearer {TOKEN}"}
        assert post_body(client, body, **granted).json()["labels"] == ["red"]
        assert client.get("/decide", headers=granted).status_code == 405
        ticket = service.admission.admit(30, lambda: False)
        ticket.add_images(1)
        assert post_body(client, body, **granted).status_code == 200
        ticket.release()
        ticket.add_bytes(service.admission.max_bytes)
        full = post_body(client, body, **granted)
        assert (full.status_code, full.headers["retry-after"]) == (503, "1")
        ticket.release()
        assert [service.counters.requests.read(status) for status in ("200", "401", "405", "503")] == [2, 1, 1, 1]
        assert (service.admission.num_images, service.admission.num_bytes) == (0, 0)


def test_what_is_too_late_is_not_decided_to_its_end(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = build_service(model_folder)
    ticket, decided = service.admission.admit(3600, lambda: False, 0), []
    monkeypatch.setattr(service.admission, "admit", lambda *_: ticket)

    def dawdle(policy: DecisionPolicy, adjusted_L: npt.NDArray[np.float32]) -> Decision:
        decided.append(adjusted_L)
        ticket.deadline = time.monotonic() - 1
        return decide_with_reasons(policy, adjusted_L)

    monkeypatch.setattr(deciding, "decide_with_reasons", dawdle)
    with connect(service) as client:
        response = post_body(client, json.dumps({"probabilities": [{"red": 1, "green": 0, "blue": 0}] * 32}))
    assert (response.status_code, response.json()["error"]["kind"]) == (503, "late")
    assert len(decided) == 1


def test_nobody_waits_beyond_the_deadline_for_a_decision(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = build_service(model_folder, deadline_seconds=0.1)

    async def wait(*_: Any) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(service.decider, "decide", wait)
    with connect(service) as client:
        response = post_body(client, json.dumps({"probabilities": {"red": 1, "green": 0, "blue": 0}}))
    assert (response.status_code, response.json()["error"]["kind"]) == (503, "late")


def make_slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let each decision wait for the event that is returned."""
    may_end = threading.Event()

    def dawdle(policy: DecisionPolicy, adjusted_L: npt.NDArray[np.float32]) -> Decision:
        assert may_end.wait(60)
        return decide_with_reasons(policy, adjusted_L)

    monkeypatch.setattr(deciding, "decide_with_reasons", dawdle)
    return may_end


def let_decide() -> Ticket:
    return Admission(1).admit(3600, lambda: False, 0)


def test_four_questions_wait_for_the_one_that_is_decided_and_others_come_later(
    own_service: Service,
    network: FakeNetwork,  # noqa: ARG001 - it stands behind the policy
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_end, decider, model = make_slow(monkeypatch), Decider(), own_service.place.current
    body = json.dumps({"probabilities": FULL}).encode()

    async def ask_all() -> None:
        asked = [asyncio.create_task(decider.decide(body, model, let_decide())) for _ in range(1 + MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="Other questions wait") as raised:
            await decider.decide(body, model, let_decide())
        assert (raised.value.status, raised.value.headers) == (503, {"Retry-After": "1"})
        asked.pop().cancel()  # its client has gone: its place is free
        await asyncio.sleep(0)
        asked.append(asyncio.create_task(decider.decide(body, model, let_decide())))
        await asyncio.sleep(0)
        may_end.set()
        assert all(answer["labels"] for answer in await asyncio.gather(*asked))  # type: ignore[call-overload]
        assert await decider.decide(body, model, let_decide())

    asyncio.run(ask_all())
    decider.stop()


def test_the_event_loop_goes_on_while_a_decision_ends_at_a_stop(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, service = make_slow(monkeypatch), build_service(model_folder)
    body = json.dumps({"probabilities": {"red": 1, "green": 0, "blue": 0}}).encode()

    async def ask_and_stop() -> None:
        await service.start()
        asked = asyncio.create_task(service.decider.decide(body, service.place.current, let_decide()))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(service.stop())
        # Only the loop can let the decision end: with a loop that waits for it, it fails after a minute.
        asyncio.get_running_loop().call_later(0.5, may_end.set)
        await stopping
        assert (await asked)["labels"] == ["red"]  # type: ignore[call-overload]

    asyncio.run(ask_and_stop())


def test_the_document_describes_what_is_asked_and_answered(ruled_client: TestClient) -> None:
    document = ruled_client.get("/openapi.json").json()
    operation = document["paths"]["/decide"]["post"]
    asked = operation["requestBody"]["content"]["application/json"]
    answered = operation["responses"]["200"]["content"]["application/json"]
    # The example is right: this is what comes of it.
    space = LabelSpace(tuple(asked["example"]["probabilities"]))
    policy = DecisionPolicy(space, (0.5, 0.5, 0.5), rules=(Rule("implies", ("dog",), ("animal",)),))
    probs_L = np.array(list(asked["example"]["probabilities"].values()), np.float32)
    order = policy.replace_thresholds(asked["example"]["thresholds"]).order_adjusted(probs_L)
    assert [space.names[column] for column in order] == answered["example"]["labels"]
    keys = list(document["components"]["schemas"]["DecisionAnswer"]["properties"])
    assert keys == [*answered["example"], "needs_person"]
    assert "&quot;dog&quot;: 0.625" in ruled_client.get("/docs").text

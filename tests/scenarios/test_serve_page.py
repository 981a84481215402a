"""The page of `manylabel serve` with a model that has rules: the server decides, the page says what rules changed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.inference.conftest import write_bundle
from tests.scenarios.browser import PROGRAM, Page, open_browser
from tests.scenarios.serving import Served, serve
from tests.server.conftest import encode

from manylabel.bundle.bundle import load_bundle
from manylabel.bundle.tuned import write_manifest
from manylabel.client import Client, ServerError
from manylabel.decisions.conformal import Abstention
from manylabel.decisions.policy import DecisionPolicy
from manylabel.decisions.reasons import Decision, RuleEffect
from manylabel.decisions.rules import Rule
from manylabel.errors import ConfigError

AXE = os.environ.get("MANYLABEL_AXE", "")
"""The path of axe.min.js from npm's axe-core; without it accessibility is not checked here."""

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine"),
]

NAMES = ("animal", "dog", "cat", "day", "night")
RULES = (
    Rule("implies", ("dog",), ("animal",)),
    Rule("exclusive", ("day", "night")),
    Rule("required", ("day", "night")),
)
# The probability is sigmoid((colour - 0.5) / 0.125): red, 0.451, says 0.403 of animal and day, green, 0.561, says 0.619
# of dog and night, and blue, 0.2, says 0.083 of cat.
COLOUR = (115, 143, 51)
ANSWERED = "document.getElementById('status').textContent.endsWith('answered.')"
CHIPS = (
    "[...document.querySelectorAll('article:first-child .given li')]"
    ".map((chip) => `${chip.className}: ${chip.textContent}`)"
)
WHY = "[...document.querySelectorAll('article:first-child .why li')].map((line) => line.textContent)"
FIRST = "[...cards].at(-1)"


def write_ruled_bundle(folder: Path, **policy: Any) -> Path:
    """Write a bundle whose policy has rules."""
    bundle = load_bundle(write_bundle(folder, names=NAMES, thresholds=(0.5,) * len(NAMES)))
    own = {"thresholds": (0.5,) * len(NAMES), "rules": RULES, **policy}
    manifest = replace(bundle.manifest, policy=DecisionPolicy(bundle.manifest.label_space, **own))
    (folder / "manifest.json").write_text(write_manifest(manifest), "utf-8")
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(write_ruled_bundle(tmp_path_factory.mktemp("model") / "bundle")) as served:
        yield served


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "walk.png"
    path.write_bytes(encode(COLOUR))
    return path


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with open_browser(tmp_path / "profile") as page:
        yield page


def use_page(page: Page, url: str, paths: list[Path], width: int = 1100, *, is_dark: bool = False) -> None:
    page.open(url, width, is_dark=is_dark)
    page.choose_files("#files", paths)
    page.wait_for(f"{ANSWERED} && !document.querySelector('[aria-busy=true]')")


def move(page: Page, label: str, threshold: float) -> None:
    """Move the threshold of a label with the keyboard: from 0, in steps of a thousandth."""
    sliders = "[...document.querySelectorAll('article:first-child input[type=range]')]"
    slider = f"{sliders}.find((each) => each.ariaLabel === 'Threshold of {label}')"
    page.run(f"{slider}.focus()")
    page.run(f"{slider}.value = {threshold - 0.001}")
    page.press("ArrowRight")


def disconnect(page: Page, is_offline: bool) -> None:
    page.tell("Network.enable")
    page.tell(
        "Network.emulateNetworkConditions", offline=is_offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
    )


def read_row(page: Page, label: str) -> str:
    rows = "[...document.querySelectorAll('article:first-child .rows li')]"
    row = f"{rows}.find((row) => row.querySelector('.label').textContent === '{label}')"
    return str(page.run(f"{row}.className + ': ' + {row}.querySelector('output').innerText.replace('\\n', ' ')"))


@pytest.mark.parametrize("width", [1100, 390, 360], ids=["desktop", "phone", "small phone"])
def test_what_rules_do_to_a_moved_threshold_is_decided_by_the_server_and_said(
    served: Served, page: Page, image: Path, width: int
) -> None:
    use_page(page, served.url, [image], width)
    assert page.run(CHIPS) == [": dog", ": night", ": animal by a rule"]
    assert page.run(WHY) == ["Rule “dog implies animal”: adds animal."]
    assert read_row(page, "animal") == "is-given: 0.40 < 0.50 by a rule"
    assert read_row(page, "night") == "is-given: 0.62 ≥ 0.50"

    # Day reaches its threshold now, by less than night does: only one of them may be given.
    move(page, "day", 0.35)
    assert page.run(CHIPS) == [": dog", ": night", ": animal by a rule", "left: day by a rule"]
    assert page.run(WHY)[1] == "Rule “only one of day, night”: leaves out day."
    assert read_row(page, "day") == "is-changed: 0.40 ≥ 0.35 by a rule"
    assert "threshold of day 0.500 → 0.350: 0 images have other labels." in page.run("changed.textContent")

    # Without the dog nothing brings the animal, and night is below its threshold, farther than day.
    move(page, "day", 0.5)
    move(page, "dog", 0.7)
    move(page, "night", 0.9)
    assert page.run(CHIPS) == ["plus: + day by a rule", "minus: dog", "minus: night", "minus: animal"]
    assert page.run(WHY) == ["Rule “one of day, night at least”: adds day."]
    assert read_row(page, "dog") == "is-changed: 0.62 < 0.70"
    assert "1 image has other labels." in page.run("changed.textContent")
    assert page.run("document.documentElement.scrollWidth") <= width
    described = page.run(f"{FIRST}.describe()")
    with Client(served.url) as client:
        shown = client.predict(image, all_probabilities=True)
    assert described == {
        "image": "walk.png",
        "labels": ["day"],
        "probabilities": {"day": shown.probabilities["day"]},
        "thresholds": {"day": 0.5},
        "model": shown.model,
        "error": None,
    }
    page.run("document.getElementById('reset').focus()")
    page.press("Enter")
    assert page.run(CHIPS) == [": dog", ": night", ": animal by a rule"]
    assert page.run("document.getElementById('changes').hidden") is True
    assert page.complaints == []


def test_what_the_page_shows_is_what_predict_answers_and_what_it_copies(
    served: Served, page: Page, image: Path
) -> None:
    use_page(page, served.url, [image])
    page.run("window.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }")
    page.run("document.querySelector('.copy-json').click(); document.querySelector('.copy-curl').click()")
    page.wait_for("copied.length === 2 && document.getElementById('status').textContent.endsWith('copied.')")
    with Client(served.url) as client:
        assert json.loads(page.run("copied[0]")) == client.predict(image, "walk.png").to_dict()
    assert page.run("document.getElementById('status').textContent") == "The command for curl is copied."
    move(page, "cat", 0.05)
    page.run("document.querySelector('.copy-json').click(); document.querySelector('.copy-curl').click()")
    page.wait_for("copied.length === 4")
    answer = json.loads(page.run("copied[2]"))
    assert answer["labels"] == ["dog", "night", "cat", "animal"]
    assert answer["thresholds"]["cat"] == 0.05
    assert page.run("document.getElementById('status').textContent").startswith(
        "The command for curl, with the model's own thresholds, is copied."
    )


def test_the_client_decides_as_the_page_does(tmp_path: Path, image: Path) -> None:
    folder = write_ruled_bundle(tmp_path / "bundle", abstention=Abstention("margin", -0.1, 0.1))
    with serve(folder) as served, Client(served.url) as client:
        shown = client.predict(image, all_probabilities=True)
        assert shown.needs_person is True
        own, moved = (client.decide([shown.probabilities], thresholds)[0] for thresholds in (None, {"night": 0.9}))
        assert own == Decision(shown.labels, (RuleEffect("dog implies animal", added=("animal",)),), True)
        assert moved.labels == ("dog", "animal", "day")
        with pytest.raises(ServerError, match="the server answered 422: The model has no label 'dgo'"):
            client.decide([shown.probabilities], {"dgo": 0.5})
        with pytest.raises(ConfigError, match="probabilities: too many or none, got 33, expected 1 to 32"):
            client.decide([shown.probabilities] * 33)


def test_many_images_are_decided_the_newest_move_last(served: Served, page: Page, tmp_path: Path) -> None:
    images = []
    for number in range(40):  # more than one question to the server takes
        images.append(tmp_path / f"{number:02}.png")
        images[-1].write_bytes(encode((115, 100 + number, 51)))
    use_page(page, served.url, images)
    page.run("performance.clearResourceTimings()")
    # Dragged over a hundred places without a pause, as a mouse does.
    page.run("for (let step = 1; step <= 100; step += 1) moveThreshold('night', 0.5 - step / 1000)")
    page.wait_for("!document.querySelector('[aria-busy=true]')")
    asked = page.run("performance.getEntriesByType('resource').filter((each) => each.name.endsWith('/decide')).length")
    assert 2 <= asked <= 4
    given = page.run(
        "Object.fromEntries([...cards].map((card) => [card.file.name, card.decision.labels.includes('night')]))"
    )
    shown = page.run("Object.fromEntries([...cards].map((card) => [card.file.name, card.answer.probabilities.night]))")
    day = page.run("Object.fromEntries([...cards].map((card) => [card.file.name, card.answer.probabilities.day]))")
    assert len(given) == 40
    # Night at 0.4 against day at 0.5: whichever lies higher above (or less below) its threshold.
    assert given == {name: shown[name] - 0.4 > day[name] - 0.5 for name in shown}
    assert 0 < sum(given.values()) <= 40


# Notes how many images each question to /decide is about, and keeps the answer to one image back.
WATCH = """
  window.asked = [];
  window.letGo = null;
  const kept = new Promise((wake) => { letGo = wake; });
  const fetchNow = window.fetch;
  window.fetch = async (path, options) => {
    if (path === "/decide") asked.push(JSON.parse(options.body).probabilities.length);
    const response = await fetchNow(path, options);
    if (options.body instanceof File && options.body.name === "59.png") await kept;
    return response;
  };
  0
"""


def test_images_that_come_while_a_threshold_is_moved_are_asked_for_once_and_shown_before_the_last(
    served: Served, page: Page, image: Path, tmp_path: Path
) -> None:
    images = []
    for number in range(60):
        images.append(tmp_path / f"{number:02}.png")
        images[-1].write_bytes(encode((115, 143, number)))
    use_page(page, served.url, [image])
    move(page, "night", 0.9)
    page.wait_for("!document.querySelector('[aria-busy=true]')")
    page.run(WATCH)
    page.choose_files("#files", images)
    num_moved = "[...cards].filter((card) => card.decision && card.decision.labels.includes('day')).length"
    page.wait_for(f"{num_moved} === 60")
    assert page.run("cards.size") == 61
    assert page.run("document.getElementById('status').textContent") == "Waiting for 1 image …"
    page.run("letGo(); 0")
    page.wait_for(f"{num_moved} === 61 && {ANSWERED} && !document.querySelector('[aria-busy=true]')")
    asked = page.run("asked")
    assert sum(asked) == 60
    assert max(asked) <= 32
    # Once more for all, in the largest questions.
    page.run("asked.length = 0; moveThreshold('night', 0.8); 0")
    page.wait_for("!document.querySelector('[aria-busy=true]')")
    assert page.run("asked") == [32, 29]
    # Without moved thresholds only those are asked for of which it is not known yet which rule brought the animal.
    page.run("asked.length = 0; resetThresholds(); 0")
    page.wait_for("!document.querySelector('[aria-busy=true]')")
    assert page.run("asked") == [32, 28]
    page.run("asked.length = 0; decideSoon(); 0")
    assert page.run("asked.length + isDeciding") == 0
    assert page.complaints == []


def test_an_error_in_the_page_does_not_keep_later_moves_from_being_decided(
    served: Served, page: Page, image: Path
) -> None:
    use_page(page, served.url, [image])
    page.run("Card.prototype.decideNow = Card.prototype.decide; 0")
    page.run("Card.prototype.decide = () => { throw new Error('a bug'); }; 0")
    move(page, "night", 0.9)
    page.run("Card.prototype.decide = Card.prototype.decideNow; 0")
    assert page.run("isDeciding") is False
    move(page, "night", 0.85)
    assert "minus: night" in page.run(CHIPS)


def test_a_server_that_does_not_answer_is_said_and_asked_again(tmp_path: Path, page: Page, image: Path) -> None:
    with serve(write_ruled_bundle(tmp_path / "bundle")) as served:
        use_page(page, served.url, [image])
        disconnect(page, True)
        move(page, "night", 0.9)
        said = "The server does not answer. The labels are those of before."
        assert page.run("document.getElementById('undecided').textContent") == said
        assert page.run("document.getElementById('undecided').checkVisibility()") is True
        assert page.run(CHIPS) == [": dog", ": night", ": animal by a rule"]
        assert read_row(page, "night") == "is-changed: 0.62 < 0.90"  # what the moved threshold gives is not known
        assert read_row(page, "dog") == "is-given: 0.62 ≥ 0.50"
        unknown = "threshold of night 0.500 → 0.900: it is not known which images have other labels."
        assert page.run("changed.textContent") == unknown
        assert page.run(f"{FIRST}.describe().thresholds.night") == 0.5  # of the labels that are shown
        disconnect(page, False)
        page.run("document.getElementById('again').focus()")
        page.press("Enter")
        assert page.run("document.getElementById('undecided').textContent") == ""
        assert page.run("document.getElementById('again').hidden") is True
        assert page.run("document.activeElement.id") == "reset"
        assert "minus: night" in page.run(CHIPS)
        assert page.run("changed.textContent") == "threshold of night 0.500 → 0.900: 1 image has other labels."


def test_another_model_behind_the_page_decides_nothing_of_the_old_answers(
    tmp_path: Path, page: Page, image: Path
) -> None:
    folder = write_ruled_bundle(tmp_path / "bundle")
    with serve(folder) as served:
        use_page(page, served.url, [image])
        write_ruled_bundle(folder, thresholds=(0.25,) * len(NAMES))
        served.process.send_signal(signal.SIGHUP)
        served.wait_until_said("Serving model")
        move(page, "night", 0.9)
        said = "The server has another model now: add the images again. The labels are those of before."
        assert page.run("document.getElementById('undecided').textContent") == said
        assert page.run(CHIPS) == [": dog", ": night", ": animal by a rule"]
        assert "it is not known which images have other labels." in page.run("changed.textContent")


def test_images_that_are_chosen_at_once_stand_in_their_order_before_those_of_before(
    served: Served, page: Page, image: Path, tmp_path: Path
) -> None:
    images = [tmp_path / f"{letter}.png" for letter in "abc"]
    for path in images:
        path.write_bytes(image.read_bytes())
    use_page(page, served.url, [image])
    page.choose_files("#files", images)
    page.wait_for(f"cards.size === 4 && {ANSWERED} && !document.querySelector('[aria-busy=true]')")
    titles = "[...document.querySelectorAll('h2')].map((title) => title.textContent)"
    assert page.run(titles) == ["a.png", "b.png", "c.png", "walk.png"]


def test_answer_copies_and_errors_call_an_image_by_the_name_of_its_file(
    served: Served, page: Page, tmp_path: Path
) -> None:
    names = ("ä & b.png", "no image.png")
    for name, data in zip(names, (encode(COLOUR), b"text"), strict=True):
        (tmp_path / name).write_bytes(data)
    use_page(page, served.url, [tmp_path / name for name in names])
    assert page.run("[...cards].map((card) => card.describe().image)") == list(names)
    note = page.run("document.querySelector('article:last-child .note').textContent")
    assert note.startswith("no image.png: not an image in a supported format")
    assert page.run("[...cards].map((card) => card.writeCurl().split('?')[1])") == [
        "name=%C3%A4+%26+b.png'",
        "name=no+image.png'",
    ]


def test_a_goal_that_moved_thresholds_do_not_keep_and_a_person_who_is_needed_are_said(
    tmp_path: Path, page: Page, image: Path
) -> None:
    policy = {"thresholds": (0.0,) * 5, "goal": "top_k,k=2", "rules": (Rule("at_most", count=2),)}
    folder = write_ruled_bundle(tmp_path / "bundle", **policy, abstention=Abstention("margin", -0.1, 0.1))
    with serve(folder) as served:
        use_page(page, served.url, [image])
        assert page.run(CHIPS) == [
            ": dog",
            ": night",
            "left: animal by a rule",
            "left: day by a rule",
            "left: cat by a rule",
        ]
        assert page.run(WHY) == ["Rule “at most 2 labels”: leaves out animal, day, cat."]
        note = "document.querySelector('article .note').textContent"
        assert page.run(note) == "A person should look at it."  # the cat is 0.083 above its threshold
        assert page.run(f"{FIRST}.describe().needs_person") is True
        move(page, "cat", 0.3)
        assert page.run(note) == ""
        assert page.run(f"{FIRST}.describe().needs_person") is False
        assert page.run("document.getElementById('notes').textContent").startswith(
            "The model gives the most probable labels, whatever their thresholds; with moved ones"
        )


def test_images_that_are_dropped_or_pasted_are_decided_with_the_moved_thresholds(
    served: Served, page: Page, image: Path
) -> None:
    use_page(page, served.url, [image])
    move(page, "night", 0.9)
    file = "const data = new DataTransfer(); data.items.add([...cards][0].file);"
    for kind, options in (("paste", "clipboardData: data"), ("drop", "dataTransfer: data")):
        number = page.run("cards.size")
        event = "ClipboardEvent" if kind == "paste" else "DragEvent"
        page.run(f"{{ {file} document.dispatchEvent(new {event}('{kind}', {{ {options}, bubbles: true }})); }}")
        page.wait_for(f"cards.size === {number + 1} && {ANSWERED} && !document.querySelector('[aria-busy=true]')")
        assert "plus: + day by a rule" in page.run(CHIPS), kind
    assert "3 images have other labels." in page.run("changed.textContent")
    assert page.complaints == []


@pytest.mark.skipif(not AXE, reason="MANYLABEL_AXE does not name an axe.min.js")
@pytest.mark.parametrize("width", [1100, 360])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_to_complain_of(served: Served, page: Page, image: Path, is_dark: bool, width: int) -> None:
    use_page(page, served.url, [image], width, is_dark=is_dark)
    move(page, "day", 0.35)
    move(page, "cat", 0.05)
    move(page, "night", 0.6)
    page.run(Path(AXE).read_text("utf-8") + ";0")
    violations = "axe.run().then((found) => found.violations.map((each) => each.id + each.nodes[0].html.slice(0, 99)))"
    assert page.run(violations) == []
    page.open(f"{served.url}/docs", width, is_dark=is_dark)
    page.run(Path(AXE).read_text("utf-8") + ";0")
    assert page.run(violations) == []

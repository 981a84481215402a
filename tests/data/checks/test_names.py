from __future__ import annotations

import itertools
import string
from collections.abc import Callable

import pytest

from manylabel.data.annotations import Annotations
from manylabel.data.checks.names import find_name_findings, find_same_names, find_similar_names, fold_name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("SCI-FI", id="case"),
        pytest.param("sci fi", id="a blank for the hyphen"),
        pytest.param("Sci_Fi", id="an underscore for the hyphen"),
        pytest.param("SciFi", id="no hyphen"),
        pytest.param("Sci–Fi", id="a dash for the hyphen"),
        pytest.param("Sci\u00a0Fi", id="a blank that does not break"),
        pytest.param("Sc\uff49-Fi", id="a wide letter"),
    ],
)
def test_one_label_in_two_spellings_is_found_and_the_frequent_one_kept(name: str) -> None:
    assert find_same_names({name: 3, "Sci-Fi": 120, "War": 80}) == [(name, "Sci-Fi")]
    assert find_same_names({name: 300, "Sci-Fi": 120, "War": 80}) == [("Sci-Fi", name)]


def test_a_name_of_signs_alone_is_only_like_itself() -> None:
    assert find_same_names({"-": 1, "_": 2, "--": 3}) == []
    assert fold_name("-") == "-"


def test_composed_and_decomposed_letters_are_one_spelling() -> None:
    assert find_same_names({"caf\u00e9": 2, "cafe\u0301": 1}) == [("cafe\u0301", "caf\u00e9")]


SIMILAR = [
    pytest.param("café", "cafe", id="an accent"),
    pytest.param("cars", "car", id="a plural"),
    pytest.param("boxes", "box", id="a plural in es"),
    pytest.param("horses", "horse", id="a plural of a word in e"),
    pytest.param("babies", "baby", id="a plural in ies"),
    pytest.param("red cars", "red_car", id="a plural of one word of two"),
    pytest.param("motocycle", "motorcycle", id="a letter left out"),
    pytest.param("receeive", "receive", id="a letter too many"),
    pytest.param("bicicle", "bicycle", id="another letter"),
    pytest.param("recieve", "receive", id="two letters swapped"),
    pytest.param("documnetery", "documentary", id="two slips in a long word"),
    pytest.param("swiming pool", "swimming_pool", id="a slip in one word of two"),
]


@pytest.mark.parametrize(("rare", "frequent"), SIMILAR)
def test_names_spelt_almost_alike_are_found_with_the_frequent_one_to_keep(rare: str, frequent: str) -> None:
    assert find_similar_names({rare: 2, "zebra": 9, frequent: 30}) == [(rare, frequent)]
    assert find_similar_names({rare: 30, "zebra": 9, frequent: 2}) == [(frequent, rare)]


DIFFERENT = [
    pytest.param("cat", "car", id="short words"),
    pytest.param("horse", "house", id="five letters"),
    pytest.param("red cat", "red car", id="short words in a long name"),
    pytest.param("typical", "atypical", id="letters before the other turn it round"),
    pytest.param("attractive", "unattractive", id="un before the other"),
    pytest.param("finding 12", "finding 13", id="numbers"),
    pytest.param("grade0001", "grade0002", id="numbers inside the word"),
    pytest.param("traffic light", "traffic lights ahead", id="one word more"),
    pytest.param("is", "i", id="a word too short for a plural"),
    pytest.param("Music", "Musical", id="two letters in a word of seven"),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_names_that_mean_two_things_are_left_alone(first: str, second: str) -> None:
    assert find_similar_names({first: 2, second: 30}) == []
    assert find_same_names({first: 2, second: 30}) == []


def test_ten_thousand_names_that_share_their_beginning_are_compared_with_their_likes_alone() -> None:
    letters = string.ascii_lowercase
    codes = ("".join(code) for code in itertools.product(letters, letters, letters[:15]))
    count_of = dict.fromkeys((f"vehicle number {code}" for code in codes), 1)
    count_of["vehicel number aaa"] = 0
    assert len(count_of) == 10_141
    assert find_similar_names(count_of) == [("vehicel number aaa", "vehicle number aaa")]


def test_findings_name_each_pair_with_its_counts(build_table: Callable[..., Annotations]) -> None:
    states = [[1, 0, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 0, 1, 1, 0], [0, 0, 0, 1, 0, 1]]
    table = build_table(states, "sci fi", "Sci-Fi", "Musicals", "Musical", "musical", "N/A")
    findings = {finding.kind: finding for finding in find_name_findings(table)}
    assert list(findings) == ["label-named-missing", "same-label", "similar-labels"]
    assert {finding.severity for finding in findings.values()} == {"warning"}
    assert findings["label-named-missing"].message == "Labels named like a missing value: 'N/A' (1)."
    assert findings["label-named-missing"].rows == ("N/A",)
    assert findings["same-label"].message == (
        "Labels that differ only in case, blanks, hyphens or underscores: "
        "'sci fi' (1) -> 'Sci-Fi' (2), 'musical' (1) -> 'Musical' (3)."
    )
    assert findings["same-label"].rows == ("sci fi", "Sci-Fi", "musical", "Musical")
    assert findings["similar-labels"].message == "Labels spelt almost alike: 'Musicals' (2) -> 'Musical' (3)."
    assert findings["similar-labels"].rows == ("Musicals", "Musical")


@pytest.mark.parametrize("name", ["N/A", "nan", "NaN", "None", "null", "?", "-", "Unknown"])
def test_a_name_that_looks_like_a_missing_value_is_named(name: str, build_table: Callable[..., Annotations]) -> None:
    assert [finding.rows for finding in find_name_findings(build_table([[1, 0]], name, "dog"))] == [(name,)]

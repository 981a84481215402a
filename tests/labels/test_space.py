from __future__ import annotations

import pytest

from manylabel.errors import DataError
from manylabel.labels.space import LabelSpace

SPACE = LabelSpace(("dog", "beach", "New York"))


def test_a_name_stands_at_its_column() -> None:
    assert [SPACE.index(name) for name in SPACE] == [0, 1, 2]
    assert len(SPACE) == 3
    assert "beach" in SPACE
    assert "Beach" not in SPACE
    assert 0 not in SPACE


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError) as error:
        SPACE.index("Baech")
    assert str(error.value) == (
        "label space: unknown label 'Baech' (did you mean 'beach'?), "
        "expected one of its 3 names (dog, beach, New York)."
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param((), "label space: there is no label, expected at least one name.", id="no name"),
        pytest.param(
            ("b", "a", "b", "a", "c"),
            "label space: names stand twice: a, b, expected unique names.",
            id="repeated names, each listed once",
        ),
        pytest.param((3,), "label space: a label is not text, got 3. Write names as text.", id="a number"),
        pytest.param(
            ("caf\udce9",), "label space: a label is not text, got 'caf\\udce9'. Write names as text.", id="stray bytes"
        ),
    ],
)
def test_names_that_are_no_label_space_are_refused(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as error:
        LabelSpace(names)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["", " dog", "dog\t", "a\nb", "a\rb", "a\0b"])
def test_a_name_that_no_table_could_give_back_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="a label is empty, has blanks around it or a line break in it"):
        LabelSpace((name,))


@pytest.mark.parametrize("name", ["N/A", "nan", "null", "0", "a|b", "a,b", "x\u2028y", "Zürich", "👩‍👧"])
def test_whatever_else_is_text_is_a_name(name: str) -> None:
    assert LabelSpace((name,)).index(name) == 0


def test_the_digest_depends_on_the_names_and_their_order() -> None:
    digests = {LabelSpace(names).digest for names in [("a", "b"), ("b", "a"), ("a",), ("ab",), ('a","b',)]}
    assert len(digests) == 5
    # By hand: sha256sum of ["a","b"].
    assert LabelSpace(("a", "b")).digest == "0473ef2dc0d324ab"


def test_subset_rename_and_union_keep_the_order_they_are_given() -> None:
    assert SPACE.subset(["New York", "dog"]).names == ("New York", "dog")
    assert SPACE.rename({"dog": "cat"}).names == ("cat", "beach", "New York")
    assert SPACE.union(LabelSpace(("sun", "dog", "air"))).names == ("dog", "beach", "New York", "sun", "air")


def test_align_gives_the_columns_of_another_space_and_none_for_what_it_lacks() -> None:
    assert SPACE.align(LabelSpace(("New York", "dog"))) == [1, None, 0]


def test_a_name_that_does_not_exist_is_not_renamed_or_chosen() -> None:
    with pytest.raises(DataError, match=r"unknown label 'dgo' \(did you mean 'dog'\?\)"):
        SPACE.rename({"dgo": "cat"})
    with pytest.raises(DataError, match=r"unknown label 'dgo' \(did you mean 'dog'\?\)"):
        SPACE.subset(["dgo"])


def test_renaming_two_labels_to_one_is_refused() -> None:
    with pytest.raises(DataError, match="names stand twice: beach"):
        SPACE.rename({"dog": "beach"})

"""What the names of the labels tell: one label spelt in two ways, and names that look like a missing value."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from manylabel.data.annotations import Annotations
from manylabel.data.findings import Finding, build_finding
from manylabel.errors import join_names

MISSING_VALUE_NAMES = frozenset(
    ("n/a", "na", "nan", "none", "null", "nil", "?", "??", "-", "--", ".", "unknown", "missing", "undefined", "empty",
     "not available", "unlabeled", "unlabelled")
)  # fmt: skip
"""Names, in lower case, that programs and people write where there is no value."""

LENGTH_FOR_ONE_EDIT = 6
LENGTH_FOR_TWO_EDITS = 10
"""How long a word has to be before one, or two, wrong letters are taken for a slip: cat and car are two animals."""

_LONGEST_FOR_TWO_EDITS = 40
_LONGEST = 200

_SEPARATORS = re.compile(r"[\s\-_‐-―]+")

Pair = tuple[str, str]
Words = tuple[str, ...]
Key = TypeVar("Key", bound=Hashable)


def find_name_findings(annotations: Annotations) -> Iterator[Finding]:
    """Yield labels that are spelt alike, spelt almost alike, or named like a missing value."""
    names, present_L = annotations.label_space.names, annotations.targets.num_present_L
    count_of = dict(zip(names, present_L.tolist(), strict=True))
    missing = [name for name in names if name.casefold() in MISSING_VALUE_NAMES]
    if missing:
        shown = join_names([f"{name!r} ({count_of[name]:,})" for name in missing])
        yield build_finding("label-named-missing", f"Labels named like a missing value: {shown}.", missing)
    same = find_same_names(count_of)
    if same:
        message = f"Labels that differ only in case, blanks, hyphens or underscores: {_join_pairs(same, count_of)}."
        yield build_finding("same-label", message, itertools.chain(*same))
    kept = {name: count for name, count in count_of.items() if name not in dict(same)}
    similar = find_similar_names(kept)
    if similar:
        message = f"Labels spelt almost alike: {_join_pairs(similar, count_of)}."
        yield build_finding("similar-labels", message, itertools.chain(*similar))


def _join_pairs(pairs: Sequence[Pair], count_of: dict[str, int]) -> str:
    return join_names([f"{name!r} ({count_of[name]:,}) -> {kept!r} ({count_of[kept]:,})" for name, kept in pairs])


def find_same_names(count_of: dict[str, int]) -> list[Pair]:
    """Return pairs of names that are one but for case, blanks, hyphens, underscores and how Unicode writes a letter.

    Each pair is (name, the more frequent one to keep).

    Example:
        >>> find_same_names({"sci fi": 3, "Sci-Fi": 120, "war": 9})
        [('sci fi', 'Sci-Fi')]
    """
    return _pair_with_most_frequent(_group(count_of, fold_name), count_of)


def find_similar_names(count_of: dict[str, int]) -> list[Pair]:
    """Return pairs of names that differ in an accent, in a plural, or in one or two letters of a long word.

    Each pair is (name, the more frequent one). Words with digits have to be equal, and a word is not alike another
    that only has letters before it (`typical`, `atypical`).

    Example:
        >>> find_similar_names({"motocycle": 2, "motorcycle": 80, "cars": 5, "car": 60, "bar": 7})
        [('cars', 'car'), ('motocycle', 'motorcycle')]
    """
    alike = _group(count_of, _spell_plainly)
    pairs = _pair_with_most_frequent(alike, count_of)
    name_of = {plain: max(names, key=lambda name: count_of[name]) for plain, names in alike.items()}
    plurals = _find_plurals(name_of)
    for first, second in [*plurals, *(pair for pair in _find_slips(list(name_of)) if pair not in set(plurals))]:
        rare, frequent = sorted((name_of[first], name_of[second]), key=lambda name: count_of[name])
        pairs.append((rare, frequent))
    return list(dict.fromkeys(pairs))


def _group(names: Iterable[str], find_key: Callable[[str], Key]) -> dict[Key, list[str]]:
    groups: dict[Key, list[str]] = {}
    for name in names:
        groups.setdefault(find_key(name), []).append(name)
    return groups


def _pair_with_most_frequent(groups: Mapping[Key, list[str]], count_of: dict[str, int]) -> list[Pair]:
    pairs = []
    for names in groups.values():
        kept = max(names, key=lambda name: count_of[name])
        pairs += [(name, kept) for name in names if name != kept]
    return pairs


def fold_name(name: str) -> str:
    """Return what two spellings of one label share.

    Example:
        >>> fold_name("Sci-Fi"), fold_name("sci fi"), fold_name("SCI_FI")
        ('scifi', 'scifi', 'scifi')
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    joined = _SEPARATORS.sub("", folded)
    return joined if joined else folded


def _spell_plainly(name: str) -> Words:
    """Return the words of a name in lower case and without accents."""
    letters = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    words = tuple(word for word in _SEPARATORS.split(plain) if word)
    return words if words else (plain,)


def _find_plurals(names: Mapping[Words, str]) -> list[tuple[Words, Words]]:
    """Return (plural, singular) of names in which one word is an English plural of the other's."""
    return [
        (words, singular)
        for words in names
        for place, word in enumerate(words)
        for singular in ((*words[:place], form, *words[place + 1 :]) for form in _singularise(word))
        if singular in names
    ]


def _singularise(word: str) -> list[str]:
    if len(word) < 4 or not word.endswith("s"):
        return []
    endings = {"ies": "y", "es": "", "s": ""}
    return [word.removesuffix(ending) + instead for ending, instead in endings.items() if word.endswith(ending)]


def _find_slips(names: Sequence[Words]) -> list[tuple[Words, Words]]:
    """Return pairs of names of which one word differs by a slip of the pen, each once.

    Two words that differ in up to d letters are equal once the right d letters of each are left out. So names that
    share such a shortened form are compared, and no others: the work grows with the number of names, not its square.

    Source: the deletion neighbourhood of Mor and Fraenkel 1982, "A hash code method for detecting and correcting
        spelling errors".
    """
    places_of: dict[int, list[int]] = {}
    for place, words in enumerate(names):
        for form in _shorten(words):
            places_of.setdefault(form, []).append(place)
    pairs = {pair for places in places_of.values() if len(places) > 1 for pair in itertools.combinations(places, 2)}
    return [(names[first], names[second]) for first, second in sorted(pairs) if _is_slip(names[first], names[second])]


def _shorten(words: Words) -> set[int]:
    """Return hashes of the name with one of its words shortened by a letter, or two where it is long, or none."""
    forms: set[int] = set()
    for place, word in enumerate(words):
        if LENGTH_FOR_ONE_EDIT - 1 <= len(word) <= _LONGEST and not any(letter.isdigit() for letter in word):
            rest = hash((place, words[:place], words[place + 1 :]))
            once = {word[:at] + word[at + 1 :] for at in range(len(word))}
            forms |= {hash((rest, form)) for form in {word} | once}
            if LENGTH_FOR_TWO_EDITS - 2 <= len(word) <= _LONGEST_FOR_TWO_EDITS:
                forms |= {hash((rest, form[:at] + form[at + 1 :])) for form in once for at in range(len(form))}
    return forms


def _is_slip(first: Words, second: Words) -> bool:
    different = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    if len(first) != len(second) or len(different) != 1:
        return False
    short, long = sorted(different[0], key=len)
    if len(long) < LENGTH_FOR_ONE_EDIT or long.endswith(short):
        return False
    return count_edits(short, long) <= (2 if len(long) >= LENGTH_FOR_TWO_EDITS else 1)


def count_edits(first: str, second: str) -> int:
    """Return how many letters have to be put in, left out, replaced or swapped with a neighbour to turn one into other.

    Example:
        >>> count_edits("recieve", "receive"), count_edits("kitten", "sitting")
        (1, 3)

    Source: Damerau 1964 and Levenshtein 1966; no part is edited twice (optimal string alignment).
    """
    rows = [list(range(len(second) + 1))]
    for i, letter in enumerate(first, start=1):
        above, row = rows[-1], [i]
        for j, other in enumerate(second, start=1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, rows[i - 2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]

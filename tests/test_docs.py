"""The documentation does what it says: its Python runs, its commands parse, its links lead somewhere.

How a page is written for this test:

- A ```python block is executed, in a folder that holds `labels.csv`, `images/` and `cat.jpg`; the blocks of one page
  share their names, in order. A block that starts with `>>>` is compared with the answers it shows.
- `<!-- slow -->` on the line before a block: it trains, so it runs with the `scenario` tests only.
- `<!-- not executed: reason -->` on the line before a block: it is not run, and the reason says why.
- In ```console, ```bash and ```sh blocks every `manylabel ...` must name a command and flags that exist, unless the
  block is marked as not executed. A usage line with `[--flag]` belongs into a ```text block.
"""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)

PROMISED_COMMANDS = (
    'python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[train]" && .venv/bin/manylabel demo',
    'python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]" && .venv/bin/pytest',
)

LABEL_COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}


def name_page(path: Path) -> str:
    """Return the path of a page from the root of the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------------------------------------------------------------
# Reading a page.
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line its text starts on, and the comment right above it."""

    language: str
    text: str
    line: int
    comment: str | None

    @property
    def is_slow(self) -> bool:
        """Whether the page says that the block trains."""
        return self.comment == "slow"

    @property
    def is_skipped(self) -> bool:
        """Whether the page gives a reason for not running the block."""
        return self.comment is not None and re.fullmatch(r"not executed:\s*\S.*", self.comment) is not None


FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+-]*)")
COMMENT = re.compile(r"^[ \t]*<!--\s*(?P<text>.*?)\s*-->[ \t]*$")


def find_blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page in order; a block that is never closed ends with the page."""
    blocks = []
    lines = page.splitlines()
    index = 0
    while index < len(lines):
        opening = FENCE.match(lines[index])
        if opening is None:
            index += 1
            continue
        closing = re.compile(rf"^[ \t]*{opening['fence'][0]}{{{len(opening['fence'])},}}[ \t]*$")
        end = next((at for at in range(index + 1, len(lines)) if closing.match(lines[at])), len(lines))
        indent = len(opening["indent"])
        text = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines[index + 1 : end])
        blocks.append(Block(opening["language"], text, index + 2, _read_comment_above(lines, index)))
        index = end + 1
    return blocks


def _read_comment_above(lines: list[str], index: int) -> str | None:
    comment = COMMENT.match(lines[index - 1]) if index > 0 else None
    return comment["text"] if comment else None


def find_marker_faults(page: str) -> list[str]:
    """Return the comments right above Python blocks that this test does not understand."""
    return [
        f"line {block.line - 2}: <!-- {block.comment} --> is neither 'slow' nor 'not executed: reason'"
        for block in find_blocks(page)
        if block.language in ("python", "pycon") and block.comment is not None
        if not block.is_slow and not block.is_skipped
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Python blocks.
# ---------------------------------------------------------------------------------------------------------------------


def choose_python_blocks(page: str, *, with_slow: bool) -> list[Block]:
    """Return the blocks to run: without the slow ones, or, `with_slow`, all of a page that has a slow one."""
    blocks = [block for block in find_blocks(page) if block.language in ("python", "pycon") and not block.is_skipped]
    if with_slow:
        return blocks if any(block.is_slow for block in blocks) else []
    return [block for block in blocks if not block.is_slow]


def run_python_blocks(blocks: list[Block], name: str) -> None:
    """Run the blocks in order with shared names; an error says the page and the line.

    Raises:
        AssertionError: a `>>>` example answered something else than the page says.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        if block.text.lstrip().startswith(">>>"):
            _run_examples(block, name, names)
        else:
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, name, "exec", dont_inherit=True), names)


def _run_examples(block: Block, name: str, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text + "\n", names, name, name, block.line - 1)
    answers: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    results = runner.run(test, out=answers.append, clear_globs=False)
    assert results.failed == 0, "".join(answers)
    names.update(test.globs)


@pytest.fixture
def reader_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder, the working directory of the test: `labels.csv`, `images/` with 48 small files, `cat.jpg`.

    An image has a band for each of its labels; every eighth has none.
    """
    (tmp_path / "images").mkdir()
    rows = ["image,labels"]
    for number in range(48):
        labels = [label for bit, label in enumerate(LABEL_COLOURS) if number >> bit & 1]
        image = Image.new("RGB", (48, 48), (120 + number, 120, 120))
        for label in labels:
            place = list(LABEL_COLOURS).index(label) * 16
            image.paste(LABEL_COLOURS[label], (0, place, 48, place + 16))
        image.save(tmp_path / "images" / f"{number:02}.png")
        rows.append(f"{number:02}.png,{'|'.join(labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    Image.new("RGB", (64, 48), LABEL_COLOURS["red"]).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def find_pages_with_python(*, with_slow: bool) -> list[str]:
    """Return the names of the pages that have Python to run."""
    return [
        name_page(path) for path in PAGES if choose_python_blocks(path.read_text(encoding="utf-8"), with_slow=with_slow)
    ]


@pytest.mark.parametrize("page", find_pages_with_python(with_slow=False))
@pytest.mark.usefixtures("reader_folder")
def test_the_python_of_a_page_runs(page: str) -> None:
    run_python_blocks(choose_python_blocks((ROOT / page).read_text(encoding="utf-8"), with_slow=False), page)


@pytest.mark.scenario
@pytest.mark.parametrize("page", find_pages_with_python(with_slow=True))
@pytest.mark.usefixtures("reader_folder")
def test_the_python_of_a_page_that_trains_runs(page: str) -> None:
    run_python_blocks(choose_python_blocks((ROOT / page).read_text(encoding="utf-8"), with_slow=True), page)


# ---------------------------------------------------------------------------------------------------------------------
# Commands.
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """The words after `manylabel` in one command of a page, and its line."""

    words: tuple[str, ...]
    line: int


OPERATORS = ("&&", "||", "|", ";", "&")
REDIRECTIONS = (">", ">>", "<", ">&")


def find_commands(page: str) -> list[Command]:
    """Return every use of `manylabel` in the shell blocks of a page; in console blocks only after a `$`."""
    return [
        Command(tuple(words), line)
        for block in find_blocks(page)
        if block.language in ("console", "bash", "sh") and not block.is_skipped
        for line, text in _join_lines(block)
        for simple in _split_commands(text)
        if (words := _read_arguments(simple)) is not None
    ]


def _join_lines(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the commands of a block with the line each starts on; a backslash at the end continues it."""
    joined, start = "", 0
    for line, text in enumerate(block.text.splitlines(), start=block.line):
        is_continued = joined != ""
        if block.language == "console" and not is_continued:
            if not text.lstrip().startswith("$ "):
                continue
            text = text.lstrip()[2:]
        start = start if is_continued else line
        joined += text.rstrip().removesuffix("\\") + " "
        if not text.rstrip().endswith("\\"):
            yield start, joined
            joined = ""
    if joined:
        yield start, joined


def _split_commands(text: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True  # a comma or a colon ends no word
    words: list[str] = []
    is_target = False
    for token in lexer:
        if token in OPERATORS:
            yield words
            words = []
        elif token in REDIRECTIONS:
            is_target = True
            if words and words[-1] in ("1", "2"):
                words.pop()
        elif is_target:
            is_target = False
        else:
            words.append(token)
    yield words


def _read_arguments(words: list[str]) -> list[str] | None:
    """Return the words after `manylabel`, or None when the command is another one."""
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words:
        return None
    if Path(words[0]).name in ("manylabel", "manylabel.exe"):
        return words[1:]
    if Path(words[0]).name.startswith("python") and words[1:3] == ["-m", "manylabel"]:
        return words[3:]
    return None


def find_command_faults(words: tuple[str, ...], app: Any) -> list[str]:
    """Return what the typer app would not accept: a command, a flag, a missing value, the number of arguments."""
    import typer

    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return [f"no command {rest[0]!r}"]
        command = command.commands[rest.pop(0)]
    flags = {flag: option for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    flags = {flag: option for flag, option in flags.items() if flag.startswith("-")}
    faults: list[str] = []
    num_arguments = 0
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            num_arguments += 1
            continue
        flag, equals, _ = word.partition("=")
        if flag == "--help":
            return faults
        if flag not in flags:
            faults.append(f"no flag {flag}")
        elif equals == "" and not (flags[flag].is_flag or flags[flag].count):
            if rest:
                rest.pop(0)
            else:
                faults.append(f"{flag} without a value")
    if not hasattr(command, "commands"):
        faults += _find_argument_faults(command, num_arguments)
    return faults


def _find_argument_faults(command: Any, num_arguments: int) -> list[str]:
    arguments = [param for param in command.params if not param.opts[0].startswith("-")]
    least = sum(param.required for param in arguments)
    if num_arguments < least:
        return [f"{num_arguments} arguments, at least {least} are needed"]
    if num_arguments > len(arguments) and all(param.nargs == 1 for param in arguments):
        return [f"{num_arguments} arguments, at most {len(arguments)} are taken"]
    return []


PAGES_WITH_COMMANDS = [name_page(path) for path in PAGES if find_commands(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_every_command_of_a_page_exists(page: str) -> None:
    from manylabel.cli.main import app

    commands = find_commands((ROOT / page).read_text(encoding="utf-8"))
    faults = [
        f"{page}:{command.line}: manylabel {shlex.join(command.words)}: {fault}"
        for command in commands
        for fault in find_command_faults(command.words, app)
    ]
    assert faults == []


# ---------------------------------------------------------------------------------------------------------------------
# Links.
# ---------------------------------------------------------------------------------------------------------------------

LINK = re.compile(
    r"""\]\(\s*<?(?P<inline>[^)\s>]+)>?(?:\s+"[^"]*")?\s*\)"""  # [text](target "title")
    r"""|^[ ]{0,3}\[[^\]]+\]:\s*<?(?P<named>[^\s>]+)"""  # [name]: target
    r"""|\b(?:src|href)="(?P<html>[^"]+)\"""",
    re.MULTILINE,
)


def find_link_faults(page: Path, root: Path = ROOT) -> list[str]:
    """Return the links of a page to files or headings that are not there; links to other hosts are not followed."""
    text = re.sub(r"(`+)[^`\n]+?\1", "", _remove_blocks(page.read_text(encoding="utf-8")))
    faults = []
    for found in LINK.finditer(text):
        target = next(group for group in found.groups() if group is not None)
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        line = text.count("\n", 0, found.start()) + 1
        place, _, heading = unquote(target).partition("#")
        file = (page.parent / place).resolve() if place else page.resolve()
        if not file.is_relative_to(root.resolve()):
            faults.append(f"line {line}: {target} leads out of the repository")
        elif not _exists_as_written(file, root.resolve()):
            faults.append(f"line {line}: {target} does not exist")
        elif heading and file.suffix == ".md" and heading not in find_headings(file.read_text(encoding="utf-8")):
            faults.append(f"line {line}: {target} names no heading")
    return faults


def _remove_blocks(page: str) -> str:
    """Return the page with the text of its blocks blanked out, line numbers kept."""
    lines = page.splitlines()
    for block in find_blocks(page):
        for at in range(block.line - 1, block.line - 1 + len(block.text.splitlines())):
            lines[at] = ""
    return "\n".join(lines)


def _exists_as_written(file: Path, root: Path) -> bool:
    """Whether the file is there with exactly these capitals, also where the file system does not mind."""
    for part in [file, *file.parents]:
        if part == root:
            return True
        if not part.parent.is_dir() or part.name not in {entry.name for entry in part.parent.iterdir()}:
            return False
    return False


def find_headings(page: str) -> set[str]:
    """Return the anchors of a page's headings, written as the usual renderers do."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*$", _remove_blocks(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        anchor = words.replace(" ", "-")
        number = 1
        while anchor in anchors:
            anchor = f"{words.replace(' ', '-')}-{number}"
            number += 1
        anchors.add(anchor)
    return anchors


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    assert find_link_faults(path) == []


@pytest.mark.parametrize("path", PAGES, ids=name_page)
def test_every_marker_of_a_page_is_understood(path: Path) -> None:
    assert find_marker_faults(path.read_text(encoding="utf-8")) == []


# ---------------------------------------------------------------------------------------------------------------------
# The pages the project promises.
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", PROMISED_COMMANDS, ids=["the demo", "the tests"])
def test_the_readme_has_its_two_commands_each_on_one_line(command: str) -> None:
    lines = [line.strip().removeprefix("$ ") for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()]
    assert lines.count(command) == 1


def test_the_documentation_has_python_and_commands_to_check() -> None:
    assert find_pages_with_python(with_slow=False) + find_pages_with_python(with_slow=True) != []
    assert PAGES_WITH_COMMANDS != []


RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
RECORD_PARTS = ("Context", "Decision", "Consequences", "What would change our mind")


def find_record_faults(name: str, record: str, index: str) -> list[str]:
    """Return what a decision record lacks: its number in the title, a part, its row in the index."""
    faults = []
    number = name.split("-")[0]
    if not re.match(rf"# {number}: \S", record):
        faults.append(f"{name}: the title does not start with '# {number}: '")
    parts = re.findall(r"^## (.+)$", record, re.MULTILINE)
    faults += [f"{name}: no part '## {part}'" for part in RECORD_PARTS if part not in parts]
    if f"({name})" not in index:
        faults.append(f"{name}: not in the index")
    return faults


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_decision_record_is_whole_and_in_the_index(path: Path) -> None:
    index = (path.parent / "README.md").read_text(encoding="utf-8")
    assert find_record_faults(path.name, path.read_text(encoding="utf-8"), index) == []


def test_the_numbers_of_the_decision_records_have_no_gap() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


# ---------------------------------------------------------------------------------------------------------------------
# Each gate can fail.
# ---------------------------------------------------------------------------------------------------------------------


def fence(language: str, text: str, comment: str = "") -> str:
    """Return a page with one block."""
    return f"# Page\n\n{comment}\n```{language}\n{text}\n```\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("import manylabel.no_such_module", ModuleNotFoundError, id="a module that is gone"),
        pytest.param("assert 1 + 1 == 3", AssertionError, id="a claim that is false"),
        pytest.param(">>> 1 + 1\n3", AssertionError, id="an answer that is another"),
        pytest.param("def broken(:", SyntaxError, id="not Python"),
    ],
)
def test_python_that_does_not_work_is_found(text: str, error: type[Exception]) -> None:
    blocks = choose_python_blocks(fence("python", text), with_slow=False)
    with pytest.raises(error):
        run_python_blocks(blocks, "page.md")


def test_an_error_in_a_block_names_the_page_and_the_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_python_blocks(find_blocks(fence("python", "one = 1\none / 0")), "page.md")
    last = caught.traceback[-1]
    assert (Path(str(last.path)).name, last.lineno + 1) == ("page.md", 6)


def test_the_blocks_of_a_page_share_their_names() -> None:
    page = fence("python", "number = 2") + fence("pycon", ">>> number + 1\n3\n>>> more = 4") + fence("python", "more")
    blocks = find_blocks(page)
    run_python_blocks(blocks, "page.md")
    with pytest.raises(NameError, match="number"):
        run_python_blocks([Block("python", "number", 1, None)], "other.md")


def test_slow_blocks_run_with_the_scenarios_only_and_with_the_whole_page() -> None:
    page = fence("python", "first") + fence("python", "trains", "<!-- slow -->")
    assert [block.text for block in choose_python_blocks(page, with_slow=False)] == ["first"]
    assert [block.text for block in choose_python_blocks(page, with_slow=True)] == ["first", "trains"]
    assert choose_python_blocks(fence("python", "first"), with_slow=True) == []


def test_a_block_with_a_reason_is_not_run() -> None:
    page = fence("python", "1 / 0", "<!-- not executed: shows the guide's mistake -->")
    assert choose_python_blocks(page, with_slow=False) == []
    assert find_marker_faults(page) == []


@pytest.mark.parametrize(
    "comment",
    [
        pytest.param("<!-- not executed -->", id="no reason"),
        pytest.param("<!-- not executed: -->", id="an empty reason"),
        pytest.param("<!-- slwo -->", id="misspelt"),
    ],
)
def test_a_marker_that_is_not_understood_is_found_and_its_block_runs(comment: str) -> None:
    page = fence("python", "x", comment)
    (fault,) = find_marker_faults(page)
    assert fault == f"line 3: {comment} is neither 'slow' nor 'not executed: reason'"
    assert len(choose_python_blocks(page, with_slow=False)) == 1


def test_blocks_in_lists_and_longer_fences_are_read() -> None:
    page = "1. Step\n\n   ```python\n   if True:\n       x = 1\n   ```\n\n````text\n```python\nno\n```\n````\n"
    assert [(block.language, block.text) for block in find_blocks(page)] == [
        ("python", "if True:\n    x = 1"),
        ("text", "```python\nno\n```"),
    ]


@pytest.fixture
def planted_app() -> Any:
    """A small typer app: `train DATA --out RUN [--fast/--slow]`, `predict MODEL IMAGES...`, `label list`."""
    import typer

    app = typer.Typer()

    @app.command()
    def train(data: str, out: str = typer.Option(...), fast: bool = typer.Option(False, "--fast/--slow")) -> None:
        del data, out, fast

    @app.command()
    def predict(model: str, images: list[str], top_k: int = typer.Option(1, "--top-k", "-k")) -> None:
        del model, images, top_k

    names = typer.Typer()
    names.callback()(lambda: None)
    names.command("list")(lambda: None)
    app.add_typer(names, name="label")
    return app


@pytest.mark.parametrize(
    ("line", "faults"),
    [
        pytest.param("manylabel train d.csv --out run --slow", [], id="right"),
        pytest.param("manylabel train d.csv --out=run --fast", [], id="right with an equals sign"),
        pytest.param("manylabel predict m a.jpg b.jpg -k 3", [], id="right with many images"),
        pytest.param("manylabel train a=0.7,b:c@d --out run", [], id="right with signs inside a word"),
        pytest.param("manylabel predict m -", [], id="standard input is an argument"),
        pytest.param("manylabel label list", [], id="right in a group"),
        pytest.param("manylabel train --help", [], id="help needs no arguments"),
        pytest.param("manylabel --help", [], id="help of the whole"),
        pytest.param("manylabel trian d.csv", ["no command 'trian'"], id="a command that does not exist"),
        pytest.param("manylabel label lits", ["no command 'lits'"], id="a command of a group that does not exist"),
        pytest.param(
            "manylabel train d.csv --epoch 3", ["no flag --epoch", "2 arguments, at most 1 are taken"], id="flag"
        ),
        pytest.param("manylabel --fast", ["no flag --fast"], id="a flag of another command"),
        pytest.param("manylabel train d.csv --out", ["--out without a value"], id="a flag without its value"),
        pytest.param("manylabel predict m", ["1 arguments, at least 2 are needed"], id="too few arguments"),
        pytest.param("ls && .venv/bin/manylabel trian", ["no command 'trian'"], id="after another command"),
        pytest.param("python -m manylabel trian > out.txt", ["no command 'trian'"], id="as a module"),
        pytest.param("NO_COLOR=1 manylabel trian", ["no command 'trian'"], id="after a variable"),
        pytest.param("cat list | manylabel trian 2> log", ["no command 'trian'"], id="in a pipe"),
        pytest.param("manylabel predict \\\n  m \\\n  a.jpg --tpo-k 3", ["no flag --tpo-k"], id="over three lines"),
        pytest.param("# manylabel trian", [], id="a comment"),
    ],
)
def test_a_command_that_would_not_run_is_found(line: str, faults: list[str], planted_app: Any) -> None:
    found = find_commands(fence("bash", line))
    assert [fault for command in found for fault in find_command_faults(command.words, planted_app)] == faults
    assert len(found) == (0 if line.startswith("#") else 1)


def test_in_a_console_block_only_what_follows_a_prompt_is_a_command() -> None:
    page = fence("console", "$ manylabel train d.csv\nmanylabel said this\n$ cd x; manylabel predict m")
    assert [(command.words, command.line) for command in find_commands(page)] == [
        (("train", "d.csv"), 5),
        (("predict", "m"), 7),
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        pytest.param("[a](other.md) ![b](sub/pic.png) [c](https://example.org/x)", [], id="right"),
        pytest.param("[a](other.md#a-heading-twice-1) [b](#page)", [], id="right headings"),
        pytest.param("`[a](gone.md)`\n\n```\n[a](gone.md)\n```", [], id="code is not a link"),
        pytest.param("\n[a](gone.md)", ["line 4: gone.md does not exist"], id="a file that is gone"),
        pytest.param("[a](Other.md)", ["line 3: Other.md does not exist"], id="other capitals"),
        pytest.param("![a](gone.png)", ["line 3: gone.png does not exist"], id="a picture that is gone"),
        pytest.param("[a][n]\n\n[n]: gone.md", ["line 5: gone.md does not exist"], id="a named link"),
        pytest.param('<img src="gone.png">', ["line 3: gone.png does not exist"], id="HTML"),
        pytest.param("[a](other.md#gone)", ["line 3: other.md#gone names no heading"], id="a heading that is gone"),
        pytest.param("[a](../x.md)", ["line 3: ../x.md leads out of the repository"], id="out of the repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(text: str, faults: list[str], tmp_path: Path) -> None:
    root = tmp_path / "repository"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "pic.png").touch()
    (tmp_path / "x.md").touch()
    (root / "other.md").write_text("# A `heading`, twice\n# A heading twice\n", encoding="utf-8")
    (root / "page.md").write_text(f"# Page\n\n{text}\n", encoding="utf-8")
    assert find_link_faults(root / "page.md", root) == faults


@pytest.mark.parametrize(
    ("record", "index", "faults"),
    [
        pytest.param("# 0001: One\n## Context\n## Decision\n## Consequences\n", "(0001-one.md)", 1, id="a part lacks"),
        pytest.param("# One\n", "(0001-one.md)", 5, id="no number in the title"),
        pytest.param("# 0001: One\n## Context\n## Decision\n## Consequences\n", "", 2, id="not in the index"),
    ],
)
def test_a_record_that_is_not_whole_is_found(record: str, index: str, faults: int) -> None:
    assert len(find_record_faults("0001-one.md", record, index)) == faults

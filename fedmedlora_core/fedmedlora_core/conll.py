"""Reading token files in IOB2, as the CoNLL tasks publish them: one token a line, its tag in the last column.

    Zebrine<TAB>B-drug
    gave<TAB>O

Rules:

* columns are parted by tabs where the first token's line has one, else by blanks; their number is the same in
  the whole file; the first is the token, the last its tag; further ones are left aside;
* tags are `O`, `B-TYPE` and `I-TYPE`; an `I-` goes on with the span right before it, of the same type, in the
  same sentence. Other schemes (IOB1, BIOES) are refused at the first line that shows them;
* an empty line ends a sentence; a line whose token is `-DOCSTART-` begins a document, else a file is one;
* offsets are rebuilt. Beside a `.txt` file of the same name they are in that text: the tokens must stand
  there in order with only blanks between them. Without one, the text is the tokens with one blank between
  them and a line feed at the end of each sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedmedlora_core.errors import DataError
from fedmedlora_core.source_documents import SourceDocument, SourceSpan
from fedmedlora_core.source_text import lines_of, read_text

_TAG = re.compile(r"^(?:O|([BI])-(\S+))$")
_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class _Token:
    """A token with its tag and the line that it stands in; a sentence ends before it where `is_first`."""

    line: int
    text: str = field(repr=False)
    mark: str | None
    type: str
    is_first: bool


def conll_documents(path: Path, name: str) -> Iterator[SourceDocument]:
    """The documents of a token file.

    Args:
        path: The file.
        name: Its path below the folder of the import; documents are named after it, numbered if several.

    Raises:
        DataError: A line is malformed, or the text beside the file is not the text of its tokens; the error
            names file and line.
    """
    blocks = _blocks(name, lines_of(read_text(path, name)))
    beside = path.with_suffix(".txt")
    original = read_text(beside, str(Path(name).with_suffix(".txt"))) if _is_beside(beside, path) else None
    if original is not None and len(blocks) > 1:
        raise DataError("has several documents but one text beside it", file=name, line=blocks[1][0])
    stem = Path(name).with_suffix("").as_posix()
    for number, (line, tokens) in enumerate(blocks, start=1):
        if original is None:
            text, starts = _joined(tokens)
        else:
            text, starts = original, _found(name, tokens, original)
        yield SourceDocument(
            name=stem if len(blocks) == 1 else f"{stem}-{number}",
            text=text,
            spans=tuple(_spans(tokens, starts)),
            lines=Counter({"token": len(tokens), "sentence": sum(token.is_first for token in tokens)}),
            file=name,
            line=line,
            text_file=None if original is None else f"{stem}.txt",
        )


def _is_beside(text: Path, tokens: Path) -> bool:
    """Whether a text file lies beside a token file (which may itself be called `.txt`)."""
    return text != tokens and text.is_file()


def _blocks(name: str, lines: list[str]) -> list[tuple[int, list[_Token]]]:
    """The tokens of each document, with the line in which it begins."""
    blocks: list[tuple[int, list[_Token]]] = []
    separator: re.Pattern[str] | None = None
    columns = 0
    before: _Token | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            before = None
            continue
        if line.startswith("-DOCSTART-"):
            if line.split()[0] != "-DOCSTART-":
                raise DataError("-DOCSTART- has something glued to it", file=name, line=number)
            blocks.append((number, []))
            before = None
            continue
        separator = separator or (re.compile("\t") if "\t" in line else _BLANKS)
        cells = separator.split(line.rstrip(" \t"))
        columns = columns or len(cells)
        if len(cells) < 2 or len(cells) != columns:
            raise DataError("has another number of columns than the lines before", file=name, line=number)
        before = _token(name, number, cells[0], cells[-1], before)
        if not blocks:
            blocks.append((number, []))
        blocks[-1][1].append(before)
    return blocks


def _token(name: str, line: int, text: str, tag: str, before: _Token | None) -> _Token:
    """One token, after the one before it in its sentence."""
    match = _TAG.match(tag)
    if match is None:
        raise DataError("its last column is no IOB2 tag (O, B-TYPE or I-TYPE)", file=name, line=line)
    if not text.strip() or text != text.strip():
        raise DataError("its token is empty or has blanks at its edges", file=name, line=line)
    if match[1] == "I" and (before is None or before.mark is None or before.type != match[2]):
        raise DataError("I- does not go on with a span of its type (IOB1 is not read)", file=name, line=line)
    return _Token(line, text, match[1], match[2] or "", before is None)


def _joined(tokens: list[_Token]) -> tuple[str, list[int]]:
    """The text by rule, and where each token begins in it."""
    pieces: list[str] = []
    starts: list[int] = []
    length = 0
    for token in tokens:
        if pieces:
            pieces.append("\n" if token.is_first else " ")
            length += 1
        starts.append(length)
        pieces.append(token.text)
        length += len(token.text)
    return "".join((*pieces, "\n")) if pieces else "", starts


def _found(name: str, tokens: list[_Token], text: str) -> list[int]:
    """Where each token begins in the text beside the file."""
    starts: list[int] = []
    place = 0
    for token in tokens:
        while place < len(text) and text[place].isspace():
            place += 1
        if not text.startswith(token.text, place):
            raise DataError(
                "its token is not the next word of the text beside it", file=name, line=token.line
            )
        starts.append(place)
        place += len(token.text)
    if text[place:].strip():
        line = tokens[-1].line if tokens else 1
        raise DataError("the text beside it goes on after the last token", file=name, line=line)
    return starts


def _spans(tokens: list[_Token], starts: list[int]) -> Iterator[SourceSpan]:
    """The spans that the tags mark, named by their order."""
    count = 0
    index = 0
    while index < len(tokens):
        first = index
        index += 1
        if tokens[first].mark is None:
            continue
        while index < len(tokens) and tokens[index].mark == "I" and not tokens[index].is_first:
            index += 1
        count += 1
        end = starts[index - 1] + len(tokens[index - 1].text)
        yield SourceSpan(f"T{count}", tokens[first].type, ((starts[first], end),))

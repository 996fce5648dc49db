"""Files in the layouts, dialects and encodings that people hand over are read whole, or the message names the cause."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corpus.discover import discover
from corpus.outcome import FileOutcome, Outcome
from corpus.pairs import read_pairs
from corpus.record import FileEnd, Pair, Rejected
from corpus.source import SourceSpec
from tests.corpus import write as w

ROWS = [{"instruction": f"Question {n}?", "response": f"Answer {n}."} for n in range(3)]
EXPECTED = [(row["instruction"], row["response"]) for row in ROWS]


def read(path: Path, content: bytes | str, **spec: Any) -> tuple[list[tuple[str, str]], list[Rejected], FileEnd]:
    """The pairs of a file, the rows without one, and the file's end."""
    w.write(path, content if isinstance(content, bytes) else content.encode())
    source = SourceSpec(name="s", path=str(path), **spec)
    (file,) = discover(source, path.parent)
    *rows, end = read_pairs(source, file)
    assert isinstance(end, FileEnd)
    if end.bytes_read is not None:
        assert end.bytes_lost is not None
        assert end.bytes_read == (end.bytes_rows or 0) + (end.bytes_structure or 0) + sum(end.bytes_lost.values())
    pairs = [(row.instruction, row.response) for row in rows if isinstance(row, Pair)]
    return pairs, [row for row in rows if isinstance(row, Rejected)], end


LINES = "".join(f"{instruction},{response}\n" for instruction, response in EXPECTED)

# Missing numbers


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_nan_and_infinities_are_null_beside_the_text_and_as_optional_input(
    tmp_path: Path, name: str, value: str
) -> None:
    row = f'{{"instruction": "a", "input": {value}, "output": "b", "score": {value}, "all": [{value}]}}'
    content = f"[{row}, {row}]" if name.endswith("json") else f"{row}\n{row}\n"
    assert read(tmp_path / name, content)[0] == [("a", "b")] * 2


@pytest.mark.parametrize("value", [".nan", ".NaN", "-.inf", ".inf"])
def test_nan_and_infinities_of_yaml_are_null(tmp_path: Path, value: str) -> None:
    assert read(tmp_path / "rows.yaml", f"- instruction: a\n  input: {value}\n  output: b\n")[0] == [("a", "b")]


# CSV


@pytest.mark.parametrize(
    "content",
    [
        "instruction,response,,\nQuestion 0?,Answer 0.,,\nQuestion 1?,Answer 1.,,\nQuestion 2?,Answer 2.,,\n",
        "instruction,response,\nQuestion 0?,Answer 0.\nQuestion 1?,Answer 1.\nQuestion 2?,Answer 2.\n",
        "instruction,response\nQuestion 0?,Answer 0.,\nQuestion 1?,Answer 1.,\nQuestion 2?,Answer 2.,\n",
        ",instruction,response\n0,Question 0?,Answer 0.\n1,Question 1?,Answer 1.\n2,Question 2?,Answer 2.\n",
        "note,instruction,response,note\nx,Question 0?,Answer 0.,y\n,Question 1?,Answer 1.,\n,Question 2?,Answer 2.,\n",
        "sep=;\r\ninstruction;response\r\nQuestion 0?;Answer 0.\r\nQuestion 1?;Answer 1.\r\nQuestion 2?;Answer 2.\r\n",
        '\ufeff"sep=|"\ninstruction|response\nQuestion 0?|Answer 0.\nQuestion 1?|Answer 1.\nQuestion 2?|Answer 2.\n',
        '\ufeff"Instruction " , "Response"\nQuestion 0?,Answer 0.\nQuestion 1?,Answer 1.\nQuestion 2?,Answer 2.\n',
        'instruction, response\n"Question 0?", "Answer 0."\nQuestion 1?, Answer 1.\nQuestion 2?, Answer 2.\n',
        "\n\ninstruction,response\nQuestion 0?,Answer 0.\n\nQuestion 1?,Answer 1.\n\nQuestion 2?,Answer 2.\n",
        "instruction,response\rQuestion 0?,Answer 0.\rQuestion 1?,Answer 1.\rQuestion 2?,Answer 2.\r",
        'instruction,response\r"Question 0?",Answer 0.\rQuestion 1?,Answer 1.\rQuestion 2?,"Answer 2."',
        "instruction,response\nQuestion 0?,Answer 0.\ninstruction,response\nQuestion 1?,Answer 1.\n"
        "\ufeffinstruction,response\nQuestion 2?,Answer 2.\n",
    ],
    ids=[
        "nameless columns",
        "header with a trailing delimiter",
        "rows with a trailing delimiter",
        "index",
        "repeated column",
        "sep",
        "quoted sep",
        "blanks in the header",
        "blanks after delimiters",
        "blank lines",
        "carriage returns",
        "carriage returns and quotes",
        "joined files",
    ],
)
def test_csv_as_spreadsheets_and_tools_write_it_is_read(tmp_path: Path, content: str) -> None:
    pairs, rejected, _ = read(tmp_path / "rows.csv", content)
    assert (pairs, rejected) == (EXPECTED, [])


def test_carriage_return_inside_a_cell_is_kept(tmp_path: Path) -> None:
    content = 'instruction,response\nList two,one\rtwo\n"List, three","a\rb\r\nc"\n'
    assert read(tmp_path / "rows.csv", content)[0] == [("List two", "one\rtwo"), ("List, three", "a\rb\r\nc")]


def test_carriage_return_around_a_column_name_is_no_part_of_it(tmp_path: Path) -> None:
    content = '\rinstruction,"a\rb"\r\n"List, two",c\r\n'
    (rejected,) = read(tmp_path / "rows.csv", content)[1]
    assert "found the columns 'instruction', 'a\\rb'" in (rejected.detail or "")


def test_repeated_column_that_is_used_is_refused_by_name(tmp_path: Path) -> None:
    pairs, rejected, end = read(tmp_path / "rows.csv", "instruction,response,response\na,b,c\n")
    assert (pairs, len(rejected)) == ([], 1)
    assert "'response (column 2)', 'response (column 3)'" in rejected[0].detail
    assert "names the column 'response' more than once" in end.detail


def test_header_that_occurs_again_in_another_order_ends_the_file(tmp_path: Path) -> None:
    pairs, _, end = read(tmp_path / "rows.csv", "question,answer\na,b\nanswer,question\nc,d\n")
    assert pairs == [("a", "b")]
    assert (end.outcome, end.position, end.bytes_lost) == (FileOutcome.TRUNCATED, "line 3", {"unread": 20})
    assert "another order" in end.detail


@pytest.mark.parametrize("delimiter", ["~", "^", "\x01", "\x1f"])
def test_delimiters_of_databases_are_recognised(tmp_path: Path, delimiter: str) -> None:
    content = f"instruction,response\n{LINES}".replace(",", delimiter)
    assert read(tmp_path / "rows.csv", content)[:2] == (EXPECTED, [])


@pytest.mark.parametrize("title", ["# exported by a tool", "My questions", "Sheet 1\n\n# of 2"])
def test_title_before_the_header_is_no_row_and_is_named(tmp_path: Path, title: str) -> None:
    pairs, rejected, end = read(tmp_path / "rows.csv", f"{title}\ninstruction,response\n{LINES}")
    assert (pairs, rejected) == (EXPECTED, [])
    assert "a line before the header is no row: " in end.detail


def test_single_quotes_around_cells_are_named(tmp_path: Path) -> None:
    _, _, end = read(tmp_path / "rows.csv", "'instruction','response'\n'a','b, c'\n")
    assert end.outcome == FileOutcome.UNREADABLE
    assert "cells are quoted by ', which is not read; write the file again with double quotes" in end.detail


@pytest.mark.parametrize("last", ["", '"', 'x"', '"x"'])
def test_tsv_in_which_quotes_are_letters_is_read_without_quoting(tmp_path: Path, last: str) -> None:
    rows = [
        ('"Carpe diem" means what?', "Seize the day."),
        ('Who said "Eureka"?', "Archimedes."),
        ('"Unbalanced', f"first {last}"),
        ('A 5" pipe is how wide?', "Five inches."),
        ('He ended with a quote"', "yes"),
    ]
    content = "question\tanswer\n" + "".join(f"{left}\t{right}\n" for left, right in rows)
    assert read(tmp_path / "rows.tsv", content)[0] == rows


@pytest.mark.parametrize("place", [0, 1, 700, 1999])
@pytest.mark.parametrize("later", ["5", '5"'])
def test_quote_that_nothing_closes_in_tsv_loses_no_row(tmp_path: Path, place: int, later: str) -> None:
    rows = [(f"What is {n}?", f"It is {n}.") for n in range(2000)]
    rows[place] = ('"Ulysses', "Joyce wrote it.")
    rows.append(("A pipe of", later))
    content = "question\tanswer\n" + "".join(f"{left}\t{right}\n" for left, right in rows)
    pairs, rejected, end = read(tmp_path / "rows.tsv", content)
    assert (pairs, rejected) == (rows, [])
    assert "without quoting" in end.detail or "read as letters" in end.detail


def test_quoted_tsv_is_read_with_its_quotes_and_line_ends(tmp_path: Path) -> None:
    rows = [
        {"question": 'a "b"\nc', "answer": "d\te"},
        {"question": "f\ng\nh", "answer": "i"},
        {"question": '"', "answer": "j"},
    ]
    pairs, _, _ = read(tmp_path / "rows.tsv", w.delimited(rows, "\t"))
    assert pairs == [(row["question"], row["answer"]) for row in rows]


def test_stated_quote_decides(tmp_path: Path) -> None:
    content = 'question\tanswer\n"a"\tb\n'
    assert read(tmp_path / "rows.tsv", content)[0] == [("a", "b")]
    assert read(tmp_path / "rows.tsv", content, quote="none")[0] == [('"a"', "b")]
    open_quote = 'question\tanswer\n"a\tb\nc\td\n'
    _, rejected, _ = read(tmp_path / "rows.tsv", open_quote, quote='"')
    assert [row.reason for row in rejected] == [Outcome.INVALID_SYNTAX]
    literal = 'question,answer\n"a,b\nc,d"\n'
    assert read(tmp_path / "rows.csv", literal, quote="none")[0] == [('"a', "b"), ("c", 'd"')]


@pytest.mark.parametrize("place", [0, 5, 45])
@pytest.mark.parametrize("closes", ["", 'He ended with a quote",yes\n', 'A pipe of 5",long\n'])
def test_stray_quote_in_csv_loses_one_row(tmp_path: Path, place: int, closes: str) -> None:
    rows = [f"What is {n}?,It is {n}.\n" for n in range(50)]
    rows[place] = '"Emma,Austen wrote it.\n'
    pairs, rejected, _ = read(tmp_path / "rows.csv", "question,answer\n" + "".join(rows) + closes + "x,y\n" * 12)
    assert [row.reason for row in rejected] == [Outcome.INVALID_SYNTAX]
    assert len({left for left, _ in pairs} & {f"What is {n}?" for n in range(50)}) == 49
    assert all("\n" not in left + right for left, right in pairs)


@pytest.mark.parametrize(
    "cell",
    [
        'Explain \\"recursion\\" to a child:\nshort words, no code\nat most, two lines',
        'Explain "recursion" to a child:\nshort words, no code\nat most, two lines',
        'Explain this, please:\nshort words, no "code"\nat most, two lines',
        'A list:\none, two\nthree, four\nfive, "six"',
    ],
)
def test_no_row_is_made_of_the_middle_of_a_cell(tmp_path: Path, cell: str) -> None:
    content = f'instruction,response\n"Name a fruit.","Fig."\n"{cell}","See recursion."\n"Name a tree.","Oak."\n'
    pairs, rejected, _ = read(tmp_path / "rows.csv", content)
    assert pairs[0] == ("Name a fruit.", "Fig.")
    assert pairs[-1] == ("Name a tree.", "Oak.")
    if "\\" in cell:
        assert pairs[1] == (cell.replace("\\", ""), "See recursion.")
    else:
        assert len(pairs) == 2
        assert "quote" in rejected[0].detail


@pytest.mark.parametrize("damage", ["lost", "stray"])
@pytest.mark.parametrize("always", [True, False])
def test_no_line_of_a_damaged_cell_with_the_cells_of_a_row_is_a_row(tmp_path: Path, damage: str, always: bool) -> None:
    cells = [(f"{n}, and more\nof it, too\nand on", f"answer, {n}") for n in range(12)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if always else csv.QUOTE_MINIMAL)
    writer.writerows([("instruction", "response"), *cells])
    broken = {"lost": ('and on","answer, 6"', 'and on,"answer, 6"'), "stray": ("6, and", '6, "and')}[damage]
    pairs, rejected, _ = read(tmp_path / "rows.csv", text.getvalue().replace(*broken, 1))
    assert pairs == cells[:6] + cells[7:]
    assert rejected


def test_file_that_is_cut_off_inside_a_cell_yields_no_row_of_it(tmp_path: Path) -> None:
    content = 'instruction,response\n"q1 ""x""",a1\n"Explain:\nshort words, no code\nat most, two lines'
    pairs, rejected, end = read(tmp_path / "rows.csv", content)
    assert pairs == [('q1 "x"', "a1")]
    assert len(rejected) == 1
    assert end.bytes_lost == {"invalid_syntax": len(content) - content.index('"Explain')}


def test_blanks_beside_quotes_inside_a_cell_are_kept(tmp_path: Path) -> None:
    rows = [{"instruction": 'He said "no" , and "yes", "but"', "response": 'x, "y" '}]
    assert read(tmp_path / "rows.csv", w.delimited(rows, ","))[0] == [tuple(rows[0].values())]


def test_blanks_around_quotes_are_no_error(tmp_path: Path) -> None:
    content = (
        'instruction,response\n"Question 0?" ,"Answer 0." \n"Question 1?","Answer 1."\nQuestion 2?, "Answer 2." \n'
    )
    assert read(tmp_path / "rows.csv", content)[0] == EXPECTED


def test_backslash_escapes_are_recognised(tmp_path: Path) -> None:
    content = (
        'instruction,response\n"Quote him.","He said \\"no\\", twice."\n"Path?","C:\\\\temp\\\\"\n'
        '"A formula \\"x\\"?","\\frac{a}{b}"\n'
    )
    assert read(tmp_path / "rows.csv", content)[0] == [
        ("Quote him.", 'He said "no", twice.'),
        ("Path?", "C:\\temp\\"),
        ('A formula "x"?', "\\frac{a}{b}"),
    ]


def test_backslashes_of_a_csv_without_escapes_are_kept(tmp_path: Path) -> None:
    content = 'instruction,response\n"Path?","C:\\\\temp\\"\n"a, b",\\frac\n'
    assert read(tmp_path / "rows.csv", content)[0] == [("Path?", "C:\\\\temp\\"), ("a, b", "\\frac")]


# JSON


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, **options)


TURNS = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in EXPECTED]
LAYOUTS = {
    "indented.jsonl": "\n".join(_json(row, indent=2) for row in ROWS),
    "indented.json": "\n\n".join(_json(row, indent=2) for row in ROWS),
    "indented-commas.json": ",\n".join(_json(row, indent=2) for row in ROWS),
    "indented-flat.jsonl": "\n".join(_json(row, indent=0).replace("{\n", "{") for row in ROWS),
    "one-line.jsonl": "".join(_json(row) for row in ROWS),
    "commas.jsonl": ",\n".join(_json(row) for row in ROWS) + ",\n",
    "commas-crlf.json": ",\r\n".join(_json(row) for row in ROWS),
    "brackets.jsonl": "[\n" + ",\n".join(_json(row) for row in ROWS) + "\n]\n",
    "sequence.jsonl": "".join(f"\x1e{_json(row)}\n" for row in ROWS),
    "carriage-returns.jsonl": "\r".join(_json(row) for row in ROWS),
    "arrays.json": _json(ROWS[:1]) + "\n" + _json(ROWS[1:]),
    "arrays.jsonl": "".join(_json([row]) + "\n" for row in ROWS),
    "arrays-indented.json": _json(ROWS[:2], indent=1) + _json(ROWS[2:], indent=1),
    "marked.json": "\ufeff" + _json(ROWS),
    "marks.jsonl": "".join("\ufeff\ufeff" + _json(row) + "\n" for row in ROWS),
    "marked-arrays.json": "".join("\ufeff" + _json([row]) + "\n" for row in ROWS),
    "trailing.json": _json(ROWS)[:-1] + ",\n]",
    "by-id.json": _json({f"q{n}": row for n, row in enumerate(ROWS)}, indent=1),
    "by-id-in-a-field.json": _json({"version": 1, "data": {f"q{n}": row for n, row in enumerate(ROWS)}}),
    "by-id-in-the-only-field.json": _json({"squad": {f"q{n}": row for n, row in enumerate(ROWS)}}, indent=1),
    "by-number.json": _json({str(n): row for n, row in enumerate(ROWS)}),
    "columns.json": _json({name: [row[name] for row in ROWS] for name in ROWS[0]}),
    "columns-of-objects.json": _json(
        {name: [row[name] for row in ROWS] for name in ROWS[0]} | {"meta": [{"a": 1}] * 3}
    ),
    "pandas.json": _json({name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}),
    "pandas-split.json": _json(
        {"columns": list(ROWS[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in ROWS]}
    ),
    "one-split.json": _json({"train": ROWS}),
    "turns.json": _json(TURNS),
    "turns.jsonl": "".join(_json(turns) + "\n" for turns in TURNS),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_of_json_is_read(tmp_path: Path, name: str) -> None:
    pairs, rejected, end = read(tmp_path / name, LAYOUTS[name])
    assert (pairs, rejected, end.outcome) == (EXPECTED, [], FileOutcome.READ)


@pytest.mark.parametrize(
    ("name", "content", "path"),
    [
        ("rows.jsonl", "".join(_json({"meta": 1, "item": row}) + "\n" for row in ROWS), "item"),
        ("rows.jsonl", "".join(_json({"data": [row]}) + "\n" for row in ROWS), "data"),
        ("rows.json", _json({"rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]}), "rows.*.row"),
    ],
)
def test_rows_inside_of_rows_are_named_with_the_path_that_reads_them(
    tmp_path: Path, name: str, content: str, path: str
) -> None:
    pairs, rejected, _ = read(tmp_path / name, content)
    assert pairs == []
    assert all(f"has such columns: state `rows: {path}`" in row.detail for row in rejected)
    assert read(tmp_path / name, content, rows=path)[:2] == (EXPECTED, [])


def test_conversation_keyed_by_turn_is_one_row(tmp_path: Path) -> None:
    chat = {"turn_1": {"user": "a", "assistant": "b"}, "turn_2": {"user": "c", "assistant": "d"}}
    pairs, _, _ = read(tmp_path / "rows.json", _json({"id": 1, "chat": chat}))
    assert [response for _, response in pairs] == ["b", "d"]


def test_one_conversation_as_an_array_is_one_row(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.json", _json(TURNS[0], indent=1))[0] == EXPECTED[:1]


SPLITS = {"train": ROWS, "validation": ROWS[:2], "test": ROWS[:1]}


@pytest.mark.parametrize(
    "content",
    [
        SPLITS,
        {"version": 1, **SPLITS},
        {"train": {str(n): row for n, row in enumerate(ROWS)}, "dev": {"0": ROWS[0]}},
        {"train_sft": ROWS, "test_sft": ROWS},
    ],
)
def test_parts_of_a_data_set_are_never_one_list(tmp_path: Path, content: Any) -> None:
    pairs, _, end = read(tmp_path / "rows.json", _json(content))
    assert (pairs, end.outcome) == ([], FileOutcome.UNREADABLE)
    first = end.detail.partition("`rows: ")[2].rstrip("`")
    assert first.removesuffix(".*") == next(name for name in content if name != "version")
    assert read(tmp_path / "rows.json", _json(content), rows=first)[0] == EXPECTED


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"easy": ROWS, "hard": ROWS}, "several lists of objects: 'easy' (3), 'hard' (3)"),
        ({"instruction": ["a", "b"], "response": ["c"]}, "unequal lengths"),
        ("// by hand\n[]", "comments are not JSON"),
        ("17", "expected a JSON array or object"),
    ],
)
def test_layout_that_cannot_be_read_is_named(tmp_path: Path, content: Any, says: str) -> None:
    text = content if isinstance(content, str) else _json(content)
    _, _, end = read(tmp_path / "rows.json", text, format="json")
    assert end.outcome == FileOutcome.UNREADABLE
    assert says in end.detail


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{'instruction': 'a', 'response': 'b'}", "single quotes"),
        ('{"instruction": "a", "response": None}', "Python's None"),
        ('{"instruction": "a", /* why */ "response": "b"}', "a comment"),
        ('{instruction: "a", "response": "b"}', "a name without quotes"),
    ],
)
def test_message_of_a_row_in_another_language_names_it(tmp_path: Path, row: str, says: str) -> None:
    pairs, rejected, _ = read(tmp_path / "rows.jsonl", f"{_json(ROWS[0])}\n{row}\n")
    assert pairs == EXPECTED[:1]
    assert says in rejected[0].detail


SQUAD = {
    "version": "1",
    "data": [
        {
            "title": f"T{n}",
            "paragraphs": [
                {"context": f"c{n}", "qas": [{"question": f"q{n}{m}", "answer": f"a{n}{m}"} for m in range(2)]}
            ],
        }
        for n in range(2)
    ],
}


def test_rows_inside_nested_lists_have_the_fields_of_their_parents(tmp_path: Path) -> None:
    template = {"instruction": "{version}/{title}/{context}/{question}", "response": "{answer}"}
    expected = [(f"1/T{n}/c{n}/q{n}{m}", f"a{n}{m}") for n in range(2) for m in range(2)]
    path = "data.*.paragraphs.*.qas"
    for steps in (path, f"{path}.*"):
        assert read(tmp_path / "rows.json", _json(SQUAD, indent=1), rows=steps, map=template)[0] == expected
    lines = "".join(_json({"version": "1", **item}) + "\n" for item in SQUAD["data"])
    for steps in ("paragraphs.*.qas", "*.paragraphs.*.qas"):
        assert read(tmp_path / "rows.jsonl", lines, rows=steps, map=template)[0] == expected


def test_rows_keyed_by_id_have_the_key_as_their_id(tmp_path: Path) -> None:
    content = {"a": {"x": {"question": "q1", "answer": "a1"}}, "b": {"y": {"question": "q2", "answer": "a2"}}}
    template = {"instruction": "{id}: {question}", "response": "{answer}"}
    assert read(tmp_path / "rows.json", _json(content), rows="*.*", map=template)[0] == [
        ("x: q1", "a1"),
        ("y: q2", "a2"),
    ]
    topics = {"t1": [{"question": "q1", "answer": "a1"}], "t2": [{"question": "q2", "answer": "a2"}]}
    assert read(tmp_path / "rows.json", _json(topics), rows="*", map=template)[0] == [
        ("t1: q1", "a1"),
        ("t2: q2", "a2"),
    ]


def test_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    _, _, end = read(tmp_path / "rows.json", _json(SQUAD), rows="date.*")
    assert "`rows:` names 'date', which is not there; found 'version', 'data'" in end.detail
    _, rejected, _ = read(tmp_path / "rows.jsonl", _json({"qas": []}) + "\n" + _json({"q": 1}) + "\n", rows="qas")
    assert [row.reason for row in rejected] == [Outcome.NO_PAIR, Outcome.MISSING_FIELD]


# Encodings

TEXTS = {
    "cp1252": [("Wie heißt der Fluß?", "„Weser“ – glaube ich."), ("Qu'est-ce?", "C'est l'été."), ("Plain?", "Plain.")],
    "gbk": [("河流在哪里？", "在北方。"), ("你是谁？", "我是一个人，你也是。"), ("Ascii?", "Ascii.")],
    "big5": [("這是什麼？", "這是一個國家，你也可以來。"), ("Ascii?", "Ascii.")],
    "shift_jis": [("これは何ですか？", "それはりんごです。"), ("Ascii?", "Ascii.")],
    "euc_kr": [("이것은 무엇입니까?", "그것은 사과이고 나는 사과를 좋아한다."), ("Ascii?", "Ascii.")],
    "cp1251": [("Что это такое?", "Это большой дом на берегу реки."), ("Ascii?", "Ascii.")],
    "koi8-r": [("Что это такое?", "Это большой дом на берегу реки."), ("Ascii?", "Ascii.")],
    "cp1250": [("Co to jest?", "Zażółć gęślą jaźń, proszę państwa."), ("Ascii?", "Ascii.")],
}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("encoding", TEXTS)
def test_text_in_another_encoding_gets_one_message_that_suggests_it(tmp_path: Path, encoding: str, name: str) -> None:
    rows = [{"question": question, "answer": answer} for question, answer in TEXTS[encoding]]
    text = (w.delimited(rows, ",") if name.endswith("csv") else w.jsonl(rows)).decode()
    pairs, rejected, end = read(tmp_path / name, text.encode(encoding))
    assert {row.reason for row in rejected} == {Outcome.INVALID_UNICODE}
    assert pairs == [(row["question"], row["answer"]) for row in rows if (row["question"] + row["answer"]).isascii()]
    assert len(pairs) + len(rejected) == end.rows == len(rows)
    assert f"`encoding: {encoding}`" in end.detail
    assert read(tmp_path / name, text.encode(encoding), encoding=encoding)[0] == TEXTS[encoding]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json", "rows.yaml"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_is_read_with_a_mark_and_else_named(tmp_path: Path, name: str, encoding: str) -> None:
    rows = [{"question": question, "answer": answer} for question, answer in TEXTS["cp1252"]]
    writers: dict[str, Any] = {"csv": lambda: w.delimited(rows, ","), "jsonl": lambda: w.jsonl(rows)}
    writers |= {"json": lambda: w.json_array(rows), "yaml": lambda: w.yaml_list(rows)}
    content = writers[name.removeprefix("rows.")]().decode().encode(encoding)
    pairs, _, end = read(tmp_path / name, content)
    if encoding in ("utf-16", "utf-32"):
        assert pairs == TEXTS["cp1252"]
    else:
        assert end.outcome == FileOutcome.UNREADABLE
        assert f"`encoding: {encoding}`" in end.detail
    assert read(tmp_path / name, content, encoding=encoding)[0] == TEXTS["cp1252"]


@pytest.mark.parametrize(("encoding", "text"), [("iso2022_jp", "日本語です"), ("iso2022_kr", "안녕하세요")])
def test_text_of_seven_bits_in_another_encoding_is_named_and_read_when_stated(
    tmp_path: Path, encoding: str, text: str
) -> None:
    content = f"instruction,response\n{text},{text}\n".encode(encoding)
    _, _, end = read(tmp_path / "rows.csv", content)
    assert f"state `encoding: {encoding}`" in end.detail
    assert read(tmp_path / "rows.csv", content, encoding=encoding)[0] == [(text, text)]


def test_bytes_that_the_stated_encoding_does_not_have_reject_their_row(tmp_path: Path) -> None:
    content = "question,answer\na,b\nc,é\n".encode("cp1252").replace(b"a,b", b"a,\x81")
    pairs, rejected, _ = read(tmp_path / "rows.csv", content, encoding="cp1252")
    assert pairs == [("c", "é")]
    assert [row.reason for row in rejected] == [Outcome.INVALID_UNICODE]


def test_byte_order_mark_takes_precedence_over_the_stated_encoding(tmp_path: Path) -> None:
    content = "\ufeff" + w.jsonl([{"question": "é", "answer": "ü"}]).decode()
    assert read(tmp_path / "rows.jsonl", content, encoding="cp1252")[0] == [("é", "ü")]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "gbk"])
def test_utf8_text_is_not_read_in_another_encoding_without_a_word(tmp_path: Path, encoding: str) -> None:
    content = w.jsonl(
        [{"question": "Wie heißt der Fluß für Göttingen?", "answer": "Die Leine, nördlich – „natürlich“."}]
    )
    pairs, _, end = read(tmp_path / "rows.jsonl", content, encoding=encoding)
    assert (pairs, end.outcome) == ([], FileOutcome.UNREADABLE)
    assert "the text is UTF-8" in end.detail


def test_stated_encoding_leaves_binary_formats_alone(tmp_path: Path) -> None:
    assert read(tmp_path / "rows.parquet", w.parquet(ROWS), encoding="gbk")[0] == EXPECTED


def test_surrogate_pairs_in_utf8_are_named(tmp_path: Path) -> None:
    content = '{"question": "a", "answer": "😀"}\n'.encode().replace("😀".encode(), b"\xed\xa0\xbd\xed\xb8\x80")
    assert "CESU-8" in read(tmp_path / "rows.jsonl", content)[2].detail


# Plain text


def test_plain_text_is_read_as_the_manifest_states(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    alternating = "\ufeffq1\r\na1\r\n\r\nq2\r\na2\r\n"
    assert read(path, alternating, format="text", lines="alternating")[0] == [("q1", "a1"), ("q2", "a2")]
    blocks = "q1\na1\nb1\n\n\nq2\na2"
    assert read(path, blocks, format="text", lines="blocks")[0] == [("q1", "a1\nb1"), ("q2", "a2")]
    lines = read(
        path, "1 => 2\n\n3 => 4\n", format="text", lines="each", map={"instruction": "{text}", "response": "{text}"}
    )
    assert lines[0] == [("1 => 2", "1 => 2"), ("3 => 4", "3 => 4")]


def test_line_without_its_response_does_not_shift_the_others(tmp_path: Path) -> None:
    pairs, rejected, _ = read(tmp_path / "rows.txt", "q1\n\nq2\na2\nq3\n", format="text", lines="alternating")
    assert pairs == [("q2", "a2")]
    assert [(row.reason, row.position) for row in rejected] == [
        (Outcome.MISSING_FIELD, "line 1"),
        (Outcome.MISSING_FIELD, "line 5"),
    ]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"encoding": "latin-99"}, "unknown encoding"),
        ({"format": "text"}, "go together"),
        ({"lines": "each"}, "go together"),
        ({"rows": "data..x"}, "empty step"),
        ({"rows": 5}, "belongs to a generator"),
        ({"quote": "'"}, "quote"),
    ],
)
def test_contradictory_layout_is_refused(spec: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SourceSpec(name="s", path="x", **spec)


@pytest.mark.parametrize(
    "content",
    [
        "question: a\nanswer: b\n---\nquestion: c\nanswer: d\n",
        "# comment\n%YAML 1.2\n---\nquestion: a\nanswer: b\n...\n---\nquestion: c\nanswer: d\n...\n",
        "version: 3\nexamples:\n  - question: a\n    answer: b\n  - question: c\n    answer: d\nauthor: me\n",
        "q1:\n  question: a\n  answer: b\nq2:\n  question: c\n  answer: d\n",
        "data:\n  q1:\n    question: a\n    answer: b\n  q2:\n    question: c\n    answer: d\n",
        "  - question: a\n    answer: b\n  - question: c\n    answer: d\n",
        "question: [a, c]\nanswer: [b, d]\n",
        "[{question: a, answer: b}, {question: c, answer: d}]\n",
        "---\n- question: a\n  answer: b\n---\n- question: c\n  answer: d\n",
        "\ufeffquestion: a\nanswer: b\n---\nquestion: c\nanswer: d",
    ],
)
def test_layout_of_yaml_is_read(tmp_path: Path, content: str) -> None:
    assert read(tmp_path / "rows.yaml", content)[0] == [("a", "b"), ("c", "d")]


def test_rows_inside_of_yaml_are_stated(tmp_path: Path) -> None:
    item = "- context: C\n  pairs:\n  - question: a\n    answer: b\n  - question: c\n    answer: d\n"
    found = read(tmp_path / "rows.yaml", f"version: 3\nseeds:\n{item}", rows="seeds.*.pairs.*")[0]
    assert found == [("C\n\na", "b"), ("C\n\nc", "d")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("train:\n- question: a\ntest:\n- question: b\n", "state one of them, as `rows: train`"),
        ("a:\n- question: a\nb:\n- question: b\n", "state one as `rows: NAME`"),
        ("question: a: b\n", "mapping values are not allowed"),
    ],
)
def test_layout_of_yaml_that_cannot_be_read_is_named(tmp_path: Path, content: str, says: str) -> None:
    pairs, rejected, end = read(tmp_path / "rows.yaml", content)
    assert (pairs, rejected, says in end.detail) == ([], [], True)
    assert end.bytes_read == len(content) == sum((end.bytes_lost or {}).values())

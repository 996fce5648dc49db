"""Items of many shapes and languages are found in whatever form they are put."""

import json
import re
import textwrap

import pytest

from tests.pipeline.decontaminate.test_decontaminate import hits, items

FILLER = "Boats stay in the harbour for days. Those who live there read, mend their nets and wait for the wind to turn."
HUMAN_EVAL = '''from typing import List


def has_close_elements(numbers: List[float], threshold: float) -> bool:
    """ Check if in given list of numbers, are any two numbers closer to each other than
    given threshold.
    >>> has_close_elements([1.0, 2.0, 3.0], 0.5)
    False
    """
'''
MBPP = """Write a python function to find the first repeated character in a given string.
assert first_repeated_char("abcabc") == "a"
assert first_repeated_char("abc") == None"""
BOOLQ = """Passage: The mill by the river was built of stone in the years after the great fire. It was sold to a baker
from the north who ground rye there.
Question: was the mill by the river sold to a baker from the south?"""
ITEMS = {
    "passage": (BOOLQ, "no"),
    "yes or no": ("Would a fresh egg sink to the bottom of a bucket that is full of cold tap water?", "Yes"),
    "cloze": ("The trophy does not fit into the brown suitcase because the ______ is far too large for it.", "trophy"),
    "program": (HUMAN_EVAL, "    return any(abs(a - b) < threshold for a in numbers for b in numbers if a is not b)"),
    "tests": (MBPP, "def first_repeated_char(s): return next((c for i, c in enumerate(s) if c in s[:i]), None)"),
    "prompt": ("Compose an engaging travel blog post about a recent trip to Hawaii, with must-see attractions.", ""),
    "german": ("Ein Kleid braucht 2 Rollen blaue Faser und halb so viele weiße Faser. Wie viele insgesamt?", "3"),
    "chinese": ("制作一件袍子需要2匹蓝色布料和这个数量一半的白色布料。一共需要用掉多少匹布料?", "3"),
    "bengali": ("একটি পোশাক তৈরি করতে 2 গজ নীল কাপড় এবং তার অর্ধেক সাদা কাপড় লাগে। মোট কত গজ কাপড় লাগে?", "3"),
    "thai": ("เสื้อคลุมหนึ่งตัวใช้ผ้าสีน้ำเงิน 2 ม้วนและผ้าสีขาวครึ่งหนึ่งของนั้น ใช้ผ้าทั้งหมดกี่ม้วน", "3"),
    "russian": ("На платье уходит 2 рулона синей ткани и вдвое меньше белой. Сколько всего рулонов нужно?", "3"),
    "formula": ("If $f(x) = 3x^2 - 2x + 5$ and $g(x) = x - 4$, what is the value of $f(g(6))$?", "13"),
    "pronoun": ("Joan made sure to thank Susan for all the help she had received. Who had received help?", "Joan"),
}
CHOICES = {
    "arc": ("Which of these does a green plant need most to make its own food?", "moonlight sunlight sandstone water"),
    "cmmlu": ("我国古代四大发明中,对欧洲航海事业的发展影响最大的是哪一项发明?", "造纸术 印刷术 火药 指南针"),
    "short": ("What do all plants need?", "moonlight sunlight sandstone water"),
}


@pytest.mark.parametrize("shape", ITEMS)
def test_an_item_of_any_shape_is_found_in_other_texts_and_with_other_answers(shape: str) -> None:
    question, answer = ITEMS[shape]
    records = [
        (question, answer or "Sure."),
        (question, "Das weiß ich nicht."),
        (f"{FILLER}\n\n{question}\n\n{FILLER}", "(B)"),
        ("Write an exam.", f"{question}\n{answer}"),
        ("\n".join(textwrap.wrap(question, 20)), answer or "Sure."),
        (question.upper(), answer or "Sure."),
        (f"### Instruction:\n{question}\n\n### Response:", answer or "Sure."),
        (f"User: Hi there!\nAssistant: Hello!\nUser: {question}", answer or "Sure."),
        (re.sub(r"[,;:!?.。?।]+(?=\s|$)", "", question), answer or "Sure."),
    ]
    assert [row for row, _, _ in hits(records, items([ITEMS[shape]]))] == list(range(len(records)))


@pytest.mark.parametrize("shape", CHOICES)
def test_a_question_with_options_is_found_in_any_layout_and_order_of_these(shape: str) -> None:
    stem, words = CHOICES[shape]
    options = words.split()
    other = options[::-1]
    held = items([(f"{stem}\n\n" + "\n".join(map("{}. {}".format, "ABCD", options)), "B")])
    columns = ",".join(f'"{option}"' for option in options)
    records = [
        (f"{stem}\n" + "\n".join(map("({}) {}".format, "abcd", other)), "(a)"),
        (f"{stem}\n" + "\n".join(map("{}) {}".format, "1234", other)), "2"),
        (f"{stem} " + " ".join(map("{}: {}".format, "ABCD", options)), "answer: B"),
        (f'question,A,B,C,D\n"{stem}",{columns}', "B"),
        (json.dumps({"question": stem, "choices": other}, ensure_ascii=False), "2"),
    ]
    assert [row for row, _, _ in hits(records, held)] == list(range(len(records)))

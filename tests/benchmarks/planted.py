"""Changed copies of records that are duplicates, or only look alike: one function for each kind.

A function takes a pair of instruction and response and a random source, and returns the changed pair, or None if the
texts have nothing that it could change.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence

OPTION = re.compile(r"\s*([-*•]|\(?\w{1,2}[.):])\s")
"""Beginning of a line with an option."""

Pair = tuple[str, str]
Change = Callable[[Pair, random.Random], Pair | None]

SYNONYMS = {
    "big": "large", "large": "big", "small": "little", "begin": "start", "start": "begin", "help": "assist",
    "show": "display", "use": "utilize", "used": "utilized", "many": "numerous", "often": "frequently",
    "also": "additionally", "because": "since", "however": "nevertheless", "important": "essential",
    "essential": "important", "people": "persons", "get": "obtain", "make": "create", "create": "make",
    "find": "locate", "give": "provide", "provide": "give", "need": "require", "want": "wish", "quick": "fast",
    "different": "distinct", "about": "regarding",
    "ensure": "guarantee", "improve": "enhance", "allow": "permit", "keep": "maintain",
    "main": "primary", "usually": "generally", "very": "really", "buy": "purchase",
    "happy": "glad", "write": "compose", "describe": "portray",
    "explain": "clarify", "choose": "pick", "story": "tale", "movie": "film", "house": "home",
}  # fmt: skip
COURTESIES = (
    "Please answer in full sentences.", "Thank you in advance.", "Please think about it carefully.",
    "Take your time.", "I would be glad about a clear answer.", "Explain it so that anybody can follow.",
    "Please be as clear as you can.", "This is for a friend of mine.",
)  # fmt: skip
CLOSINGS = (
    "I hope this helps.", "Let me know if you need anything else.", "Feel free to ask if something is unclear.",
    "That is all there is to it.", "I hope that this answers what you wanted to know.",
)  # fmt: skip
NAMES = (
    "Anna", "Boris", "Carla", "Dmitri", "Elena", "Farid", "Greta", "Hassan", "Ingrid", "Jorge", "Kavita", "Liam",
    "Mira", "Nikolai", "Olga", "Pedro", "Quentin", "Rosa", "Stefan", "Tomoko", "Umberto", "Vera", "Wei", "Yusuf",
    "Paris", "Lisbon", "Vienna", "Kenya", "Norway", "Peru", "Texas", "Berlin", "Tokyo", "Madrid", "Ghana", "Oslo",
)  # fmt: skip
CHOICES = (
    "a loaf of bread", "the old harbour", "an open window", "a pair of shoes", "the first train", "a glass of water",
    "the village school", "a broken clock", "the north wind", "an apple tree", "a long letter", "the town market",
    "a wooden boat", "the night watch", "a small garden", "the river bank", "a warm coat", "the last page",
)  # fmt: skip
TEMPLATES = {
    "en": ("{place} sold {a} tickets on {day} and {b} on the day after. How many tickets were sold on both days "
           "together? Write down every step of the calculation, and the result at the end.",
           "On {day} {a} tickets were sold, on the day after {b}. Together that is {a} + {b} = {c}. The answer "
           "is {c}."),
    "de": ("{place} verkaufte am {day} {a} Karten und am Tag danach {b}. Wie viele Karten wurden an beiden Tagen "
           "zusammen verkauft? Schreibe jeden Schritt der Rechnung auf, und am Ende das Ergebnis.",
           "Am {day} wurden {a} Karten verkauft, am Tag danach {b}. Zusammen sind das {a} + {b} = {c}. Die Antwort "
           "ist {c}."),
    "fr": ("{place} a vendu {a} billets le {day} et {b} le lendemain. Combien de billets ont été vendus en tout les "
           "deux jours ? Écris chaque étape du calcul, et le résultat à la fin.",
           "Le {day}, {a} billets ont été vendus, le lendemain {b}. En tout, cela fait {a} + {b} = {c}. La réponse "
           "est {c}."),
    "zh": ("{place} 在 {day} 卖出了 {a} 张票，第二天卖出了 {b} 张票。"
           "两天一共卖出了多少张票？请写出计算的每一步，最后写出结果。",
           "{day} 卖出了 {a} 张票，第二天卖出了 {b} 张票。一共是 {a} + {b} = {c}。答案是 {c}。"),
}  # fmt: skip


def space_and_case(pair: Pair, draw: random.Random) -> Pair:
    """Double blanks, line breaks elsewhere, or all letters in one case."""

    def change(text: str) -> str:
        way = draw.randrange(5)
        if way == 0:
            return text.lower()
        if way == 1:
            return text.upper()
        words = text.split(" ")
        gaps = draw.choices(("  ", " \n", "\t") if way < 4 else (" ",), k=len(words))
        mixed = "".join(word + (gap if draw.random() < 0.2 else " ") for word, gap in zip(words, gaps, strict=True))
        return f" {mixed.rstrip(' ')}\n"

    return change(pair[0]), change(pair[1])


def punctuation(pair: Pair, draw: random.Random) -> Pair | None:
    """Some commas, full stops, colons and quotes left out or exchanged; none inside numbers."""

    def change(text: str) -> str:
        kept = draw.choice((0.3, 0.6, 0.9))
        text = re.sub(r"(?<=[a-z])[.,;:!?](?=\s|$)", lambda m: m[0] if draw.random() < kept else "", text)
        text = text.replace('"', draw.choice(("'", '"', "“")))
        return text.rstrip(".!") if draw.random() < 0.5 else f"{text.rstrip('.')}."

    changed = change(pair[0]), change(pair[1])
    return changed if changed != pair else None


def few_words(pair: Pair, draw: random.Random) -> Pair | None:
    """One to three words, at most one in twenty-five, replaced by synonyms.

    Options and short answers are left: another word there makes another option, another answer.
    """
    lines = [*pair[0].splitlines(keepends=True), "\0", *pair[1].splitlines(keepends=True)]
    words = [re.split(r"(\W+)", line) for line in lines]
    places = [
        (i, j)
        for i, line in enumerate(words)
        if not OPTION.match(lines[i]) and (i < lines.index("\0") or len(pair[1].split()) > 20)
        for j, word in enumerate(line)
        if word in SYNONYMS
    ]
    if not places:
        return None
    count = min(len(places), draw.randint(1, 3), max(1, sum(map(len, words)) // 50))
    for i, j in draw.sample(places, count):
        words[i][j] = SYNONYMS[words[i][j]]
    instruction, response = "".join(map("".join, words)).split("\0")
    return instruction, response


def sentence_added(pair: Pair, draw: random.Random) -> Pair:
    """A courtesy before or after the instruction, or a closing sentence after the response."""
    instruction, response = pair
    way = draw.randrange(3)
    if way == 0:
        return f"{instruction}\n{draw.choice(COURTESIES)}", response
    if way == 1:
        return f"{draw.choice(COURTESIES)}\n{instruction}", response
    stop = "" if response[-1] in ".!?" else "."
    return instruction, f"{response}{stop} {draw.choice(CLOSINGS)}"


NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def number_changed(pair: Pair, draw: random.Random) -> Pair | None:
    """One number replaced by another of as many digits, everywhere in the two texts."""
    found = sorted(set(NUMBER.findall(pair[0])) or set(NUMBER.findall(pair[1])))
    if not found:
        return None
    old = draw.choice(found)
    place = draw.choice([i for i, char in enumerate(old) if char.isdigit()])
    new = old[:place] + draw.choice([digit for digit in "123456789" if digit != old[place]]) + old[place + 1 :]
    whole = rf"(?<![\d.,]){re.escape(old)}(?!\d|[.,]\d)"
    instruction, response = (re.sub(whole, new, text) for text in pair)
    return (instruction, response) if (instruction, response) != pair else None


NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")


def name_changed(pair: Pair, draw: random.Random) -> Pair | None:
    """One name from inside a sentence replaced by another, everywhere in the two texts."""
    found = sorted(set(NAME.findall(pair[0])) or set(NAME.findall(pair[1])))
    if not found:
        return None
    old = draw.choice(found)
    new = draw.choice([name for name in NAMES if name != old])
    instruction, response = (re.sub(rf"\b{old}\b", new, text) for text in pair)
    return instruction, response


def with_options(pair: Pair, draw: random.Random) -> Pair:
    """The record with labelled options after its instruction."""
    chosen = draw.sample(CHOICES, draw.randint(3, 5))
    style = draw.choice(("{letter}) ", "({letter}) ", "{letter}. ", "{number}. ", "- "))
    labels = [style.format(letter="ABCDE"[i], number=i + 1) for i in range(len(chosen))]
    return _with(pair[0], labels, chosen), pair[1]


def _options(instruction: str) -> tuple[str, list[str], list[str]]:
    """The text before the options, their labels, and their texts."""
    head, block = instruction.rsplit("\nOptions:\n", 1)
    parts = [re.match(r"(\(?\w[.)] |- )(.*)", line) for line in block.split("\n")]
    return head, [part[1] for part in parts if part], [part[2] for part in parts if part]


def _with(head: str, labels: Sequence[str], texts: Sequence[str]) -> str:
    return head + "\nOptions:\n" + "\n".join(map("".join, zip(labels, texts, strict=True)))


def option_changed(pair: Pair, draw: random.Random) -> Pair:
    """One option replaced by another."""
    head, labels, texts = _options(pair[0])
    texts[draw.randrange(len(texts))] = draw.choice([text for text in CHOICES if text not in texts])
    return _with(head, labels, texts), pair[1]


def order_changed(pair: Pair, draw: random.Random) -> Pair:
    """The same options in another order, under the same labels."""
    head, labels, texts = _options(pair[0])
    i, j = draw.sample(range(len(texts)), 2)
    texts[i], texts[j] = texts[j], texts[i]
    return _with(head, labels, texts), pair[1]


def template_problem(draw: random.Random) -> Mapping[str, object]:
    """Values for the fields of `TEMPLATES`."""
    a, b = draw.randint(100, 999), draw.randint(100, 999)
    day = f"{draw.randint(1, 28)}.{draw.randint(1, 12)}."
    return {"place": draw.choice(NAMES), "a": a, "b": b, "c": a + b, "day": day}


def in_language(problem: Mapping[str, object], language: str) -> Pair:
    """A problem in one of the languages of `TEMPLATES`."""
    instruction, response = TEMPLATES[language]
    return instruction.format(**problem), response.format(**problem)


def other_answer(pair: Pair, others: Sequence[Pair], draw: random.Random) -> Pair | None:
    """The instruction with another record's response, or with its own turned round in one word."""
    swaps = {"yes": "no", "no": "yes", "true": "false", "false": "true", "is": "is not", "are": "are not"}
    swaps |= {"can": "cannot", "was": "was not", "positive": "negative", "negative": "positive", "always": "never"}
    words = re.split(r"(\W+)", pair[1])
    places = [i for i, word in enumerate(words) if word.lower() in swaps]
    if places and draw.random() < 0.5:
        i = draw.choice(places)
        words[i] = swaps[words[i].lower()]
        return pair[0], "".join(words)
    response = draw.choice(others)[1]
    return (pair[0], response) if response.split() != pair[1].split() else None


_SUBJECTS = (
    "the teacher", "my neighbour", "a group of people", "the small company", "an old friend", "the whole family",
    "the young driver", "a large farm", "the main library", "a careful reader", "the local council", "every visitor",
    "the research team", "a tired traveller", "the shop", "the big orchestra", "the engineer", "a curious child",
)  # fmt: skip
_VERBS = (
    "wanted to improve", "tried to find", "began to write about", "had to explain", "often talked about",
    "could not keep", "usually looked after", "decided to buy", "learned to make", "was happy to show",
    "used to think about", "helped to choose", "managed to repair", "forgot to give back", "waited for",
)  # fmt: skip
_OBJECTS = (
    "a different way to cook rice", "the important letters", "the history of the town", "many kinds of birds",
    "the quick route to the station", "the story of the lost ship", "a house with a view", "the rules of the game",
    "the various tools in the cellar", "an answer to the question", "the movie that nobody liked", "several maps",
    "the water in the well", "the main idea of the book", "a garden full of herbs", "the price of bread",
    "what a good teacher does", "how a bridge is built", "the reason for the delay", "a song about the sea",
)  # fmt: skip
_ENDS = (
    "because it was important to them", "although the weather was bad", "before the evening came",
    "and nobody was surprised", "while the others slept", "so that everybody could use it", "with the help of {name}",
    "on the way to {name}", "for {number} days", "after {number} years", "together with {name}", "at {number} euros",
    "as people often do", "and also to learn something", "however long it took", "when {name} asked about it",
)  # fmt: skip


def prose(sentences: int, draw: random.Random) -> str:
    """Sentences from a small grammar."""

    def sentence() -> str:
        end = draw.choice(_ENDS).format(name=draw.choice(NAMES), number=draw.randint(2, 999))
        text = f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)} {end}."
        return text[0].upper() + text[1:]

    return " ".join(sentence() for _ in range(sentences))


def made_up(draw: random.Random) -> Pair:
    """A record about a text of a few sentences."""
    tasks = ("Summarize the text.", "What is this text about?", "Continue the story.", "Rewrite it in your own words.")
    text = prose(draw.randint(2, 9), draw)
    instruction = f"{draw.choice(tasks)}\n\n{text}" if draw.random() < 0.7 else f"{text} {draw.choice(tasks)}"
    return instruction, prose(draw.randint(1, 6), draw)

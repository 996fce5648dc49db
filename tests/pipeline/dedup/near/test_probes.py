"""Texts that differ in what is informative are kept, others are duplicates: pairs of many kinds and languages."""

import polars as pl
import pytest

from pipeline.dedup.near.table import near_dedup

PYTHON = """def total(values, start=0):
    result = start
    for value in values[1:]:
        if value > 0 and value % 2 == 0:
            result += value
    return result

print(total([1, 2, 3], 5))"""
C = """int count(const char *s, int n) {
    int i = 0, sum = 0;
    while (i++ < n) { sum += s[i] & 0x0f; }
    return sum << 2;
}"""
SQL = """SELECT name, COUNT(*) FROM orders o LEFT JOIN users u ON o.user_id = u.id
WHERE o.total > 100 AND u.city = 'Rome' GROUP BY name HAVING COUNT(*) >= 3 ORDER BY name ASC LIMIT 10;"""
SHELL = """find . -name '*.log' -mtime +7 | xargs rm -f && echo "$HOME done" >> out.txt 2>&1"""
LATEX = r"Show that \( \int_0^1 \frac{a_1 x^2 + b}{\sqrt{c - 1}}\,dx \le \pi \) for all \( a_1 \in \mathbb{R} \)."
CHANGES = {
    PYTHON: "+= ~ -=|> 0 ~ >= 0|and ~ or|[1:] ~ [:1]|% 2 ~ // 2|start=0 ~ start=1|    return ~         return|"
    "[1, 2, 3] ~ (1, 2, 3)|value in ~ item in|], 5 ~ ], 5.0|(values ~ (*values|if value ~ if not value",
    C: "i++ ~ ++i|<< ~ >>|& ~ &&|0x0f ~ 0xf0|const char ~ char|*s ~ s|int n ~ long n|< n ~ <= n|s[i] ~ *s|2; ~ 3;",
    SQL: "LEFT ~ INNER|AND ~ OR|> 100 ~ < 100|'Rome' ~ 'rome'|>= 3 ~ > 3|ASC ~ DESC|(*) ~ (id)|10; ~ 100;|= 'R ~ > 'R",
    SHELL: "+7 ~ -7|&& ~ |>> ~ >|-f ~ -rf|*.log ~ *.txt|$HOME ~ $PWD|2>&1 ~ 1>&2|\"$HOME done\" ~ '$HOME done'|-m ~ -c",
    LATEX: r"\le ~ \ge|x^2 ~ x_2|x^2 ~ x^3|c - 1 ~ c + 1|_0^1 ~ _0^2|\pi ~ 2\pi|{R} ~ {Z}|+ b ~ - b|\in \m ~ \ni \m",
}
NEAR_MISSES = {
    "math": """
Solve 3(x + 2) = 12 for x. ~ Solve 3x + 2 = 12 for x.
Is 5 < 7? ~ Is 5 > 7?
Compute |x - 3| at x = 1. ~ Compute (x - 3) at x = 1.
What is 7 × 8? ~ What is 7 ÷ 8?
What is 12 - 5? ~ What is 12 + 5?
What is 5!? ~ What is 5?
What is the value of √16? ~ What is the value of 16?
Simplify a·b·c. ~ Simplify a+b+c.
Find f'(x) for f(x) = x. ~ Find f(x) for f(x) = x.
Round 3.45 to one place. ~ Round 34.5 to one place.
What is 1/2 of 8? ~ What is 12 of 8?
What is 2^10? ~ What is 210?
Is -3 even? ~ Is 3 even?
What is 50% of 8? ~ What is 50 of 8?
Is {1, 2} a subset of A? ~ Is (1, 2) a subset of A?
How much is $5 in pounds? ~ How much is €5 in pounds?
Is p ∧ q true? ~ Is p ∨ q true?
Is A ⊂ B? ~ Is A ⊃ B?
Is x ≤ 3? ~ Is x ≥ 3?
Evaluate 3 - (2 - 1). ~ Evaluate 3 - 2 - 1.
Evaluate 10:2. ~ Evaluate 10.2.
Compute 1,000 + 5. ~ Compute 1.000 + 5.
""",
    "negation": """
Is it true that the river does flow south? ~ Is it true that the river does not flow south?
Which of these can a penguin do? ~ Which of these can't a penguin do?
Name a fish that is dangerous. ~ Name a fish that isn't dangerous.
Ist der Turm höher als die Kirche? ~ Ist der Turm nicht höher als die Kirche?
Nennen Sie eine Stadt mit Hafen. ~ Nennen Sie eine Stadt ohne Hafen.
Est-ce que le chat dort ? ~ Est-ce que le chat ne dort pas ?
¿Tiene el perro hambre? ~ ¿No tiene el perro hambre?
Il treno parte oggi? ~ Il treno non parte oggi?
O rio corre para o sul? ~ O rio não corre para o sul?
Река течёт на юг? ~ Река не течёт на юг?
这条河向南流吗? ~ 这条河不向南流吗?
この川は南に流れますか。 ~ この川は南に流れませんか。
이 강은 남쪽으로 흐릅니까? ~ 이 강은 남쪽으로 안 흐릅니까?
هل يجري النهر جنوبا؟ ~ ألا يجري النهر جنوبا؟
क्या नदी दक्षिण की ओर बहती है? ~ क्या नदी दक्षिण की ओर नहीं बहती है?
แม่น้ำไหลไปทางใต้ไหม ~ แม่น้ำไม่ไหลไปทางใต้ไหม
Sông này chảy về phía nam phải không? ~ Sông này không chảy về phía nam phải không?
Nehir güneye akıyor mu? ~ Nehir güneye akmıyor mu?
Czy rzeka płynie na południe? ~ Czy rzeka nie płynie na południe?
آیا رودخانه به جنوب می‌رود؟ ~ آیا رودخانه به جنوب نمی‌رود؟
নদীটি কি দক্ষিণে যায়? ~ নদীটি কি দক্ষিণে যায় না?
Stroomt de rivier naar het zuiden? ~ Stroomt de rivier niet naar het zuiden?
Річка тече на південь? ~ Річка не тече на південь?
Teče řeka na jih? ~ Neteče řeka na jih?
Rinner floden söderut? ~ Rinner floden inte söderut?
Ρέει το ποτάμι νότια; ~ Δεν ρέει το ποτάμι νότια;
האם הנהר זורם דרומה? ~ האם הנהר לא זורם דרומה?
Sungai itu mengalir ke selatan? ~ Sungai itu tidak mengalir ke selatan?
Mto unatiririka kusini? ~ Mto hautiririki kusini?
""",
    "number words": """
Give two reasons. ~ Give three reasons.
Nenne zwei Gründe. ~ Nenne drei Gründe.
Donnez deux raisons. ~ Donnez trois raisons.
请给出两个理由。 ~ 请给出三个理由。
理由を二つ挙げてください。 ~ 理由を三つ挙げてください。
اذكر سببين. ~ اذكر ثلاثة أسباب.
Hãy nêu hai lý do. ~ Hãy nêu ba lý do.
İki neden söyle. ~ Üç neden söyle.
Podaj dwa powody. ~ Podaj trzy powody.
دو دلیل بگو. ~ سه دلیل بگو.
দুটি কারণ বলো। ~ তিনটি কারণ বলো।
이유를 두 가지 말하세요. ~ 이유를 세 가지 말하세요.
Use the first paragraph. ~ Use the second paragraph.
Name half of them. ~ Name all of them.
""",
    "polarity": """
Is the movie good or dull? ~ Is the movie bad or dull?
Ist der Film gut? ~ Ist der Film schlecht?
这部电影好看吗? ~ 这部电影难看吗?
Film iyi mi? ~ Film kötü mü?
Bộ phim hay không? ~ Bộ phim dở không?
Czy film jest dobry? ~ Czy film jest zły?
영화가 좋습니까? ~ 영화가 나쁩니까?
فیلم خوب است؟ ~ فیلم بد است؟
ছবিটি কি ভালো? ~ ছবিটি কি খারাপ?
Did prices rise before the war? ~ Did prices rise after the war?
Which city is bigger? ~ Which city is smaller?
List the advantages. ~ List the disadvantages.
Write it with commas. ~ Write it without commas.
What is the maximum? ~ What is the minimum?
Is it always so? ~ Is it never so?
""",
    "name": """
Where was Anna born? ~ Where was Ella born?
Wo wurde Anna geboren? ~ Wo wurde Emma geboren?
王伟在哪里出生? ~ 李伟在哪里出生?
田中さんはどこで生まれましたか。 ~ 山中さんはどこで生まれましたか。
김민수는 어디에서 태어났습니까? ~ 이민수는 어디에서 태어났습니까?
أين ولد أحمد؟ ~ أين ولد محمد؟
अमित कहाँ पैदा हुआ? ~ सुमित कहाँ पैदा हुआ?
Lan sinh ở đâu? ~ Hoa sinh ở đâu?
Ayşe nerede doğdu? ~ Fatma nerede doğdu?
Gdzie urodziła się Anna? ~ Gdzie urodziła się Ewa?
سارا کجا به دنیا آمد؟ ~ مینا کجا به دنیا آمد؟
রহিম কোথায় জন্মেছে? ~ করিম কোথায় জন্মেছে?
What is the capital of Niger? ~ What is the capital of Nigeria?
What does the US export? ~ What does us export?
Who is Turkey's neighbour? ~ Who is turkey's neighbour?
""",
    "marks of letters": """
Con ma là gì? ~ Con má là gì?
Con bò ăn gì? ~ Con bơ ăn gì?
¿Qué es el año? ~ ¿Qué es el ano?
Was kostet schon viel? ~ Was kostet schön viel?
Czy to jest sad? ~ Czy to jest sąd?
किताब की कीमत? ~ किताब कि कीमत?
Kaç kız var? ~ Kaç kiz var?
""",
    "order": """
Put these in order: red, green, blue. ~ Put these in order: blue, green, red.
1. Wash\\n2. Rinse\\n3. Dry ~ 1. Rinse\\n2. Wash\\n3. Dry
- wash\\n- rinse\\n- dry ~ - rinse\\n- wash\\n- dry
A beats B and B beats C. ~ B beats A and B beats C.
Translate dog, cat, cow. ~ Translate cow, cat, dog.
""",
    "table": """
| a | b |\\n|---|---|\\n| 1 | 2 | ~ | a | b |\\n|---|---|\\n| 2 | 1 |
| a | b |\\n|---|---|\\n| 1 | 2 | ~ | a | b |\\n|---|---|\\n| 1 |  | 2 |
| name | age |\\n|---|---|\\n| Ann | 3 |\\n| Bob | 4 | ~ | name | age |\\n|---|---|\\n| Bob | 3 |\\n| Ann | 4 |
a,b\\n1,\\n,2 ~ a,b\\n,1\\n2,
""",
    "unit": """
How far is 5 km? ~ How far is 5 m?
Convert 5 mg to grams. ~ Convert 5 Mg to grams.
Heat to 90 °C. ~ Heat to 90 °F.
A 5 kW motor. ~ A 5 kWh motor.
It is 3' long. ~ It is 3" long.
Add 5 ml of it. ~ Add 5 Ml of it.
Sell 5 lb. ~ Sell 5 lbs of 5.
A 10 Mb file. ~ A 10 MB file.
Turn by 30°. ~ Turn by 30%.
""",
    "date": """
What happened on 3/4/1999? ~ What happened on 4/3/1999?
What happened on 1999-03-04? ~ What happened on 1999-04-03?
Meet at 3:15 pm. ~ Meet at 3:15 am.
Meet at 3:15. ~ Meet at 3:51.
In the 1920s. ~ In the 1920.
It was 44 BC. ~ It was 44 AD.
Meet on Monday. ~ Meet on Sunday.
Meet in May. ~ Meet in March.
2019年3月4日 ~ 2019年4月3日
""",
    "url": """
Open https://a.org/x?id=1. ~ Open https://a.org/x?id=2.
Open https://a.org/x. ~ Open http://a.org/x.
Open https://a.org/x. ~ Open https://a.com/x.
Open a.org/X. ~ Open a.org/x.
Open https://a.org/x/y. ~ Open https://a.org/x-y.
Mail ann@a.org. ~ Mail ann.a.org.
Open https://a.org/#top. ~ Open https://a.org/top.
Edit C:\\tmp\\a.txt. ~ Edit C:/tmp/a.txt.
Call 10.0.0.1:80. ~ Call 10.0.0.1:8.
""",
    "chem": """
Balance H2 + O2 -> H2O. ~ Balance H2 + O2 -> H2O2.
What is CO? ~ What is Co?
What is Na+? ~ What is Na-?
What is Fe2+? ~ What is Fe3+?
What is C2H5OH? ~ What is C2H5 OH and H?
Name CH3-CH=CH2. ~ Name CH3-CH2-CH2.
What is ¹⁴C? ~ What is ¹²C?
Is NO an oxide? ~ Is No an oxide?
A + B → C ~ A + B ⇌ C
Write SMILES C1=CC=CC=C1 ~ Write SMILES C1CCCCC1
Write SMILES c1ccccc1 ~ Write SMILES C1CCCCC1
""",
    "music": """
e|--0--2--|\\nB|--1--3--| ~ e|--2--0--|\\nB|--1--3--|
e|--0--2--|\\nB|--1--3--| ~ e|--0-2---|\\nB|--1--3--|
C G Am F ~ C G A F
Play C# then D. ~ Play C then D.
Play Bb. ~ Play B.
C D E | F G A ~ C D | E F G A
""",
    "calc": """
He has <<3+4=7>>7 pens. ~ He has <<3+5=8>>8 pens.
#### 72 ~ #### 27
""",
    "punct": """
Let's eat, Grandma! ~ Let's eat Grandma's!
Quote "no" twice. ~ Quote no twice.
Use a semicolon; here. ~ Use a semi-colon; here.
What is a.m.? ~ What is am?
Is it re-sign? ~ Is it resign?
Explain 'its'. ~ Explain 'it's'.
Write an email to (Ann). ~ Write an email to [Ann].
C++ or C? ~ C or C?
What is C#? ~ What is C?
What is .NET? ~ What is NET?
Write 3,5. ~ Write 3.5.
What does :) mean? ~ What does :( mean?
What does 😀 mean? ~ What does 😢 mean?
Use @home. ~ Use #home.
""",
    "case": """
Sort: apple, Banana. ~ Sort: Apple, banana.
Is AIDS an aid? ~ Is aids an aid?
Write iPhone. ~ Write IPhone.
Polish the text. ~ polish the Text.
Let v and V be speeds. ~ Let V and v be speeds.
""",
    "cloze": """
The ___ is red. ~ The is ___ red.
Fill: a _ b _ c. ~ Fill: a b _ c _.
He [MASK] home. ~ He home [MASK].
""",
    "lang": """
Translate to French: cat ~ Translate to German: cat
""",
    "who": """
Who did Ann call? ~ Who called Ann?
Summarize for a child. ~ Summarize for an adult.
""",
}


DUPLICATES = """
He has 3+4=<<3+4=7>>7 pens and gives away 2. ~ He has 3+4=7 pens and gives away 2.
She sold 48/2 = <<48/2=24>> 24 clips in May.\\n#### 72 ~ She sold 48/2 = 24 clips in May.\\n#### 72
She sold 24 clips in May.\\nShe sold 72 clips in all.\\n#### 72 ~ She sold 24 clips in May.\\nShe sold 72 clips in all.
- Wash the car\\n- Rinse the car ~ * Wash the car\\n* Rinse the car
“What is a cat?” asked the boy at the door. ~ "What is a cat?" asked the boy at the door.
What's the name of the old man's dog? ~ What’s the name of the old man’s dog?
WHAT IS THE NAME OF THE OLD RIVER IN THE VALLEY? ~ What is the name of the old river in the valley?
what is the name of the old river in the valley? ~ What is the name of the old river in the valley?
Wait… what is the old river called? ~ Wait... what is the old river called?
> What is the old river called in the valley? ~ What is the old river called in the valley?
Use `x` here and then _go home_ to sleep. ~ Use x here and then go home to sleep.
The old ____ is red in winter. ~ The old ________ is red in winter.
1. Wash the car.\\n2. Dry the car. ~ 1. Wash the car\\n2. Dry the car
Find y if x = 3 ,  and z = 4 . ~ Find y if x = 3, and z = 4.
**解释为什么去年冬天这座旧桥禁止车辆通行** ~ 解释为什么去年冬天这座旧桥禁止车辆通行。
## Eski köprü geçen kış neden kapatıldı? ~ Eski köprü geçen kış neden kapatıldı
Hãy giải thích vì sao cây cầu cũ bị đóng.  ~ Hãy giải thích vì sao cây cầu cũ\\nbị đóng
শীতে সেতুটি কেন বন্ধ ছিল তা বলো। ~ শীতে সেতুটি কেন বন্ধ ছিল তা বলো
"""
COURTESIES = """
What is the old river called? Thank you! ~ What is the old river called?
Could you please explain how the tides come about? ~ Explain how the tides come about.
Bitte erkläre, warum die alte Brücke gesperrt wurde. ~ Erkläre, warum die alte Brücke gesperrt wurde.
请解释为什么这座旧桥禁止车辆通行。 ~ 解释为什么这座旧桥禁止车辆通行。
Vui lòng giải thích vì sao cây cầu bị đóng. ~ Giải thích vì sao cây cầu bị đóng.
Lütfen eski köprünün neden kapatıldığını açıkla. ~ Eski köprünün neden kapatıldığını açıkla.
Proszę wyjaśnij, dlaczego stary most zamknięto. ~ Wyjaśnij, dlaczego stary most zamknięto.
لطفا توضیح بده چرا پل قدیمی بسته شد ~ توضیح بده چرا پل قدیمی بسته شد
দয়া করে বলো সেতুটি কেন বন্ধ ছিল। ~ বলো সেতুটি কেন বন্ধ ছিল।
"""


def pairs(lines: str) -> list[tuple[str, str]]:
    return [(a.strip(" "), b.strip(" ")) for a, b in (line.split(" ~ ") for line in unescaped(lines) if line)]


def unescaped(lines: str) -> list[str]:
    return [line.replace("\\n", "\n") for line in lines.split("\n")]


def found(texts: list[tuple[str, str]], field: str) -> list[bool]:
    """Whether each pair of texts, as two instructions or as two responses of a question, is one of duplicates."""
    rows = [
        (text, f"It is in book {number}.") if field == "instruction" else (f"What is in book {number}?", text)
        for number, both in enumerate(texts)
        for text in both
    ]
    lost = set(near_dedup(pl.DataFrame(rows, schema=["instruction", "response"], orient="row")).lost.tolist())
    return [bool({2 * number, 2 * number + 1} & lost) for number in range(len(texts))]


@pytest.mark.parametrize("field", ["instruction", "response"])
@pytest.mark.parametrize("kind", NEAR_MISSES)
def test_texts_that_differ_in_something_informative_are_kept(kind: str, field: str) -> None:
    texts = pairs(NEAR_MISSES[kind])
    merged = found(texts, field)
    assert [both for both, is_merged in zip(texts, merged, strict=True) if is_merged] == []


@pytest.mark.parametrize("field", ["instruction", "response"])
@pytest.mark.parametrize("program", CHANGES, ids=["python", "c", "sql", "shell", "latex"])
def test_programs_and_formulas_that_differ_in_a_token_are_kept(program: str, field: str) -> None:
    changes = [change.split(" ~ ") for change in CHANGES[program].split("|")]
    texts = [(program, program.replace(old, new, 1)) for old, new in changes]
    assert all(a != b for a, b in texts)
    merged = found(texts, field)
    assert [change for change, is_merged in zip(changes, merged, strict=True) if is_merged] == []


@pytest.mark.parametrize("field", ["instruction", "response"])
def test_texts_that_differ_in_typography_and_markup_are_duplicates(field: str) -> None:
    texts = pairs(DUPLICATES)
    assert [both for both, is_found in zip(texts, found(texts, field), strict=True) if not is_found] == []


def test_instructions_that_differ_in_courtesies_are_duplicates() -> None:
    texts = pairs(COURTESIES)
    assert [both for both, is_found in zip(texts, found(texts, "instruction"), strict=True) if not is_found] == []

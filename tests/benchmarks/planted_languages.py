"""Records in twelve languages, with copies that differ in one word that matters, or only in what does not.

A language has clauses of background, which make its words frequent ones; a question; and for each kind of near-miss a
sentence with the two words of which one is in the record, the other in its copy.
"""

import random
import re
from typing import NamedTuple

Pair = tuple[str, str]


class Language(NamedTuple):
    """Texts of one language."""

    clauses: tuple[str, ...]
    question: str
    near_misses: dict[str, tuple[str, str, str]]
    """Kind to a sentence with a place, and two values for it."""
    polite: tuple[str, ...]
    """Prefixes of an instruction."""
    stop: str = "."
    blank: str = " "


LANGUAGES = {
    "en": Language(
        ("the boats come home late", "the old house stands by the river", "many people read the paper in the morning",
         "the children play in the garden", "the teacher explains the task", "the train leaves from the small station"),
        "Can this medicine be taken with coffee in the morning?",
        {"negation": ("This medicine can {}be taken with coffee", "", "not "),
         "number word": ("The doctor wrote about {} of these cases", "three", "four"),
         "polarity": ("With coffee the effect of it is {}", "stronger", "weaker"),
         "name": ("The question was answered by {} in the paper", "Anna", "Boris")},
        ("Please tell me: ", "Could you please say, ", "Hello! ", "Please, "),
    ),
    "de": Language(
        ("die Boote kommen spät nach Hause", "das alte Haus steht am Fluss", "viele Leute lesen morgens die Zeitung",
         "die Kinder spielen im Garten", "der Lehrer erklärt die Aufgabe", "der Zug fährt vom kleinen Bahnhof ab"),
        "Darf man dieses Mittel am Morgen mit Kaffee nehmen?",
        {"negation": ("Man darf dieses Mittel {}mit Kaffee nehmen", "", "nicht "),
         "number word": ("Der Arzt schrieb über {} dieser Fälle", "drei", "vier"),
         "polarity": ("Mit Kaffee ist die Wirkung davon {}", "stärker", "schwächer"),
         "name": ("Die Frage wurde von {} in der Zeitung beantwortet", "Anna", "Boris")},
        ("Bitte: ", "Könntest du bitte ", "Hallo! ", "Bitte, "),
    ),
    "fr": Language(
        ("les bateaux rentrent tard à la maison", "la vieille maison est près de la rivière",
         "beaucoup de gens lisent le journal le matin", "les enfants jouent dans le jardin",
         "le professeur explique l'exercice", "le train part de la petite gare"),
        "Peut-on prendre ce médicament avec du café le matin ?",
        {"negation": ("On {} prendre ce médicament avec du café", "peut", "ne peut pas"),
         "number word": ("Le médecin a décrit {} de ces cas", "trois", "quatre"),
         "polarity": ("Avec le café son effet est plus {}", "fort", "faible"),
         "name": ("La réponse a été donnée par {} dans le journal", "Anna", "Boris")},
        ("S'il vous plaît, ", "S’il te plaît : ", "Bonjour, ", "Pourriez-vous s'il vous plaît "),
    ),
    "es": Language(
        ("los barcos vuelven tarde a casa", "la casa vieja está junto al río",
         "mucha gente lee el periódico por la mañana", "los niños juegan en el jardín",
         "el maestro explica la tarea", "el tren sale de la estación pequeña"),
        "¿Se puede tomar este medicamento con café por la mañana?",
        {"negation": ("{}se puede tomar este medicamento con café", "", "no "),
         "number word": ("El médico escribió sobre {} de estos casos", "tres", "cuatro"),
         "polarity": ("Con el café su efecto es {}", "mayor", "menor"),
         "name": ("La pregunta fue respondida por {} en el periódico", "Ana", "Boris")},
        ("Por favor, ", "Por favor: ", "Hola, ", "Gracias de antemano. "),
    ),
    "ru": Language(
        ("лодки поздно возвращаются домой", "старый дом стоит у реки", "многие люди утром читают газету",
         "дети играют в саду", "учитель объясняет задание", "поезд уходит с маленькой станции"),
        "Можно ли принимать это лекарство утром с кофе?",
        {"negation": ("Это лекарство {}можно принимать с кофе", "", "не "),
         "number word": ("Врач написал о {} таких случаях", "трёх", "четырёх"),
         "polarity": ("С кофе его действие становится {}", "сильнее", "слабее"),
         "name": ("На вопрос в газете ответила {}", "Анна", "Вера")},
        ("Пожалуйста, ", "Будьте добры, ", "Здравствуйте! ", "Не могли бы вы, пожалуйста, "),
    ),
    "ar": Language(
        ("تعود القوارب إلى البيت متأخرة", "يقع البيت القديم قرب النهر", "يقرأ كثير من الناس الجريدة في الصباح",
         "يلعب الأطفال في الحديقة", "يشرح المعلم الواجب", "يغادر القطار من المحطة الصغيرة"),
        "هل يمكن تناول هذا الدواء مع القهوة في الصباح؟",
        {"negation": ("{}يمكن تناول هذا الدواء مع القهوة", "", "لا "),
         "number word": ("كتب الطبيب عن {} من هذه الحالات", "ثلاث", "أربع"),
         "polarity": ("مع القهوة يصبح تأثيره {}", "أقوى", "أضعف"),
         "name": ("أجابت عن السؤال في الجريدة {}", "ليلى", "مريم")},
        ("من فضلك، ", "لو سمحت، ", "مرحبا، ", "رجاءً، "),
    ),
    "hi": Language(
        ("नावें देर से घर आती हैं", "पुराना घर नदी के पास है", "बहुत से लोग सुबह अख़बार पढ़ते हैं",
         "बच्चे बगीचे में खेलते हैं", "शिक्षक काम समझाते हैं", "गाड़ी छोटे स्टेशन से चलती है"),
        "क्या यह दवा सुबह कॉफ़ी के साथ ली जा सकती है?",
        {"negation": ("यह दवा कॉफ़ी के साथ {}ली जा सकती है", "", "नहीं "),
         "number word": ("डॉक्टर ने ऐसे {} मामलों के बारे में लिखा", "तीन", "चार"),
         "polarity": ("कॉफ़ी के साथ इसका असर {} होता है", "ज़्यादा", "कम"),
         "name": ("अख़बार में इस सवाल का जवाब {} ने दिया", "अनीता", "सुनीता")},
        ("कृपया ", "कृपया, ", "नमस्ते, ", "कृपया करके "), "।",
    ),
    "zh": Language(
        ("小船很晚才回家", "老房子在河边", "很多人早上看报纸", "孩子们在花园里玩", "老师解释作业", "火车从小车站出发"),
        "早上可以用咖啡服用这种药吗？",
        {"negation": ("这种药{}可以和咖啡一起服用", "", "不"),
         "number word": ("医生写到了其中{}个病例", "三", "四"),
         "polarity": ("和咖啡一起服用时药效会变{}", "强", "弱"),
         "name": ("报纸上回答这个问题的是{}", "李明", "王明")},
        ("请问，", "请", "你好，", "麻烦你，"), "。", "",
    ),
    "ja": Language(
        ("船は遅く家に帰る", "古い家は川のそばにある", "多くの人が朝に新聞を読む", "子どもたちは庭で遊ぶ",
         "先生が宿題を説明する", "電車は小さな駅から出る"),
        "この薬は朝にコーヒーと一緒に飲めますか。",
        {"negation": ("この薬はコーヒーと一緒に飲め{}", "ます", "ません"),
         "number word": ("医者はそのうち{}つの例について書いた", "三", "四"),
         "polarity": ("コーヒーと一緒だと効き目が{}なる", "強く", "弱く"),
         "name": ("新聞でこの質問に答えたのは{}です", "田中", "山中")},
        ("すみませんが、", "お手数ですが、", "こんにちは。", "恐れ入りますが、"), "。", "",
    ),
    "ko": Language(
        ("배는 늦게 집에 돌아온다", "오래된 집은 강가에 있다", "많은 사람이 아침에 신문을 읽는다",
         "아이들은 정원에서 논다",
         "선생님이 숙제를 설명한다", "기차는 작은 역에서 떠난다"),
        "이 약은 아침에 커피와 함께 먹어도 됩니까?",
        {"negation": ("이 약은 커피와 함께 먹으면 {} 됩니다", "잘", "안"),
         "number word": ("의사는 그중 {} 가지 경우에 대해 썼다", "세", "네"),
         "polarity": ("커피와 함께 먹으면 효과가 {}", "강해진다", "약해진다"),
         "name": ("신문에서 이 질문에 답한 사람은 {}이다", "민수", "철수")},
        ("부디 ", "실례지만, ", "안녕하세요. ", "죄송하지만, "),
    ),
    "th": Language(
        ("เรือกลับบ้านช้า", "บ้านเก่าอยู่ริมแม่น้ำ", "หลายคนอ่านหนังสือพิมพ์ตอนเช้า", "เด็กๆเล่นในสวน", "ครูอธิบายการบ้าน",
         "รถไฟออกจากสถานีเล็ก"),
        "กินยานี้กับกาแฟตอนเช้าได้หรือไม่",
        {"negation": ("ยานี้กินกับกาแฟ{}ได้", "", "ไม่"),
         "number word": ("หมอเขียนถึงผู้ป่วย{}รายในจำนวนนี้", "สาม", "สี่"),
         "polarity": ("เมื่อกินกับกาแฟฤทธิ์ของยาจะ{}", "แรงขึ้น", "อ่อนลง"),
         "name": ("คนที่ตอบคำถามนี้ในหนังสือพิมพ์คือ{}", "สมชาย", "สมศรี")},
        ("กรุณา", "โปรด", "สวัสดีครับ ", "รบกวน"), " ", "",
    ),
    "tr": Language(
        ("tekneler eve geç döner", "eski ev nehrin yanında durur", "birçok insan sabah gazete okur",
         "çocuklar bahçede oynar", "öğretmen ödevi açıklar", "tren küçük istasyondan kalkar"),
        "Bu ilaç sabahları kahve ile alınabilir mi?",
        {"negation": ("Bu ilaç kahve ile birlikte {}", "alınabilir", "alınamaz"),
         "number word": ("Doktor bu vakaların {} tanesini yazdı", "üç", "dört"),
         "polarity": ("Kahve ile birlikte etkisi {}", "artar", "azalır"),
         "name": ("Gazetede bu soruyu yanıtlayan {} oldu", "Ayşe", "Fatma")},
        ("Lütfen ", "Lütfen, ", "Merhaba, ", "Rica etsem "),
    ),
}  # fmt: skip

KEPT = ("negation", "number word", "polarity", "name")
BACKGROUND = "background"
"""Kind of the pairs that are not related."""
REMOVED = ("white space", "punctuation", "polite prefix")


def _clauses(language: Language, count: int, draw: random.Random) -> str:
    texts = [draw.choice(language.clauses) for _ in range(count)]
    return f"{language.stop}{language.blank}".join(text[0].upper() + text[1:] for text in texts) + language.stop


def background(language: Language, draw: random.Random) -> Pair:
    """A record of clauses only."""
    return _clauses(language, draw.randint(1, 3), draw), _clauses(language, draw.randint(4, 8), draw)


def near_miss(language: Language, kind: str, draw: random.Random) -> tuple[Pair, Pair]:
    """Two records that differ in one word of the response."""
    sentence, *words = language.near_misses[kind]
    before, after = _clauses(language, draw.randint(2, 4), draw), _clauses(language, draw.randint(2, 4), draw)
    instruction = f"{_clauses(language, 2, draw)}{language.blank}{language.question}"
    texts = [sentence.format(word) for word in words]
    one, other = (language.blank.join((before, text[0].upper() + text[1:] + language.stop, after)) for text in texts)
    return (instruction, one), (instruction, other)


def duplicate(language: Language, kind: str, draw: random.Random) -> tuple[Pair, Pair]:
    """Two records that differ only in white space, in punctuation, or in a polite prefix."""
    instruction, response = near_miss(language, draw.choice(KEPT), draw)[draw.randrange(2)]
    if kind == "polite prefix":
        prefix = draw.choice(language.polite)
        return (instruction, response), (prefix + instruction, response)
    if kind == "punctuation":
        kept = draw.choice((0.0, 0.5))
        marks = re.escape(language.stop if language.stop.strip() else "…")
        changed = re.sub(marks, lambda mark: mark[0] if draw.random() < kept else "", response)
        return (instruction, response), (instruction, f"{changed}!" if changed == response else changed)
    changed = re.sub(
        rf"(?<={re.escape(language.stop)})| ", lambda gap: gap[0] + draw.choice(("", " ", "\n", "\t")), response
    )
    return (instruction, response), (f"{instruction}\n", f" {changed}")


def planted_languages(count: int, draw: random.Random) -> list[tuple[str, Pair, Pair]]:
    """Kind with its language, record, and its copy, `count` of each; twice as many pairs of background."""
    rows = []
    for name, language in LANGUAGES.items():
        for kind in (*KEPT, *REMOVED):
            make = near_miss if kind in KEPT else duplicate
            rows += [(f"{name}: {kind}", *make(language, kind, draw)) for _ in range(count)]
        rows += [(BACKGROUND, background(language, draw), background(language, draw)) for _ in range(4 * count)]
    return rows

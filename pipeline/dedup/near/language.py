"""Words and phrases that a language shows to be uninformative: interchangeable or empty words, courtesies.

Everything that is in none of these lists is informative, so a language without a list loses no record to it.
"""

EMPTY = "a an the kindly please"
"""English words that add nothing to a sentence."""

INTERCHANGEABLE = """
big large; small little; begin start; begins starts; began started; beginning starting; help assist; helps assists;
helped assisted; helping assisting; show display; shows displays; showed displayed; showing displaying; use utilize
utilise; used utilized utilised; uses utilizes utilises; using utilizing utilising; many numerous; often frequently;
also additionally moreover furthermore; because since; however nevertheless nonetheless; important essential crucial
vital; people persons; get obtain acquire; gets obtains acquires; got obtained acquired; getting obtaining acquiring;
make create; makes creates; made created; making creating; find locate; finds locates; found located; finding
locating; give provide supply; gives provides supplies; gave provided supplied; giving providing supplying; need
require; needs requires; needed required; needing requiring; want wish; wants wishes; wanted wished; quick fast rapid;
quickly rapidly swiftly; different distinct; about regarding concerning; ensure guarantee; ensures guarantees; ensured
guaranteed; ensuring guaranteeing; improve enhance; improves enhances; improved enhanced; improving enhancing;
improvement enhancement; allow permit; allows permits; allowed permitted; allowing permitting; keep maintain retain;
keeps maintains retains; kept maintained retained; keeping maintaining retaining; main primary principal; usually
generally typically commonly; very really extremely highly; buy purchase; buys purchases; bought purchased; buying
purchasing; happy glad; write compose; writes composes; wrote composed; writing composing; describe portray depict;
describes portrays depicts; described portrayed depicted; describing portraying depicting; explain clarify; explains
clarifies; explained clarified; explaining clarifying; choose pick select; chooses picks selects; chose picked
selected; choosing picking selecting; story tale; stories tales; movie film; movies films; house home; houses homes;
answer reply; answers replies; answered replied; ask inquire; asks inquires; asked inquired; build construct; builds
constructs; built constructed; building constructing; car automobile; cars automobiles; change modify alter; changes
modifies alters; changed modified altered; changing modifying altering; child kid; children kids; clever smart
intelligent; complete finish; completes finishes; completed finished; completing finishing; consider regard; correct
rectify; decide determine; decides determines; decided determined; demonstrate illustrate; demonstrates illustrates;
demonstrated illustrated; demonstrating illustrating; difficult hard tough; discover uncover; discovers uncovers;
discovered uncovered; doctor physician; doctors physicians; eat consume; examine inspect; examines inspects; examined
inspected; example instance; examples instances; error mistake; errors mistakes; famous renowned; gather collect;
gathers collects; gathered collected; gathering collecting; goal aim objective; goals aims objectives; huge enormous
immense; idea notion; ideas notions; identify recognize recognise; identifies recognizes recognises; identified
recognized recognised; job occupation; jobs occupations; join connect; joins connects; joined connected; kind sort
type; kinds sorts types; look glance; method approach technique; methods approaches techniques; mention cite; mentions
cites; mentioned cited; normal ordinary; outcome result; outcomes results; perhaps maybe possibly; piece bit; pretty
beautiful; problem issue; problems issues; produce generate; produces generates; produced generated; producing
generating; rich wealthy; road street; roads streets; say state; says states; said stated; saying stating; shop store;
shops stores; shout yell; sick ill; simple easy; simply easily; speak talk; speaks talks; spoke talked; speaking
talking; suggest propose; suggests proposes; suggested proposed; suggesting proposing; suggestion proposal;
suggestions proposals; summarize summarise; summarizes summarises; summary synopsis; sure certain; task assignment;
tasks assignments; therefore thus hence consequently; though although; tired weary; trip journey; trips journeys; try
attempt; tries attempts; tried attempted; trying attempting; understand comprehend; understands comprehends;
understood comprehended; various diverse; wonderful marvelous marvellous; gift present; gifts presents; respond react;
responds reacts; entire whole; entirely wholly completely totally fully; nearly almost; approximately roughly;
obviously clearly evidently; mainly mostly primarily chiefly; typical usual; reduce lessen; reduces lessens;
assistance aid; amount quantity; amounts quantities; area region; areas regions; effect impact; effects impacts; occur
happen; occurs happens; occurred happened; occurring happening; remember recall; remembers recalls; remembered
recalled; stay remain; stays remains; stayed remained; staying remaining; stone rock; stones rocks; enough sufficient;
anybody anyone; everybody everyone; somebody someone; toward towards; while whilst; until till; among amongst; colour
color; colours colors; favourite favorite; behaviour behavior; analyze analyse; organize organise; realize realise;
centre center; travelling traveling; grey gray; neighbour neighbor; neighbours neighbors
"""
"""Groups of English words of which one may stand for another; a word belongs to the first group that has it. None has
words of opposite meaning, of different number, or of different degree."""

POLITE_PHRASES = """
please | tell me | please tell me | can you tell me | could you tell me | could you please tell me | can you please
tell me | would you tell me | could you please say | i would like to know | i'd like to know | i'd like you to |
please say | could you please explain to me | could you kindly | would you kindly | sag mir bitte | bitte sag mir |
sagen sie mir bitte | bitte sagen sie mir | kannst du mir sagen | können sie mir sagen | ich möchte wissen | dis-moi |
dites-moi | dites-moi s'il vous plaît | dis-moi s'il te plaît | s'il vous plaît dites-moi | pouvez-vous me dire | dime
por favor | por favor dime | dígame por favor | por favor dígame | puedes decirme | podrías decirme | dimmi per favore
| per favore dimmi | diga-me por favor | por favor diga-me | me diga por favor | скажите пожалуйста | скажи пожалуйста
| подскажите пожалуйста | расскажите пожалуйста | пожалуйста скажите | powiedz mi proszę | proszę powiedz mi | lütfen
söyle | lütfen söyleyin | söyler misiniz | من فضلك أخبرني | أخبرني من فضلك | कृपया बताइए कि | कृपया मुझे बताएं कि |
请告诉我 | 请你告诉我 | 能告诉我 | 你能告诉我 | 能请你告诉我 | 请回答 | 请教一下 | 请问一下 | 想问一下 | 我想问一下 |
教えてください | kindly | please kindly | could you please | can you please | would you please | will you please |
could you | can you | would you | would you mind | i would like you to | i want you to | i need you to | please help
me | help me | could you help me | can you help me | hello | hi | hi there | hey | good morning | good day | dear
assistant | thanks | thank you | thank you very much | thanks a lot | thanks in advance | thank you in advance | many
thanks | if you please | i would appreciate it if you could | be so kind as to | excuse me | for me please | bitte |
danke | bitte sehr | vielen dank | danke schön | danke im voraus | vielen dank im voraus | könntest du bitte | könnten
sie bitte | kannst du bitte | können sie bitte | kannst du mir bitte | können sie mir bitte | könntest du mir bitte |
könnten sie mir bitte | würdest du bitte | würden sie bitte | sei so gut und | seien sie so gut und | seien sie bitte
so nett und | sei bitte so nett und | hallo | guten tag | ich bitte dich | ich bitte sie | bitte hilf mir | bitte
helfen sie mir | entschuldigung | s'il vous plaît | s'il te plaît | s'il vous plait | s'il te plait | merci | merci
beaucoup | merci d'avance | pourriez-vous | pourrais-tu | pouvez-vous | peux-tu | pourriez-vous s'il vous plaît |
pourrais-tu s'il te plaît | peux-tu s'il te plaît | pouvez-vous s'il vous plaît | veuillez | je vous prie | je vous
prie de | je te prie de | merci de | bonjour | je vous en prie | auriez-vous l'amabilité de | ayez la gentillesse de |
por favor | gracias | muchas gracias | gracias de antemano | podrías por favor | podría por favor | puedes por favor |
puede por favor | podrías | podría usted | hola | buenos días | le ruego que | te ruego que | haz el favor de | haga
el favor de | sé tan amable de | sea tan amable de | ¿podrías por favor | ¿puedes | per favore | per piacere | per
cortesia | grazie | grazie mille | grazie in anticipo | potresti per favore | potrebbe per favore | puoi per favore |
ciao | buongiorno | la prego di | ti prego di | faça o favor de | obrigado | obrigada | muito obrigado | você poderia
por favor | poderia por favor | pode por favor | se faz favor | olá | bom dia | alsjeblieft | alstublieft | graag |
dank je | dank u | dank je wel | bedankt | zou je alsjeblieft | kun je alsjeblieft | kunt u alstublieft | zou u
alstublieft | hallo daar | пожалуйста | прошу | прошу вас | спасибо | большое спасибо | заранее спасибо | будьте добры
| будь добр | будь добра | будьте любезны | не могли бы вы | не могли бы вы пожалуйста | не мог бы ты | не могла бы ты
| можешь пожалуйста | можете пожалуйста | здравствуйте | привет | добрый день | помогите пожалуйста | помоги
пожалуйста | будь ласка | дякую | прошу вас будь ласка | чи не могли б ви | добрий день | proszę | bardzo proszę |
dziękuję | czy możesz | czy mógłbyś proszę | czy możesz proszę | z góry dziękuję | prosím | děkuji | prosím vás |
můžeš prosím | můžete prosím | vänligen | snälla | tack | tack på förhand | kan du snälla | skulle du kunna | vær så
snill | takk | venligst | ole hyvä | kiitos | voisitko | ystävällisesti | te rog | vă rog | mulțumesc | kérem | kérlek
| köszönöm | legyen szíves | légy szíves | παρακαλώ | σε παρακαλώ | σας παρακαλώ | ευχαριστώ | μπορείς σε παρακαλώ |
μπορείτε παρακαλώ | моля | благодаря | молим | хвала | lütfen | teşekkürler | teşekkür ederim | rica ederim | rica
etsem | rica ediyorum | merhaba | lütfen bana | zahmet olmazsa | mümkünse | şimdiden teşekkürler | من فضلك | من فضلكم
| لو سمحت | لو سمحتم | رجاء | رجاءً | الرجاء | يرجى | أرجوك | أرجو منك | شكرا | شكرا لك | شكراً | شكراً لك | مرحبا |
مرحباً | السلام عليكم | هل يمكنك من فضلك | هل يمكنك لو سمحت | شكرا جزيلا | شكراً جزيلاً | إذا سمحت | تفضل | لطفا |
لطفاً | خواهش می‌کنم | متشکرم | ممنون | سلام | براہ کرم | برائے مہربانی | مہربانی فرما کر | شکریہ | בבקשה | תודה |
תודה רבה | שלום | האם תוכל בבקשה | אנא | कृपया | कृपया करके | कृपा करके | मेहरबानी करके | धन्यवाद | शुक्रिया | नमस्ते
| क्या आप कृपया | कृपया मुझे | बहुत धन्यवाद | अनुग्रह करके | দয়া করে | অনুগ্রহ করে | ধন্যবাদ | தயவு செய்து |
தயவுசெய்து | நன்றி | దయచేసి | ధన్యవాదాలు | कृपया बताएं कि | 请 | 请问 | 請 | 請問 | 麻烦你 | 麻烦您 | 麻煩你 | 麻煩您
| 拜托 | 拜托你 | 请你 | 请您 | 請你 | 請您 | 劳驾 | 烦请 | 煩請 | 你好 | 您好 | 你好请问 | 您好请问 | 麻烦 | 谢谢 |
謝謝 | 谢谢你 | 谢谢您 | 多谢 | 非常感谢 | 请帮我 | 请帮忙 | 请你帮我 | 麻烦你帮我 | 请麻烦 | どうか | どうぞ |
すみません | すみませんが | 恐れ入りますが | 恐縮ですが | お手数ですが | お手数をおかけしますが | お願いします |
お願いいたします | お願い致します | よろしくお願いします | よろしくお願いいたします | 宜しくお願いします |
ありがとうございます | ありがとう | こんにちは | 申し訳ありませんが | お忙しいところ恐れ入りますが | よろしければ |
できれば | 부탁합니다 | 부탁드립니다 | 부탁드려요 | 부탁해요 | 제발 | 부디 | 감사합니다 | 고맙습니다 | 안녕하세요 |
실례지만 | 죄송하지만 | 죄송합니다만 | 실례합니다 | 미안하지만 | 수고스럽겠지만 | 번거로우시겠지만 | 잘 부탁드립니다 |
꼭 좀 | 미리 감사드립니다 | กรุณา | โปรด | ได้โปรด | ช่วย | ช่วยกรุณา | กรุณาช่วย | รบกวนช่วย | รบกวน | รบกวนหน่อย |
ขอความกรุณา | ขอบคุณ | ขอบคุณครับ | ขอบคุณค่ะ | สวัสดี | สวัสดีครับ | สวัสดีค่ะ | ขอโทษนะ | ขอโทษครับ | ขอโทษค่ะ |
ขอรบกวน | ກະລຸນາ | សូម | ကျေးဇူးပြု၍ | ကျေးဇူးပြုပြီး | გთხოვთ | խնդրում եմ | vui lòng | xin vui lòng | làm ơn | xin
hãy | xin | xin chào | cảm ơn | cám ơn | bạn có thể vui lòng | mohon | tolong | silakan | terima kasih | bisakah anda
| bisakah kamu tolong | sila | mohon bantuannya | harap | tafadhali | asante | asante sana | pakiusap | mangyaring |
paki | salamat
"""
"""Phrases that may begin or end an instruction without changing what is asked."""

COURTEOUS = """
a about advance all an and answer any anybody anyone appreciate appreciated are as ask assist assistance at be
best can care careful carefully certainly clear clearly concise could course dear detail detailed do else enjoy
explain explanation feel follow for forward free friend full further glad good greatly happy have hear hello help
helped helpful helps hesitate hi hope i if in is it just know let like look make may me might mine more my need of on
or other our please possible question questions regards reply response sentence sentences sincerely so some something
step sure take talk tell thank thanks that the there think this time to together unclear understand us use useful very
want wanted was welcome well what will wish with works would you your yours
"""
"""Words of courtesies, English."""

COURTEOUS_MARKERS = """
please kindly thank thanks hello hi dear hope glad sure certainly welcome free know time friend anybody clear carefully
appreciate appreciated hesitate enjoy regards sincerely sentences follow
"""
"""A sentence of `COURTEOUS` words is a courtesy if it has one of these."""

POLAR = """
no not never none nor neither nothing nobody nowhere without cannot cant can't don't dont doesn't doesnt didn't didnt
isn't isnt aren't arent wasn't wasnt weren't werent won't wont wouldn't wouldnt shouldn't couldn't hasn't haven't hadn't
except unless only false true yes incorrect correct wrong right invalid valid positive negative neutral always sometimes
zero one two three four five six seven eight nine ten first second third last more less most least before after above
below good bad better worse best worst agree disagree accept reject possible impossible
"""
"""A sentence with one of these is no boilerplate, however many records have it: it may be a verdict. English."""

"""Forms of English words for `grammar`, by rule and by a table of irregular ones."""

import re


# Base, past and participle of irregular verbs.
_VERBS = """
arise arose arisen;awake awoke awoken;bear bore borne;beat beat beaten;become became become;begin began begun;
bend bent bent;bet bet bet;bind bound bound;bite bit bitten;bleed bled bled;blow blew blown;break broke broken;
breed bred bred;bring brought brought;build built built;burst burst burst;buy bought bought;cast cast cast;
catch caught caught;choose chose chosen;cling clung clung;come came come;cost cost cost;creep crept crept;cut cut cut;
deal dealt dealt;dig dug dug;draw drew drawn;drink drank drunk;drive drove driven;eat ate eaten;fall fell fallen;
feed fed fed;feel felt felt;fight fought fought;find found found;flee fled fled;fling flung flung;fly flew flown;
forbid forbade forbidden;forget forgot forgotten;forgive forgave forgiven;freeze froze frozen;get got gotten;
give gave given;go went gone;grind ground ground;grow grew grown;hang hung hung;hear heard heard;hide hid hidden;
hit hit hit;hold held held;hurt hurt hurt;keep kept kept;know knew known;lay laid laid;lead led led;leave left left;
lend lent lent;let let let;lie lay lain;light lit lit;lose lost lost;make made made;mean meant meant;meet met met;
overcome overcame overcome;overtake overtook overtaken;pay paid paid;put put put;quit quit quit;read read read;
ride rode ridden;ring rang rung;rise rose risen;run ran run;say said said;see saw seen;seek sought sought;
sell sold sold;send sent sent;set set set;shake shook shaken;shed shed shed;shine shone shone;shoot shot shot;
show showed shown;shrink shrank shrunk;shut shut shut;sing sang sung;sink sank sunk;sit sat sat;slay slew slain;
sleep slept slept;slide slid slid;sling slung slung;slit slit slit;speak spoke spoken;speed sped sped;
spend spent spent;spin spun spun;spit spat spat;split split split;spread spread spread;spring sprang sprung;
stand stood stood;steal stole stolen;stick stuck stuck;sting stung stung;stink stank stunk;stride strode stridden;
strike struck struck;string strung strung;strive strove striven;swear swore sworn;sweep swept swept;
swell swelled swollen;swim swam swum;swing swung swung;take took taken;teach taught taught;tear tore torn;
tell told told;think thought thought;throw threw thrown;thrust thrust thrust;tread trod trodden;
understand understood understood;undertake undertook undertaken;upset upset upset;wake woke woken;wear wore worn;
weave wove woven;weep wept wept;win won won;wind wound wound;withdraw withdrew withdrawn;wring wrung wrung;
write wrote written
"""
IRREGULAR = {base: (then, done) for base, then, done in (line.split() for line in _VERBS.replace("\n", "").split(";"))}
_PLURALS = dict(
    pair.split()
    for pair in (
        "man men;woman women;child children;foot feet;tooth teeth;goose geese;mouse mice;ox oxen;person people;"
        "sheep sheep;deer deer;fish fish;"
        "salmon salmon;trout trout;series series;species species;life lives;wife wives;"
        "knife knives;leaf leaves;wolf wolves;calf calves;half halves;shelf shelves;self selves;thief thieves;"
        "loaf loaves;elf elves;potato potatoes;tomato tomatoes;hero heroes;echo echoes;crisis crises;basis bases;"
        "analysis analyses;oasis oases;axis axes"
    ).split(";")
)
_HISS = re.compile("(s|x|z|ch|sh)$")
_DOUBLES = re.compile("[^aeiou]+[aeiou][bdgklmnprtvz]|qui[tz]|[^aeiou]*quip")  # whole words: stop, plan, quit
# Longer verbs that double their last consonant, because the last syllable is stressed.
_STRESSED_LAST = frozenset(
    "admit begin commit compel control deter equip expel forget forbid incur occur omit permit prefer propel refer "
    "regret repel submit transfer transmit upset".split()
)
_SILENT_H = ("hour", "honest", "honor", "heir")
_LIKE_YOU = re.compile("(uni(?!n|m)|us[ae]|usu|eu|ewe|one$|once|u(?:tens|kul))")


def plural(noun: str) -> str:
    """The plural of a noun.

    >>> [plural(noun) for noun in ("box", "city", "day", "analysis", "stepchild", "policeman")]
    ['boxes', 'cities', 'days', 'analyses', 'stepchildren', 'policemen']
    """
    if noun in _PLURALS:
        return _PLURALS[noun]
    for ending in ("man", "child"):
        if noun.endswith(ending) and noun not in (
            "human",
            "german",
            "roman",
            "talisman",
            "ottoman",
            "shaman",
            "caiman",
        ):
            return noun.removesuffix(ending) + _PLURALS[ending]
    return third_person(noun)  # the same ending, except for go and do, which are not nouns


def third_person(verb: str) -> str:
    """The third person singular of a verb.

    >>> [third_person(verb) for verb in ("carry", "pass", "go", "say")]
    ['carries', 'passes', 'goes', 'says']
    """
    if verb in ("go", "do", "undergo", "forgo") or _HISS.search(verb):
        return verb + "es"
    if re.search("[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def past(verb: str) -> str:
    """The past tense of a verb.

    >>> [past(verb) for verb in ("stop", "carry", "bake", "throw", "prefer", "visit")]
    ['stopped', 'carried', 'baked', 'threw', 'preferred', 'visited']
    """
    return IRREGULAR[verb][0] if verb in IRREGULAR else _regular(verb)


def participle(verb: str) -> str:
    """The past participle of a verb.

    >>> participle("throw"), participle("stop")
    ('thrown', 'stopped')
    """
    return IRREGULAR[verb][1] if verb in IRREGULAR else _regular(verb)


def gerund(verb: str) -> str:
    """The gerund of a verb.

    >>> [gerund(verb) for verb in ("run", "lie", "make", "see", "begin", "singe")]
    ['running', 'lying', 'making', 'seeing', 'beginning', 'singeing']
    """
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb in ("singe", "dye", "tinge", "swinge"):
        return verb + "ing"
    if re.search("[^eoy]e$", verb):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def compared(adjective: str, ending: str) -> str:
    """An adjective with "er" or "est"; long adjectives, which take more or most, are unchanged.

    >>> compared("big", "er"), compared("lazy", "est"), compared("rare", "er"), compared("beautiful", "er")
    ('bigger', 'laziest', 'rarer', 'beautiful')
    """
    if len(adjective) > 6 or not re.fullmatch("[^aeiou]*[aeiouy]+[^aeiouy]+[ey]?", adjective):
        return adjective
    if adjective.endswith(("ed", "ing")):
        return adjective
    if adjective.endswith("y"):
        return adjective[:-1] + "i" + ending
    if adjective.endswith("e"):
        return adjective + ending[1:]
    return _doubled(adjective) + ending


def _regular(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if re.search("[^aeiou]y$", verb):
        return verb[:-1] + "ied"
    if verb.endswith("c"):
        return verb + "ked"
    return _doubled(verb) + "ed"


def _doubled(verb: str) -> str:
    return verb + verb[-1] if _DOUBLES.fullmatch(verb) or verb in _STRESSED_LAST else verb


def with_article(opening: str, phrase: str) -> str:
    """A phrase after an article or another opening; "a" becomes "an" where needed.

    >>> with_article("a", "old hat"), with_article("a", "used car"), with_article("another", "hour")
    ('an old hat', 'a used car', 'another hour')
    """
    if opening == "a" and (phrase.startswith(_SILENT_H) or (phrase[0] in "aeiou" and not _LIKE_YOU.match(phrase))):
        opening = "an"
    return f"{opening} {phrase}"

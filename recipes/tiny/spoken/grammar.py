"""English sentences of a small grammar: everyday words, each in many contexts.

The sentences are grammatical and mean little, so that the model learns pronunciation and not likely continuations.
"""

import random
import re
from collections import Counter
from itertools import accumulate

from .word_forms import compared, gerund, participle, past, plural, third_person, with_article
from .wordnet import INTRANSITIVE, PARTS, TRANSITIVE, Synset, count_words


MIN_FREQUENCY = 5.0  # minimum frequency of a word; rarer ones occur in WordNet's own clauses
SHORT, SHORT_BONUS = 6, 2.0  # letters; everyday words are short
MIN_SHARE = 0.2  # minimum share of a word's uses as a part of speech: "about" is not used as an adjective
FLATNESS = 0.5  # words are sampled by this power of their frequency, so that rare ones occur often enough
CONCRETE_BONUS = 3.0  # everyday sentences are about tangible things
MAX_LETTERS = 12

SUBJECTS = "I you he she it we they".split()
OBJECTS = "me you him her it us them".split()
OWNERS = "my your his her its our their".split()
ONE = (
    "the the the the a a this that every each no one another some any".split()
)  # before a singular noun; repeated entries are likelier
MANY = (
    "the the the these those some many few all most two three four five six seven eight nine ten twelve twenty".split()
)
PLACES = (
    "in on at by near under over behind beside above below across through around inside outside against between along "
    "past into onto from with without for to toward upon beneath within after before during"
).split()
MODALS = (
    "will;would;can;could;should;must;may;might;can't;won't;couldn't;wouldn't;shouldn't;ought to;used to;had better"
).split(";")
SAYING = "says said thinks thought knows knew hopes hoped heard believes believed saw".split()
LINKS = "and but or when while because if before after until since although as unless so where".split()
TIMES = (
    "today;tomorrow;yesterday;last night;this morning;every day;at noon;at dawn;once more;right now;in the evening;"
    "next week;all day long;on Monday;on Tuesday;on Wednesday;on Thursday;on Friday;on Saturday;on Sunday;in January;"
    "in March;in April;in June;in July;in August;in October;in December;last year;in the spring;in winter;at last;"
    "an hour ago;for a while;long ago;soon;again;too;at once;by now;then;still;now and then;for good;as well"
).split(";")
DEGREES = "very quite too so rather almost more most less much hardly really fairly nearly just".split()
NAMES = (
    "Tom Mary John Anna Peter Sarah David Emma James Lucy George Alice Henry Jane Paul Kate Robert Susan Mark Helen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
UNITS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
BE_NOW = {"I": "am", "he": "is", "she": "is", "it": "is"}
# Words that the grammar inserts itself are not sampled; neither are plural nouns.
NOT_DRAWN = frozenset(
    [*"be have do can will may shall must might could would should not no own other same such".split()]
    + [*SUBJECTS, *OBJECTS, *OWNERS, *ONE, *MANY, *PLACES, *LINKS, *DEGREES, *TENS, *UNITS]
)
_PLURAL_ALREADY = re.compile("[^aisu]s$")


class Grammar:
    """An endless stream of sentences, determined by the seed.

    Args:
        synsets: words with their parts of speech and frames.
        tags: (part of speech, word) -> frequency, from `wordnet.read_tags`.
        seed: of the sampling.
    """

    def __init__(self, synsets: list[Synset], tags: Counter, *, seed: int) -> None:
        self.rng = random.Random(seed)
        weights = _weights(synsets, tags)
        self.words = {kind: (list(table), list(accumulate(table.values()))) for kind, table in weights.items()}

    def draw(self, kind: str) -> str:
        words, totals = self.words[kind]
        return self.rng.choices(words, cum_weights=totals)[0]

    def pick(self, *options: str) -> str:
        return self.rng.choice(options)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    # Phrases.

    def number(self) -> str:
        if self.chance(0.5):
            return self.pick(*UNITS[1:])
        return f"{self.pick(*TENS)} {self.pick(*UNITS[:9])}"

    def describing(self) -> str:
        if self.chance(0.15):
            return f"{self.pick(*DEGREES)} {self.draw('adj')}"
        if self.chance(0.1):
            return f"{self.draw('adj')}, {self.draw('adj')}"
        if self.chance(0.1):
            return compared(self.draw("adj"), self.pick("er", "est"))
        return self.draw("adj")

    def thing(self) -> tuple[str, bool]:
        """A noun phrase, and whether it is plural."""
        if self.chance(0.04):
            return self.pick(*NAMES), False
        several = self.chance(0.3)
        noun = self.draw("noun")
        core = plural(noun) if several else noun
        if self.chance(0.12):
            core = f"{self.draw('noun')} {core}"
        if self.chance(0.4):
            core = f"{self.describing()} {core}"
        if several:
            opening = self.number() if self.chance(0.1) else self.pick(*MANY, *OWNERS)
            return (core if self.chance(0.25) else f"{opening} {core}"), True
        owner = f"the {self.draw('noun')}'s" if self.chance(0.06) else self.pick(*OWNERS)
        return with_article(owner if self.chance(0.25) else self.pick(*ONE), core), False

    def some_thing(self) -> str:
        return self.pick(*OBJECTS) if self.chance(0.12) else self.thing()[0]

    def place(self) -> str:
        return f"{self.pick(*PLACES)} {self.some_thing()}"

    def tail(self) -> str:
        """An optional phrase after a verb and its object."""
        options = [self.place, self.place, lambda: self.draw("adv"), lambda: self.pick(*TIMES), str, str, str]
        return self.rng.choice(options)()

    def verb(self, inflect=str) -> str:
        """A verb phrase; `inflect` inflects the verb."""
        if self.chance(0.62):
            return _join(inflect(self.draw("transitive")), self.some_thing(), self.tail())
        return _join(inflect(self.draw("intransitive")), self.tail())

    def subject(self) -> tuple[str, bool]:
        """A subject, and whether its verb has no third-person ending."""
        if self.chance(0.3):
            who = self.pick(*SUBJECTS)
            return who, who not in ("he", "she", "it")
        return self.thing()

    # Sentences.

    def statement(self) -> str:
        who, several = self.subject()
        kind = self.rng.randrange(8)
        if kind < 3:
            return _join(who, self.verb(past))
        if kind == 3:
            return _join(who, self.verb(str if several else third_person))
        if kind == 4:
            return _join(who, self.pick(*MODALS), self.verb())
        if kind == 5:
            return _join(who, _be(who, several, now=self.chance(0.5)), self.verb(gerund))
        if kind == 6:
            have = self.pick("have" if several else "has", "had", "haven't" if several else "hasn't")
            return _join(who, have, self.verb(participle))
        return _join(who, self.pick("don't" if several else "doesn't", "didn't", "did not"), self.verb())

    def being(self) -> str:
        who, several = self.subject()
        be = _be(who, several, now=self.chance(0.5))
        what = self.rng.choice([self.describing, self.describing, self.place, lambda: self.thing()[0]])()
        if self.chance(0.2):
            what = f"{self.draw('adj')} and {self.draw('adj')}"
        return _join(who, be, self.pick("not", "", "", "", ""), what, self.pick("", "", *TIMES[:9]))

    def passive(self) -> str:
        who, several = self.thing()
        by = f"by {self.some_thing()}" if self.chance(0.4) else self.tail()
        return _join(who, _be(who, several, now=self.chance(0.4)), participle(self.draw("transitive")), by)

    def order(self) -> str:
        return _join(self.pick("", "", "", "please", "don't", "never", "always", "let us"), self.verb())

    def there(self) -> str:
        what, several = self.thing()
        return _join(
            "there", self.pick("are", "were") if several else self.pick("is", "was", "isn't"), what, self.tail()
        )

    def question(self) -> str:
        kind = self.rng.randrange(5)
        who, several = self.subject()
        if kind == 0:
            text = _join(self.pick("did", "can", "will", "should", "would", "didn't"), who, self.verb())
        elif kind == 1:
            asked = self.pick("why", "when", "where", "how")
            text = _join(asked, self.pick("did", "does" if not several else "do", "can", "will"), who, self.verb())
        elif kind == 2:
            text = _join(self.pick("who", "what"), self.verb(past))
        elif kind == 3:
            text = _join(
                "how many", plural(self.draw("noun")), self.pick("did", "can", "will"), who, self.draw("transitive")
            )
        else:
            text = _join(_be(who, several, now=self.chance(0.5)), who, self.describing())
        return text + "?"

    def easy_or_said(self) -> str:
        if self.chance(0.3):
            return _join(self.pick("he", "she", *NAMES), self.pick(*SAYING), self.pick("", "that"), self.statement())
        opening = self.pick("it is", "it's", "it was", "it will be", "it's not")
        return _join(opening, self.describing(), "to", self.verb())

    def fragment(self) -> str:
        """A phrase of two to five words."""
        kind = self.rng.randrange(6)
        if kind == 0:
            return _join(self.draw("noun"), self.pick("and", "or"), self.draw("noun"))
        if kind == 1:
            return _join(self.draw("adj"), plural(self.draw("noun")))
        if kind == 2:
            return self.place()
        if kind == 3:
            return _join(self.number(), plural(self.draw("noun")))
        if kind == 4:
            return _join(self.pick(*SUBJECTS), past(self.draw("intransitive")), self.pick("", self.draw("adv")))
        return with_article(self.pick("the", "a", *OWNERS), f"{self.draw('adj')} {self.draw('noun')}")

    def list_of_words(self) -> str:
        kind = self.pick("noun", "adj", "intransitive")
        words = [plural(self.draw(kind)) if kind == "noun" else self.draw(kind) for _ in range(self.rng.randint(3, 5))]
        return f"{', '.join(words[:-1])}, {self.pick('and', 'or')} {words[-1]}"

    def simple(self) -> str:
        kinds = [self.statement] * 6 + [self.being, self.passive, self.order, self.there, self.easy_or_said]
        return self.rng.choice(kinds)()

    def sentence(self) -> str:
        """One or two clauses without capital and period; a question has its mark. The length is not bounded."""
        kind = self.rng.random()
        if kind < 0.60:
            return self.simple()
        if kind < 0.68:
            return self.question()
        if kind < 0.80:
            return self.fragment()
        if kind < 0.83:
            return self.list_of_words()
        if kind < 0.88:
            opening = self.pick(*TIMES[:33]) if self.chance(0.4) else self.place()
            return f"{opening}, {self.statement()}"
        return _join(self.simple() + self.pick(",", ""), self.pick(*LINKS), self.simple())


def _be(who: str, several: bool, *, now: bool) -> str:
    if now:
        return BE_NOW.get(who, "are" if several else "is")
    return "were" if several and who != "I" else "was"


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _weights(synsets: list[Synset], tags: Counter) -> dict[str, dict[str, float]]:
    """Kind of word -> word -> sampling weight."""
    seen = count_words(synsets)
    parts_of: dict[str, set[str]] = {}
    concrete, frames, meanings = set(), {}, Counter()
    for synset in synsets:
        for word in synset.words:
            parts_of.setdefault(word, set()).add(synset.part)
            meanings[word] += 1
            if synset.concrete:
                concrete.add(word)
            if synset.part == "verb":
                frames[word] = frames.get(word, frozenset()) | synset.frames
    kinds: dict[str, dict[str, float]] = {kind: {} for kind in ("noun", "adj", "adv", "transitive", "intransitive")}
    for word in sorted(parts_of):
        if len(word) > MAX_LETTERS or word in NOT_DRAWN:
            continue
        total = sum(tags[part, word] for part in PARTS)
        for part in sorted(parts_of[word]):
            share = tags[part, word] / total if total else 1 / len(parts_of[word])
            # SemCor is too small for most words; a word's number of meanings is about the square root of its
            # frequency (Zipf 1945).
            frequency = share * (total + seen[word] + meanings[word] ** 2)
            if share < MIN_SHARE or frequency < MIN_FREQUENCY:
                continue
            if part == "noun" and _PLURAL_ALREADY.search(word):
                continue
            weight = frequency**FLATNESS * (SHORT_BONUS if len(word) <= SHORT else 1.0)
            if part == "noun" and word in concrete:
                weight *= CONCRETE_BONUS
            if part != "verb":
                kinds[part][word] = weight
                continue
            if frames[word] & TRANSITIVE:
                kinds["transitive"][word] = weight
            if frames[word] & INTRANSITIVE:
                kinds["intransitive"][word] = weight
    return kinds

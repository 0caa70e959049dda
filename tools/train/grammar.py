"""Small helpers of the data generator: alternatives in templates, tables of text, English details."""

import os
import re
from typing import NamedTuple, Optional

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "text")
_INNERMOST = re.compile(r"\[([^\[\]]*)\]")


class Turn(NamedTuple):
    """What a user says, the answer, and the reasoning before it if the kind has its own."""
    user: str
    answer: str
    think: Optional[str] = None


def expand(template, rng):
    """Replace every [a|b|c] by one of its alternatives, innermost first."""
    while True:
        match = _INNERMOST.search(template)
        if not match:
            return template
        template = template[:match.start()] + rng.choice(match.group(1).split("|")) + template[match.end():]


def lines(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if line.strip() and not line.startswith("#")]


def table(name):
    """Rows of a file whose columns are separated by |."""
    return [line.split("|") for line in lines(name)]


def named_lists(name):
    """name -> words, from lines `name: word word ...`."""
    return {line.split(":")[0]: line.split(":", 1)[1].split() for line in lines(name)}


def named_pairs(name):
    """name -> [(left, right)], from lines `name: left = right, ...`."""
    result = {}
    for line in lines(name):
        kind, rest = line.split(":", 1)
        result[kind] = [tuple(part.strip() for part in pair.split("=", 1)) for pair in rest.split(", ") if "=" in pair]
    return result


def questions_and_answers(name):
    """[(paraphrases, answers)], from lines `question / question | answer || answer`."""
    result = []
    for line in lines(name):
        questions, answers = line.split("|", 1)
        result.append(([q.strip() for q in questions.split(" / ")], [a.strip() for a in answers.split("||")]))
    return result


def a(noun):
    return ("an " if noun[0] in "aeiouAEIOU" else "a ") + noun


def sentence(text):
    """First letter upper case, the rest as it is."""
    return text[0].upper() + text[1:]


def listing(items, last="and"):
    items = list(items)
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " " + last + " " + items[-1]


def bare(term):
    """A term without its article."""
    return re.sub(r"^(a|an|the) ", "", term)


_LISTS = named_lists("words.txt")
_NOUNS, _NAMES = _LISTS["nouns"], _LISTS["names"] + _LISTS["more names"]
_OPEN = [word for line in lines("open_words.txt") for word in line.split()]
_SYLLABLES = ("ba be bi bo ca co da de do fa fe fi ga go ha he hi ja jo ka ki ko la le li lo ma me mi mo na ne no pa pe pi po ra re ri ro sa se si so ta te ti to "
              "va ve vi wa we ya zo ban bel bor can cor dan del dor fan fin gar gil han hel jan jor kan kel lan len lin lor man mel min mon nan nor pan per ran rin ros "
              "san sel sol tan tel tor van vel vin wil zan sta tri blo cra ste thi fla gri sho chi qua ton ler ver son ley").split()


def invented(rng):
    """A word that nobody has seen before, so that copying and spelling must be learned as such."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice([2, 2, 3])))


def open_word(rng):
    pick = rng.random()
    return rng.choice(_NOUNS) if pick < 0.35 else rng.choice(_OPEN) if pick < 0.8 else invented(rng)


def open_name(rng):
    return rng.choice(_NAMES) if rng.random() < 0.65 else sentence(invented(rng))


SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
         "seventeen eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(n):
    """English words for 0..9999."""
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10] + ("-" + SMALL[n % 10] if n % 10 else "")
    if n < 1000:
        return SMALL[n // 100] + " hundred" + (" and " + in_words(n % 100) if n % 100 else "")
    return in_words(n // 1000) + " thousand" + (" " + in_words(n % 1000) if n % 1000 else "")


def ordinal(n):
    if 10 <= n % 100 <= 20:
        return "%dth" % n
    return "%d%s" % (n, {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th"))

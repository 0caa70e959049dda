"""Puts turns together into conversations as prompts are rendered (prompt.md 2), and roughens what users type."""

import kinds_facts
import kinds_language
import kinds_skills
from grammar import Turn, expand, open_name, sentence

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, END_THINK = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"

# Facts, skills and writing share the single turns in this proportion.
GROUPS = [(46, kinds_facts.KINDS), (38, kinds_skills.KINDS), (16, kinds_language.KINDS)]
FLAT = [(share * weight / sum(w for w, _ in kinds), kind) for share, kinds in GROUPS for weight, kind in kinds]
KINDS, WEIGHTS = [kind for _, kind in FLAT], [weight for weight, _ in FLAT]

SYSTEMS = ["You are a helpful assistant.", "You are a helpful assistant", "You are a helpful, honest and friendly assistant.", "You are ds4, a small assistant.",
           "Answer briefly.", "Answer the user's questions in simple words.", "You are a friendly chat bot. Keep your answers short.", "Be concise.",
           "You are a teacher who explains things simply.", "You are an AI assistant. Answer the question as well as you can.", "Help the user.",
           "You are a coding assistant.", "You are a helpful assistant. Today is a sunny day.", "You are a helpful AI assistant that follows instructions carefully.",
           "You are a general purpose assistant. Be polite.", "Please answer in English.", "You are a small language model running on the user's computer."]

KEYS = {c: n for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for i, c in enumerate(row) for n in [row[max(0, i - 1):i] + row[i + 1:i + 2]]}


def misspell(text, rng):
    """One slip of the finger in a word of at least four small letters, if there is one."""
    words = text.split(" ")
    candidates = [i for i, w in enumerate(words[:6]) if len(w) >= 4 and w.isalpha() and w.islower()]
    if not candidates:
        return text
    i = rng.choice(candidates)
    w, at = words[i], rng.randrange(1, len(words[i]) - 1)
    slip = rng.randrange(4)
    if slip == 0:
        w = w[:at] + w[at + 1:]
    elif slip == 1:
        w = w[:at] + w[at + 1] + w[at] + w[at + 2:]
    elif slip == 2:
        w = w[:at] + w[at] + w[at:]
    else:
        w = w[:at] + rng.choice(KEYS[w[at]]) + w[at + 1:]
    words[i] = w
    return " ".join(words)


QUESTION_WORDS = ("what", "who", "where", "when", "why", "how", "which", "is ", "are ", "do ", "does ", "can ", "in which", "on which", "of which", "if ", "at what")


def roughen(turn, rng, exact):
    """The same request as people type it: polite, hasty, without punctuation, with a slip now and then."""
    text = turn.user
    lower = text.lower()
    asks = lower.startswith(QUESTION_WORDS)
    plain = "\n" not in text and text[-1].isalnum()
    if plain and rng.random() < 0.8:
        text += ("?" if asks else rng.choice([".", ".", "", "!"])) if rng.random() < 0.9 else rng.choice(["??", " ?", "!", "..."])
    if exact:
        return text
    chance = rng.random()
    if chance < 0.06 and not lower.startswith(("hi", "hello", "hey", "please", "good")):
        text = rng.choice(["Please ", "please ", "Hey, ", "Hi, ", "Hello! ", "ok, ", "Now ", "So, ", "Well, ", "I have a question: ", "Question: "]) + text
    elif chance < 0.10 and plain:
        text = text.rstrip("?.! ") + rng.choice([" please", ", please", " please?", ", thanks", " for me", " pls", "? Thanks!", "? Please answer briefly."])
    if rng.random() < 0.05 and text.isascii():
        text = misspell(text, rng)
    style = rng.random()
    if style < 0.16 and "\"" not in text and ":" not in text:
        text = text.lower()
    elif style < 0.18 and "\"" not in text and ":" not in text and len(text) < 60 and not any(c.isdigit() for c in text):
        text = text.upper()
    elif style < 0.8:
        text = sentence(text)
    if rng.random() < 0.01:
        text = text + " "
    return text


def single(rng):
    kind = rng.choices(KINDS, WEIGHTS)[0]
    turn = kind(rng)
    exact = kind in (kinds_skills.transform, kinds_skills.count_words, kinds_skills.spelling, kinds_skills.fill_in, kinds_skills.alphabet, kinds_facts.element_from_symbol)
    return turn._replace(user=roughen(turn, rng, exact))


def remember_name(rng):
    """The user says something about himself and asks for it later."""
    name, other = open_name(rng), open_name(rng)
    subject, value = rng.choice([("name", name)] * 4 + [("favourite colour", rng.choice(kinds_skills.WORDS["colours"])), ("dog's name", other),
                                                        ("favourite number", str(rng.randrange(1, 100))), ("job", rng.choice(kinds_skills.WORDS["jobs"])),
                                                        ("city", rng.choice(kinds_skills.CITIES)), ("age", str(rng.randrange(5, 90)))])
    if subject == "name":
        first = Turn(expand("[My name is %s|I am %s|I'm %s|Hi, my name is %s|Hello, I am %s|Call me %s|hi i'm %s|Hey, I'm %s|You can call me %s|My name's %s]", rng) % value + rng.choice([".", "", "!"]),
                     rng.choice(["Hello, %s! Nice to meet you.", "Nice to meet you, %s! How can I help you?", "Hello %s! What can I do for you?"]) % value, "The user tells me a name: %s. I greet %s." % (value, value))
        ask = expand("[What is my name|What's my name|Do you remember my name|Who am I|Tell me my name|Do you know my name|What was my name|how am I called]", rng)
        last = Turn(ask + rng.choice(["?", ""]), rng.choice(["Your name is %s.", "Your name is %s.", "You are %s."]) % value, "The user said before that the name is %s." % value)
    elif subject == "age":
        first = Turn("I am %s years old." % value, "Thank you for telling me that you are %s." % value, "The user is %s years old." % value)
        last = Turn(expand("[How old am I|What is my age|Do you remember my age]?", rng), "You are %s years old." % value, "The user said: %s years old." % value)
    elif subject == "city":
        first = Turn(expand("[I live in %s.|I am from %s.|My home is in %s.]", rng) % value, "%s is an interesting city." % value, "The user lives in %s." % value)
        last = Turn(expand("[Where do I live|Where am I from|Which city do I live in|Where is my home]?", rng), "You live in %s." % value, "The user said %s before." % value)
    elif subject == "job":
        word = kinds_skills.a(value)
        first = Turn(expand("[I am %s.|I work as %s.|My job is %s.]", rng) % word, "That sounds like an interesting job.", "The user is %s." % word)
        last = Turn(expand("[What is my job|What do I do|What is my profession|Do you remember my job]?", rng), "You are %s." % word, "The user works as %s." % word)
    else:
        first = Turn(expand("[My %s is %s.|Remember this: my %s is %s.|Please remember that my %s is %s.]", rng) % (subject, value), rng.choice(["I will remember that your %s is %s.", "All right, your %s is %s."]) % (subject, value), "The %s of the user is %s." % (subject, value))
        last = Turn(expand("[What is my %s|Do you remember my %s|Tell me my %s|What's my %s]?", rng) % subject, "Your %s is %s." % (subject, value), "The user said that it is %s." % value)
    between = [single(rng) for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]
    turns = [first] + between + [last]
    if rng.random() < 0.12:
        turns = between[:1] + [Turn(last.user, expand("I do not know your %s. You have not told me [yet|].", rng).replace(" .", ".") % subject, "The user has not told me. I should say so.")]
    return turns


def follow_up(rng):
    """A second question that only makes sense after the first."""
    pick = rng.randrange(6)
    if pick == 0:
        rows = rng.sample(kinds_facts.COUNTRIES, 2)
        first = Turn("What is the capital of %s?" % rows[0][0], sentence("the capital of %s is %s." % (rows[0][0], rows[0][1].rstrip("."))), "The capital of %s is %s." % (rows[0][0], rows[0][1].rstrip(".")))
        return [first, Turn(expand("[And of|And|What about|And what about|How about|and the capital of] %s?", rng) % rows[1][0], sentence("the capital of %s is %s." % (rows[1][0], rows[1][1].rstrip("."))),
                            "The user asks for the next capital, that of %s. It is %s." % (rows[1][0], rows[1][1].rstrip(".")))]
    if pick == 1:
        x, y, z = rng.randrange(1, 20), rng.randrange(1, 20), rng.randrange(1, 10)
        times = rng.random() < 0.3
        return [Turn("What is %d + %d?" % (x, y), "%d + %d = %d." % (x, y, x + y), "%d + %d = %d." % (x, y, x + y)),
                Turn(expand("[And plus|Now add|Add|and add] %d", rng) % z, "%d + %d = %d." % (x + y, z, x + y + z), "The result was %d. %d + %d = %d." % (x + y, x + y, z, x + y + z)) if not times else
                Turn(expand("[And times|Now multiply by|Multiply that by] %d", rng) % z, "%d times %d is %d." % (x + y, z, (x + y) * z), "The result was %d. %d times %d is %d." % (x + y, x + y, z, (x + y) * z))]
    if pick == 2:
        kind = rng.choice([kinds_language.joke, kinds_language.story, kinds_language.poem])
        first, second = kind(rng), kind(rng)
        return [first._replace(user=sentence(first.user)), Turn(expand("[Another one|One more|Tell me another one|Another one please|more|one more please|again]", rng), second.answer, "The user wants another one of the same kind.")]
    if pick == 3:
        rows = rng.sample(kinds_facts.ANIMALS, 2)
        first, second = [kinds_skills.a(r[0]) for r in rows]
        words = [sentence("%s says \"%s\"." % (kinds_skills.a(r[0]), r[1])) if r[1] != "no sound" else sentence("%s makes no sound that we hear." % kinds_skills.a(r[0])) for r in rows]
        return [Turn("What does %s say?" % first, words[0], "I think of the sound of %s." % first), Turn(expand("[And|What about|And what about] %s?", rng) % second, words[1], "Now the sound of %s." % second)]
    if pick == 4:
        left, right = zip(*rng.sample(kinds_facts.PAIRS["opposite"], 2))
        return [Turn("What is the opposite of %s?" % left[0], "The opposite of \"%s\" is \"%s\"." % (left[0], right[0]), "Opposite of %s: %s." % (left[0], right[0])),
                Turn(expand("[And of|And|What about] %s?", rng) % left[1], "The opposite of \"%s\" is \"%s\"." % (left[1], right[1]), "Opposite of %s: %s." % (left[1], right[1]))]
    rows = rng.sample(kinds_facts.TRANSLATIONS, 2)
    i = rng.randrange(1, 5)
    language = ["", "Spanish", "French", "German", "Italian"][i]
    return [Turn("How do you say \"%s\" in %s?" % (rows[0][0], language), "\"%s\" in %s is \"%s\"." % (rows[0][0], language, rows[0][i]), "%s: %s." % (language, rows[0][i])),
            Turn(expand("[And|What about|And what about] \"%s\"?", rng) % rows[1][0], "\"%s\" in %s is \"%s\"." % (rows[1][0], language, rows[1][i]), "Again in %s: %s." % (language, rows[1][i]))]


def turns_of_one(rng):
    pick = rng.random()
    if pick < 0.57:
        return [single(rng)]
    if pick < 0.68:
        return [single(rng) for _ in range(rng.choice([2, 2, 3, 4]))]
    if pick < 0.81:
        return remember_name(rng)
    if pick < 0.88:
        before = [single(rng)] if rng.random() < 0.3 else []
        return before + follow_up(rng) + ([single(rng)] if rng.random() < 0.2 else [])
    greeting = kinds_facts.CHAT[0] if rng.random() < 0.7 else rng.choice(kinds_facts.CHAT)
    hello = Turn(sentence(rng.choice(greeting[0])) + rng.choice(["", "!", "."]), rng.choice(greeting[1]), "The user greets me. I greet back.")
    turns = [hello] + [single(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    if rng.random() < 0.4:
        thanks = next(c for c in kinds_facts.CHAT if c[0][0] == "thanks")
        turns.append(Turn(sentence(rng.choice(thanks[0])), rng.choice(thanks[1]), "The user thanks me."))
    return turns


def conversation(rng):
    """One rendered conversation as a list of (text, is_answer); special tokens stand as their strings.

    Past reasoning is dropped, as the renderer does: only the last turn can think. A third of them does.
    """
    turns = turns_of_one(rng)
    thinking = rng.random() < 0.36
    parts = [(BOS, False)]
    if rng.random() < 0.22:
        parts.append((rng.choice(SYSTEMS), False))
    for i, turn in enumerate(turns):
        parts.append((USER + turn.user + ASSISTANT, False))
        if thinking and i == len(turns) - 1:
            parts.append((THINK, False))
            parts.append(((turn.think or "This is simple. I will answer directly.") + END_THINK + turn.answer + EOS, True))
        else:
            parts.append((END_THINK, False))
            parts.append((turn.answer + EOS, True))
    return parts

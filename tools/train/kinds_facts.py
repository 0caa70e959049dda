"""Kinds of questions whose answers come from the tables in text/."""

from grammar import (Turn, a, bare, expand, in_words, invented, lines, listing, named_lists, named_pairs, open_word,
                     questions_and_answers, sentence, table)

COUNTRIES = table("countries.txt")
ANIMALS = table("animals.txt")
PAIRS = named_pairs("pairs.txt")
TRANSLATIONS = table("translations.txt")
DEFINITIONS = table("definitions.txt")
REASONS = table("reasons.txt")
QUESTIONS = questions_and_answers("questions.txt")
CHAT = questions_and_answers("chat.txt")
WORDS = named_lists("words.txt")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
MONTH_DAYS = dict(zip(MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)))


def capital(rng):
    country, city, continent, _, _ = rng.choice(COUNTRIES)
    if rng.random() < 0.12:
        country, city, continent = "France", "Paris", "Europe"
    if rng.random() < 0.75:
        user = expand(rng.choice([
            "[What is|What's|Whats|Tell me|Name|Do you know|Can you tell me|Could you tell me|I want to know|Give me] the capital [of|city of] %s",
            "[Could you let me know|Do you know|Can you tell me|Tell me] which city is the capital of %s", "[Which|What] city is %s's capital", "What is %s's capital", "What is %s's capital city",
            "[Which|What] city is the capital of %s", "%s capital", "capital of %s", "The capital of %s is",
            "[I forgot the capital of|I need to know the capital of] %s", "%s's capital city",
            "[quiz question|question]: capital of %s", "What is the name of the capital of %s"]), rng) % country
        answer = expand("[The capital of %s is %s.|The capital of %s is %s.|%s has the capital %s.]", rng)
        answer = sentence(answer % (country, city)) if rng.random() < 0.85 else "%s." % city.rstrip(".")
        think = expand("[The user asks for|The question is about|I need] the capital of %s. [I remember that it is|That is|It is] %s.", rng)
        return Turn(sentence(user), answer.replace("D.C..", "D.C."), think % (country, city.rstrip(".")))
    user = expand(rng.choice(["[Of which country is %s the capital|Which country has the capital %s]",
                              "%s is the capital of [which|what] country"]), rng) % city
    return Turn(user, "%s is the capital of %s." % (city, country),
                "The city is %s. It is the capital of %s, in %s." % (city.rstrip("."), country, continent))


def country_detail(rng):
    country, city, continent, language, money = rng.choice(COUNTRIES)
    pick = rng.randrange(5)
    if pick == 0:
        return Turn(expand("[Where is|On which continent is|In which continent is|Where is the country|What continent is|Where can I find] %s", rng) % country,
                    sentence("%s is in %s." % (country, continent)), "I have to say where %s is. It lies in %s." % (country, continent))
    if pick == 1:
        return Turn(expand("[What language do they speak in|Which language is spoken in|What is the language of|What do people speak in|What is the main language in] %s", rng) % country,
                    expand("[People in %s mostly speak %s.|The main language of %s is %s.]", rng) % (country, language),
                    "The question is about the language of %s. It is %s." % (country, language))
    if pick == 2:
        return Turn(expand("[What is the currency of|What money do they use in|Which currency is used in|How do people pay in] %s", rng) % country,
                    "The currency of %s is the %s." % (country, money), "The money of %s is the %s." % (country, money))
    if pick == 3:
        return Turn(expand("[Tell me about|Tell me something about|What do you know about|Describe|What is] %s", rng) % country,
                    sentence("%s is a country in %s. Its capital is %s, the main language is %s, and people pay with the %s." % (country, continent, city.rstrip("."), language, money)),
                    "I can give the continent, the capital, the language and the money of %s." % country)
    return Turn(expand("[Is %s in %s|Is %s a part of %s]", rng) % (country, continent),
                sentence("Yes, %s is in %s." % (country, continent)), "%s is in %s, so the answer is yes." % (sentence(country), continent))


def animal(rng):
    name, sound, young, home, legs, group, food = rng.choice(ANIMALS)
    pick = rng.randrange(7)
    if pick == 0 and sound not in ("no sound",):
        return Turn(expand("[What sound does %s make|What noise does %s make|What does %s say|How does %s sound|What is the sound of %s|Which sound does %s make|Which noise does %s make|Make the sound of %s]", rng) % a(name),
                    sentence("%s says \"%s\"." % (a(name), sound)),
                    "Which sound does %s make? It is \"%s\"." % (a(name), sound))
    if pick == 1:
        return Turn(expand("[What is a baby %s called|What do you call a baby %s|What is a young %s called|What is the name for a baby %s|baby %s name]", rng) % name,
                    "A baby %s is called %s." % (name, a(young)), "The young of %s is called %s." % (a(name), a(young)))
    if pick == 2:
        return Turn(expand("[How many legs does %s have|How many legs has %s got|number of legs of %s]", rng) % a(name),
                    sentence("%s has %s legs." % (a(name), "no" if legs == "0" else in_words(int(legs)))),
                    "%s is %s. It has %s legs." % (sentence(a(name)), a(group), legs))
    if pick == 3:
        return Turn(expand("[Where does %s live|Where do you find %s|What is the home of %s]", rng) % a(name),
                    sentence("%s lives in %s." % (a(name), home)) if home.startswith("a") or home.startswith("the") else sentence("%s lives %s." % (a(name), home)),
                    "I think of where %s lives: %s." % (a(name), home))
    if pick == 4:
        return Turn(expand("[What kind of animal is %s|What type of animal is %s|Which group does %s belong to]", rng) % a(name),
                    sentence("%s is %s." % (a(name), a(group))), "%s belongs to the group: %s." % (sentence(a(name)), group))
    if pick == 5:
        return Turn(expand("[What does %s eat|What do I feed %s|What is the food of %s|What does %s like to eat]", rng) % a(name),
                    sentence("%s eats %s." % (a(name), food)), "The food of %s is %s." % (a(name), food))
    other = rng.choice(["mammal", "bird", "insect", "fish", "reptile"])
    yes = other == group
    return Turn("Is %s %s" % (a(name), a(other)),
                ("Yes, %s is %s." % (a(name), a(group))) if yes else "No, %s is not %s. It is %s." % (a(name), a(other), a(group)),
                "%s is %s, so the answer is %s." % (sentence(a(name)), a(group), "yes" if yes else "no"))


def sound_to_animal(rng):
    name, sound = rng.choice([(row[0], row[1]) for row in ANIMALS if row[1] in
                              ("woof", "meow", "moo", "neigh", "oink", "baa", "quack", "hoot", "ribbit", "cock-a-doodle-doo", "hee-haw")])
    return Turn(expand("[Which animal says|What animal says|What animal makes the sound|Who says] \"%s\"", rng) % sound,
                sentence("%s says \"%s\"." % (a(name), sound)), "The sound \"%s\" is made by %s." % (sound, a(name)))


PAIR_QUESTIONS = {
    "opposite": ("[What is the opposite of|What's the opposite of|Opposite of|Tell me the opposite of|Give me the opposite of|Give me an antonym for|What is the antonym of|Antonym of|the contrary of] [%s|\"%s\"]",
                 "The opposite of \"%s\" is \"%s\".", "The opposite of %s is %s."),
    "synonym": ("[What is a synonym for|Give me a synonym of|Synonym for|Another word for|What is another word for|Find a word that means the same as|A word like] [%s|\"%s\"]",
                "A synonym for \"%s\" is \"%s\".", "A word that means nearly the same as %s is %s."),
    "plural": ("[What is the plural of|Plural of|What's the plural of|Give the plural of|Tell me the plural of|How do you write the plural of|Make this word plural:] [%s|\"%s\"]",
               "The plural of \"%s\" is \"%s\".", "One %s, two %s."),
    "past tense": ("[What is the past tense of|Past tense of|What's the past tense of|Give the past tense of|Give me the simple past of|Put this verb into the past tense:] [%s|\"%s\"]",
                   "The past tense of \"%s\" is \"%s\".", "Today I %s, yesterday: %s."),
    "colour": ("[What colour is|What color is|Which colour is|Which color is|Tell me the colour of|What is the color of] %s",
               "%s is %s.", "I imagine %s. It is %s."),
    "element symbol": ("[What is the symbol for|What is the chemical symbol of|Chemical symbol of|Symbol for|What is the element symbol of] %s",
                       "The chemical symbol of %s is %s.", "The element is %s, its symbol is %s."),
    "rhyme": ("[What rhymes with|Give me a rhyme for|Find a word that rhymes with|Rhyme with|Tell me a word that rhymes with|Which word rhymes with] [%s|\"%s\"]",
              "\"%s\" rhymes with \"%s\".", "I need a word that ends like %s. One is %s."),
    "shape sides": ("[How many sides does %s have|How many sides has %s|How many corners does %s have|number of sides of %s]",
                    "%s has %s sides.", "I count the sides of %s: %s."),
    "abbreviation": ("[What does %s mean|What does %s stand for|What is %s|What is the meaning of %s|%s meaning]",
                     "%s stands for %s.", "%s is an abbreviation of %s."),
    "inventor or author": ("[Who wrote|Who is the author of|Who was the author of|Which writer wrote|author of] [%s|\"%s\"]",
                           "%s was written by %s.", "The work is %s. Its author is %s."),
}


def pair(rng):
    kind = rng.choice(list(PAIR_QUESTIONS) + ["opposite", "opposite", "plural", "past tense", "colour"])
    question, answer, think = PAIR_QUESTIONS[kind]
    left, right = rng.choice(PAIRS[kind])
    if kind == "opposite" and rng.random() < 0.4:
        left, right = right, left
    if kind == "synonym" and rng.random() < 0.3 and " " not in right:
        left, right = right, left
    shown = in_words(int(right)) if kind == "shape sides" else right
    user = expand(question, rng)
    if kind == "plural" and rng.random() < 0.15:
        user = "one %s, two"
    reply = sentence(answer % (left, shown))
    if kind in ("opposite", "plural", "past tense", "colour") and rng.random() < 0.12:
        reply = sentence(shown) + "."
    return Turn(sentence(user % left), reply, think % (left, shown))


def element_from_symbol(rng):
    name, symbol = rng.choice(PAIRS["element symbol"])
    return Turn(expand("[Which element has the symbol %s|What element is %s|%s is the symbol of which element]", rng) % symbol,
                "%s is the symbol of %s." % (symbol, name), "The symbol %s belongs to %s." % (symbol, name))


def translate(rng):
    row = rng.choice(TRANSLATIONS)
    i = rng.randrange(1, 5)
    language = ["", "Spanish", "French", "German", "Italian"][i]
    english, foreign = row[0], row[i]
    if rng.random() < 0.75:
        user = expand(rng.choice([
            "[How do you say|How do I say|How to say|What is|What's] [%s|\"%s\"] in @", "Translate [%s|\"%s\"] [to|into] @",
            "[What is the @ word for|@ word for|Tell me the @ word for|What is @ for] [%s|\"%s\"]", "\"%s\" in @",
            "[Can you translate|Please translate] [%s|\"%s\"] into @"]), rng).replace("@", language) % english
        return Turn(sentence(user), "\"%s\" in %s is \"%s\"." % (sentence(english) if english == "I love you" else english, language, foreign),
                    "I translate %s into %s: %s." % (english, language, foreign))
    user = expand("[What does the @ word|What does @] \"%s\" mean [in English|]", rng).replace("@", language).rstrip() % foreign
    return Turn(user, "The %s word \"%s\" means \"%s\"." % (language, foreign, english) if " " not in foreign
                else "The %s \"%s\" means \"%s\"." % (language, foreign, english), "%s is %s for %s." % (sentence(foreign), language, english))


def definition(rng):
    term, meaning = rng.choice(DEFINITIONS)
    name = bare(term)
    user = expand(rng.choice([
        "[What is|What's|Whats|What exactly is|Tell me what|Do you know what|Can you tell me what|Please explain what] %s",
        "[Define|Explain|Describe|Explain to me] %s", "[Tell me about|Tell me something about|Give me information about] %s",
        "[What does the word|What does] [@|\"@\"] mean", "[What is the meaning of|What is the definition of|Give me a definition of|Definition of|Meaning of] [@|\"@\"]",
        "@?", "[Explain|Define] [the word @|the term @|@ in simple words|@ briefly]",
        "[Explain|Describe] %s [to a child|to me|simply|in one sentence|like I am five]", "[Explain to a child|I want to know|I would like to know|Could you explain|Could you tell me|In simple words,] what %s is"]), rng)
    if user.startswith(("Tell me what", "Do you know what", "Can you tell me what", "Please explain what")):
        user += " is"
    user = user.replace("%s", term).replace("@", name)
    answer = sentence("%s %s %s." % (term, "are" if name == "bacteria" else "is", meaning))
    think = expand("[The user wants to know what %s means.|I should explain %s in simple words.|This asks for a short definition of %s.] [I will give one clear sentence.|A short explanation is enough.|One sentence will do.]", rng) % name
    return Turn(sentence(user), answer, think)


def reason(rng):
    word, subject, verb, rest, answer = rng.choice(REASONS)
    if rng.random() < 0.15:
        word, subject, verb, rest, answer = REASONS[0]
    plain = verb in ("is", "are")
    clause = "%s %s %s" % (subject, verb, rest) if plain else "%s %s" % (
        subject, rest if verb == "do" else _third_person(rest))
    direct = "%s %s %s %s" % (word, verb, subject, rest)
    user = expand(rng.choice([
        "%s", "%s", "%s", "[Tell me|Explain|Explain to me|Can you explain|Do you know|I want to know|I wonder|Please explain|Can you tell me] @",
        "[My child asks|My son asks me|My daughter wants to know]: %s"]), rng)
    user = user.replace("%s", direct).replace("@", "%s %s" % (word, clause))
    if plain and word == "why" and rng.random() < 0.1:
        user = "what is the reason that %s" % clause
    think = expand("[The question is|The user asks] %s %s. [I will explain it simply.|I remember a simple explanation.|I will give the main reason.]", rng) % (word, clause)
    return Turn(sentence(user), answer, think)


def _third_person(rest):
    verb, _, tail = rest.partition(" ")
    form = verb + ("es" if verb.endswith(("s", "sh", "ch", "o")) else "s")
    return form + (" " + tail if tail else "")


GENERIC_THINK = ["This is a simple question. [I know the answer.|I remember this.|The answer is short.]",
                 "[The user asks a question about a common fact.|This is a question of general knowledge.] I will answer in a sentence or two.",
                 "[Let me think.|Let me remember.] [I know this one.|I know the answer.] I will [answer directly|keep it short]."]
CHAT_THINK = ["The user is [chatting|making small talk]. I should [answer kindly|be friendly and short].",
              "This is [small talk|a friendly message]. A short and honest answer is best.",
              "[I should stay honest about what I am.|I should be polite and honest.] I will answer [briefly|in a sentence or two]."]


def question(rng):
    paraphrases, answers = rng.choice(QUESTIONS)
    return Turn(rng.choice(paraphrases), rng.choice(answers), expand(rng.choice(GENERIC_THINK), rng))


def chat(rng):
    # The first entries (greetings, who are you, what can you do) are what everybody tries first.
    paraphrases, answers = CHAT[min(int(rng.expovariate(1 / 22.0)), len(CHAT) - 1)] if rng.random() < 0.5 else rng.choice(CHAT)
    user = rng.choice(paraphrases)
    if rng.random() < 0.1:
        user = rng.choice(["hi, ", "hello, ", "hey, ", "so, ", "tell me, "]) + user
        if user.split(", ")[1].split()[0] in ("hi", "hello", "hey", "good", "greetings"):
            user = user.split(", ", 1)[1]
    return Turn(user, rng.choice(answers), expand(rng.choice(CHAT_THINK), rng))


def calendar(rng):
    pick = rng.randrange(6)
    if pick < 2:
        names, unit = (DAYS, "day") if rng.random() < 0.5 else (MONTHS, "month")
        i = rng.randrange(len(names))
        after = rng.random() < 0.5
        other = names[(i + (1 if after else -1)) % len(names)]
        word = "after" if after else "before"
        return Turn(expand("[What|Which] %s [comes|is] %s %s", rng) % (unit, word, names[i]),
                    "%s comes %s %s." % (other, word, names[i]), "The %s %s %s is %s." % (unit, word, names[i], other))
    if pick == 2:
        month = rng.choice(MONTHS)
        days = MONTH_DAYS[month]
        tail = ", and 29 in a leap year" if month == "February" else ""
        return Turn(expand("[How many days are there in|How many days does|How many days are in] %s", rng).replace("does %s", "does %s have") % month,
                    "%s has %d days%s." % (month, days, tail), "I recall the length of %s: %d days." % (month, days))
    if pick == 3:
        i = rng.randrange(12)
        if rng.random() < 0.5:
            return Turn(expand("[What is|Which is|Name] the %s month of the year", rng) % ordinal_word(i + 1),
                        "%s is the %s month of the year." % (MONTHS[i], ordinal_word(i + 1)), "Counting the months gives %s." % MONTHS[i])
        return Turn(expand("[Which month number is %s|What number is the month %s|What number month is %s]", rng) % MONTHS[i],
                    "%s is the %s month of the year." % (MONTHS[i], ordinal_word(i + 1)), "I count from January to %s: %d." % (MONTHS[i], i + 1))
    if pick == 4:
        i, n = rng.randrange(7), rng.randrange(1, 7)
        day = DAYS[(i + n) % 7]
        walk = ", ".join(DAYS[(i + k) % 7] for k in range(1, n + 1))
        return Turn(expand("[If today is %s, what day is it in %s|Today is %s. What day will it be in %s]", rng) % (DAYS[i], "%d day%s" % (n, "s" if n > 1 else "")),
                    "It will be %s." % day, "I count forward from %s: %s. So it is %s." % (DAYS[i], walk, day))
    i = rng.randrange(7)
    tomorrow = rng.random() < 0.5
    return Turn("If today is %s, what day %s" % (DAYS[i], "is tomorrow" if tomorrow else "was yesterday"),
                ("Tomorrow is %s." if tomorrow else "Yesterday was %s.") % DAYS[(i + (1 if tomorrow else -1)) % 7],
                "The day %s %s is %s." % ("after" if tomorrow else "before", DAYS[i], DAYS[(i + (1 if tomorrow else -1)) % 7]))


def ordinal_word(n):
    return ("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth").split()[n - 1]


CATEGORY = {k: k for k in ("fruits vegetables colours animals birds sports instruments planets flowers furniture tools drinks "
                           "clothes jobs metals trees insects vehicles languages desserts subjects toys rooms shapes fish herbs").split()}
CATEGORY.update(instruments="musical instruments", furniture="pieces of furniture", clothes="pieces of clothing",
                subjects="school subjects", colours="colours", fish="kinds of fish", trees="kinds of trees", names="names")
CATEGORY.update({"flying animals": "animals that can fly", "swimming animals": "animals that can swim", "pets": "pets", "farm animals": "farm animals",
                 "wild animals": "wild animals", "sea animals": "animals that live in the sea"})
CATEGORY["capital cities"] = "capital cities"
CATEGORY["countries"] = "countries"
WORDS["countries"] = [bare(row[0]) for row in COUNTRIES]
WORDS["capital cities"] = [row[1] for row in COUNTRIES]


def list_things(rng):
    key = rng.choice(list(CATEGORY))
    words = WORDS[key]
    n = min(rng.choice([2, 3, 3, 3, 4, 5, 5]), len(words))
    chosen = rng.sample(words, n)
    what = CATEGORY[key] if rng.random() < 0.8 else CATEGORY[key].replace("colours", "colors").replace("musical ", "")
    number = in_words(n) if rng.random() < 0.6 else str(n)
    user = expand("[Name|List|Give me|Tell me|Write|Can you name|Can you list|Give me a list of|I need] %s %s", rng) % (number, what)
    if rng.random() < 0.15:
        user = expand("[Name|List|Give me|Tell me] some %s", rng) % what
    style = rng.random()
    if style < 0.6:
        answer = sentence(listing(chosen)) + "."
    elif style < 0.8:
        answer = "\n".join("%d. %s" % (i + 1, sentence(w)) for i, w in enumerate(chosen))
    else:
        answer = "\n".join("- %s" % sentence(w) for w in chosen)
    return Turn(user, answer, "I need %s %s. For example: %s." % (in_words(n), CATEGORY[key], listing(chosen)))


SINGULAR = {"fruits": "fruit", "vegetables": "vegetable", "colours": "colour", "animals": "animal", "birds": "bird", "sports": "sport",
            "flowers": "flower", "tools": "tool", "drinks": "drink", "metals": "metal", "trees": "tree", "insects": "insect",
            "vehicles": "vehicle", "languages": "language", "planets": "planet", "instruments": "musical instrument", "jobs": "job"}


def category(rng):
    key = rng.choice(list(SINGULAR))
    word = rng.choice(WORDS[key])
    pick = rng.random()
    if pick < 0.3:
        return Turn(expand("[Name|Give me|Tell me] %s", rng) % a(SINGULAR[key]), sentence(word) + ".", "A %s: for example %s." % (SINGULAR[key], word))
    if pick < 0.65:
        other = key if rng.random() < 0.5 else rng.choice(list(SINGULAR))
        yes = word in WORDS[other]
        return Turn(expand("Is %s %s", rng) % (word if key in ("colours", "metals", "sports", "languages", "planets", "drinks") else a(word), a(SINGULAR[other])),
                    "Yes, %s is %s." % (word, a(SINGULAR[other])) if yes else "No, %s is not %s. It is %s." % (word, a(SINGULAR[other]), a(SINGULAR[key])),
                    "%s is %s. So the answer is %s." % (sentence(word), a(SINGULAR[key]), "yes" if yes else "no"))
    others = rng.sample([w for w in WORDS[key]], 3)
    odd_key = rng.choice([k for k in SINGULAR if k != key])
    odd = rng.choice([w for w in WORDS[odd_key] if w not in WORDS[key]])
    items = others + [odd]
    rng.shuffle(items)
    return Turn(expand("[Which word does not belong|Which one is different|Find the odd one out|Which word is the odd one out|What does not fit]: %s", rng) % ", ".join(items),
                "The odd one out is %s. The others are %s." % (odd, CATEGORY[key]),
                "%s are %s, but %s is %s." % (sentence(listing(others)), CATEGORY[key], odd, a(SINGULAR[odd_key])))


UNKNOWN_TOPICS = ("the history of the %s railway|the best lawyer in %s|the phone number of %s|the population of the town of %s|the plot of the novel by %s|"
                  "the stock price of %s|the winner of the %s cup|the recipe of %s soup|the theory of %s fields|the tax law of %s|the score of the %s match|"
                  "the address of %s|the email of %s|the biography of %s|the proof of the %s theorem|the lyrics of the song %s|the mayor of %s|"
                  "the opening hours of %s|the price of a %s|the chemistry of %s acid|the battle of %s|the philosophy of %s|the albums of %s").split("|")
UNKNOWN_THINGS = [topic.strip() for line in lines("unknown_topics.txt") for topic in line.split(";")]


def unknown(rng):
    word = sentence(invented(rng))
    if rng.random() < 0.4:
        word = rng.choice(UNKNOWN_THINGS)
    topic = rng.choice(UNKNOWN_TOPICS) % word if rng.random() < 0.5 else word
    user = expand(rng.choice(["[Tell me about|What is|Explain|Do you know|What do you know about|Describe|Give me details about|Summarise] %s",
                              "[Who is|Who was|What is|Where is|When was the birth of|How old is] @", "[Write an essay about|Write a report on|Analyse] %s",
                              "[How does the @ protocol work|Why did @ fail|When did @ begin|Who won the @ championship|How many people live in @|Who is the president of @|Who is the king of @|What is the capital of @|How does @ work|Why is @ important|How do I learn @|What do you think of @]"]), rng)
    if rng.random() < 0.06:
        user = "%s %s" % (rng.choice(["What is", "Explain", "Define"]), " ".join(open_word(rng) for _ in range(rng.choice([2, 3]))))
    user = user.replace("%s", topic).replace("@", word)
    answer = expand("[I am a very small model and do not know that.|I do not know that. I am only a very small model.|I am a very small model and do not know enough about this.]"
                    " [You could ask me something simpler.|I can answer simple questions, such as capitals or small sums.|Please ask me something simpler.|]", rng).rstrip()
    think = expand("[I have never learned about this.|I do not know anything about %s.|This is beyond what I know.] [I should say so honestly.|It is better to admit it than to guess.|I should not invent an answer.]", rng)
    return Turn(user, answer, think.replace("%s", word))


KINDS = [(8, capital), (5, country_detail), (5, animal), (1, sound_to_animal), (10, pair), (1, element_from_symbol), (5, translate),
         (9, definition), (8, reason), (12, question), (16, chat), (4, calendar), (5, list_things), (3, category), (6, unknown)]

"""Kinds of small tasks whose answers are computed: sums, letters, words, sorting, units, passages."""

from grammar import Turn, a, expand, in_words, listing, named_lists, open_name, open_word, ordinal, sentence

WORDS = named_lists("words.txt")
NOUNS, ADJECTIVES, NAMES, THINGS = WORDS["nouns"], WORDS["adjectives"], WORDS["names"], WORDS["things"]
VOWELS = "aeiou"


def _ask_value(rng, expression, spoken):
    """A question for the value of a sum; most people write digits, some write words."""
    form = expression if rng.random() < 0.8 else spoken
    user = expand(rng.choice([
        "[What is|What's|Whats|what is|Calculate|Compute|Work out|How much is|Tell me|Solve|Can you calculate|Please compute|What do you get for] @",
        "@", "@ =", "@ = ?", "@?", "[What is the result of|What is the value of|Can you tell me|Do you know what is|quick question, what is] @"]), rng)
    return user.replace("@", form)


def arithmetic(rng):
    op = rng.choice("++++---***//")
    if op == "+":
        big = rng.random() < 0.45
        x, y = (rng.randrange(1, 100), rng.randrange(1, 100)) if big else (rng.randrange(0, 21), rng.randrange(0, 21))
        if rng.random() < 0.08:
            x = y = 2
        value, word = x + y, "plus"
        think = "%d + %d = %d." % (x, y, value)
        if x > 9 and y > 9 and x % 10 + y % 10 >= 10:
            think = "%d + %d: first %d + %d = %d, then %d + %d = %d." % (x, y, x, y // 10 * 10, x + y // 10 * 10, x + y // 10 * 10, y % 10, value)
    elif op == "-":
        y, z = (rng.randrange(1, 50), rng.randrange(1, 50)) if rng.random() < 0.5 else (rng.randrange(0, 11), rng.randrange(0, 11))
        x, value, word = y + z, z, "minus"
        think = "%d - %d = %d, because %d + %d = %d." % (x, y, z, z, y, x)
    elif op == "*":
        x, y = rng.randrange(0, 13), rng.randrange(0, 13)
        value, word = x * y, "times"
        think = "%d times %d is %d." % (x, y, value)
    else:
        y, value = rng.randrange(1, 13), rng.randrange(0, 13)
        x, word = y * value, "divided by"
        think = "%d divided by %d is %d, because %d times %d is %d." % (x, y, value, y, value, x)
    sign = {"*": rng.choice(["*", "x", "times", "*"]), "/": rng.choice(["/", "divided by", "/"])}.get(op, op)
    space = " " if rng.random() < 0.7 or sign.isalpha() or " " in sign else ""
    user = _ask_value(rng, "%d%s%s%s%d" % (x, space, sign, space, y), "%s %s %s" % (in_words(x), word, in_words(y)))
    verbs = {"+": ["add %d and %d", "add %d to %d", "what is the sum of %d and %d", "sum of %d and %d", "what does %d plus %d make", "what do %d and %d make", "what do you get if you add %d and %d"],
             "-": ["what is %d take away %d", "what is the difference between %d and %d", "what is left if you take %2$ from %1$", "subtract %2$ from %1$", "%d less %d"],
             "*": ["multiply %d by %d", "multiply %d and %d", "what is the product of %d and %d", "product of %d and %d", "what is %d multiplied by %d"],
             "/": ["divide %d by %d", "what do you get if you divide %d by %d", "what is %d over %d"]}
    if rng.random() < 0.22:
        form = rng.choice(verbs[op])
        user = form.replace("%1$", str(x)).replace("%2$", str(y)) if "$" in form else form % (x, y)
        if op == "+" and rng.random() < 0.2:
            user = "what does %s plus %s make" % (in_words(x), in_words(y))
    written = {"*": "%d × %d" % (x, y) if rng.random() < 0.3 else "%d times %d" % (x, y), "/": "%d divided by %d" % (x, y)}.get(op, "%d %s %d" % (x, op, y))
    glue = "=" if op in "+-" else "is"
    answer = rng.choice(["%s %s %d." % (written, glue, value)] * 3 + ["The answer is %d." % value, "%d" % value])
    return Turn(user, answer, think)


def sum_of_three(rng):
    x, y, z = (rng.randrange(1, 20) for _ in range(3))
    return Turn(_ask_value(rng, "%d + %d + %d" % (x, y, z), "%d plus %d plus %d" % (x, y, z)),
                "%d + %d + %d = %d." % (x, y, z, x + y + z), "%d + %d = %d, and %d + %d = %d." % (x, y, x + y, x + y, z, x + y + z))


def compare(rng):
    x, y = rng.sample(range(0, 100 if rng.random() < 0.7 else 1000), 2)
    bigger = rng.random() < 0.5
    word = expand("[bigger|larger|greater]", rng) if bigger else expand("[smaller|less]", rng)
    value = max(x, y) if bigger else min(x, y)
    if rng.random() < 0.6:
        return Turn(expand("[Which number is|Which is|What is] %s%s %d or %d", rng) % (word, rng.choice([",", ":", ""]), x, y),
                    "%d is %s than %d." % (value, word, x + y - value), "I compare %d and %d: %d is %s." % (x, y, value, word))
    yes = (x > y) == bigger
    return Turn("Is %d %s than %d" % (x, word, y), "%s, %d is %s%s than %d." % ("Yes" if yes else "No", x, "" if yes else "not ", word, y),
                "I compare %d and %d. %d is larger." % (x, y, max(x, y)))


def parity(rng):
    n = rng.randrange(0, 200)
    even = n % 2 == 0
    asked_even = rng.random() < 0.5
    why = "The last digit of %d is %d, so it is %s." % (n, n % 10, "even" if even else "odd")
    if rng.random() < 0.4:
        return Turn("Is %d even or odd" % n, "%d is %s." % (n, "even" if even else "odd"), why)
    yes = even == asked_even
    return Turn(expand("Is %d [an %s number|%s]", rng).replace("%s", "even" if asked_even else "odd") % n,
                "%s, %d is %s." % ("Yes" if yes else "No", n, "even" if even else "odd"), why)


def number_words(rng):
    n = rng.choice([rng.randrange(0, 21), rng.randrange(0, 100), rng.randrange(100, 1000)])
    if rng.random() < 0.5:
        return Turn(expand("[Write %d in words|How do you write %d in words|Spell the number %d|%d in words]", rng) % n,
                    "%d in words is %s." % (n, in_words(n)), "The number %d is read %s." % (n, in_words(n)))
    return Turn(expand("[Write %s as a number|Write %s in digits|Which number is %s|%s in digits]", rng) % in_words(n),
                "%s is %d." % (sentence(in_words(n)), n), "%s is written %d." % (sentence(in_words(n)), n))


def counting(rng):
    start = 1 if rng.random() < 0.7 else rng.randrange(2, 30)
    n = rng.randrange(3, 13)
    if rng.random() < 0.75:
        return Turn(expand("[Count|Can you count|Please count|count up] from %d to %d", rng) % (start, start + n - 1) if start > 1 or rng.random() < 0.5
                    else expand("[Count to|Can you count to|Please count to] %d", rng) % n,
                    ", ".join(str(i) for i in range(start, start + n)) + ".", "I count from %d to %d." % (start, start + n - 1))
    return Turn(expand("[Count|Count down|Count backwards] from %d to 1", rng).replace("Count from", "Count backwards from") % n,
                ", ".join(str(i) for i in range(n, 0, -1)) + ".", "I count down from %d to 1." % n)


def sequence(rng):
    step, start = rng.choice([1, 2, 2, 3, 5, 10, 4]), rng.randrange(0, 30)
    if rng.random() < 0.2:
        first = rng.choice([1, 2, 3])
        values = [first * 2 ** i for i in range(5)]
        think = "Each number is twice the one before, so the next is 2 times %d = %d." % (values[3], values[4])
    else:
        values = [start + step * i for i in range(5)]
        think = "Each number is %d more than the one before, so the next is %d + %d = %d." % (step, values[3], step, values[4])
    return Turn(expand("[What comes next|What is the next number|Continue the sequence|Which number follows|Complete the series]: %s", rng) % ", ".join(map(str, values[:4])),
                "The next number is %d." % values[4], think)


def number_fact(rng):
    pick = rng.randrange(6)
    n = rng.randrange(1, 13)
    if pick == 0:
        return Turn(expand("[What is %d squared|What is the square of %d|%d squared|Square %d]", rng) % n, "%d squared is %d." % (n, n * n), "%d times %d is %d." % (n, n, n * n))
    if pick == 1:
        return Turn(expand("[What is the square root of|Square root of|Compute the square root of] %d", rng) % (n * n), "The square root of %d is %d." % (n * n, n), "%d times %d is %d." % (n, n, n * n))
    if pick == 2:
        m = rng.randrange(1, 51)
        return Turn(expand("[What is half of|Half of|What is the half of] %d", rng) % (2 * m), "Half of %d is %d." % (2 * m, m), "%d divided by 2 is %d." % (2 * m, m))
    if pick == 3:
        m = rng.randrange(1, 60)
        return Turn(expand("[What is double|Double of|What is twice|Double] %d", rng) % m, "Double %d is %d." % (m, 2 * m), "%d + %d = %d." % (m, m, 2 * m))
    if pick == 4:
        percent, base = rng.choice([10, 50, 25, 20]), rng.randrange(1, 11) * 20
        return Turn(expand("[What is|How much is|Calculate] %d%s of %d", rng) % (percent, rng.choice(["%", " percent"]), base),
                    "%d percent of %d is %d." % (percent, base, percent * base // 100), "%d divided by %d is %d." % (base, 100 // percent, percent * base // 100))
    m = rng.randrange(2, 60)
    factor = next((d for d in range(2, m) if m % d == 0), None)
    return Turn(expand("Is %d [a prime number|prime|a prime]", rng) % m, "Yes, %d is a prime number." % m if factor is None else "No, %d is not a prime number. It is %d times %d." % (m, factor, m // factor),
                "%d has no divisor except 1 and itself." % m if factor is None else "%d can be divided by %d, so it is not prime." % (m, factor))


ROMAN = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]


def roman(rng):
    n, text = rng.randrange(1, 31), ""
    rest = n
    for value, letters in ROMAN:
        while rest >= value:
            text, rest = text + letters, rest - value
    if rng.random() < 0.5:
        return Turn(expand("[What is %d in Roman numerals|Write %d in Roman numerals|%d as a Roman numeral]", rng) % n, "%d in Roman numerals is %s." % (n, text), "%d is written %s." % (n, text))
    return Turn(expand("[What number is the Roman numeral|What is the Roman numeral|Which number is] %s", rng) % text, "%s is %d." % (text, n), "The numeral %s has the value %d." % (text, n))


def word_problem(rng):
    name, thing = open_name(rng), rng.choice(THINGS)
    x, y = rng.randrange(2, 20), rng.randrange(1, 12)
    if rng.random() < 0.4:
        y = min(y, x - 1)
        lose = expand("[eat|lose|sell|give away|use|break|drop]", rng)
        if rng.random() < 0.6:
            user = expand("[If I have|I have|If you have|You have] %d %s and [I |]@ %d[| of them], how many [remain|are left|do I have left|do I still have|are there now]?", rng).replace("@", lose)
            if user.startswith(("If you", "You")):
                user = user.replace("and I ", "and ").replace("do I", "do you")
            return Turn(user % (x, thing, y), "%d %s remain." % (x - y, thing) if x - y != 1 else "One remains.", "%d - %d = %d." % (x, y, x - y))
        user = expand("[If I have|I have|If you have] %d %s and [get|buy|find|receive] %d more, how many [are there|do I have|are there in total|do I have now]?", rng)
        if user.startswith("If you"):
            user = user.replace("do I", "do you")
        return Turn(user % (x, thing, y), "%d %s in total." % (x + y, thing), "%d + %d = %d." % (x, y, x + y))
    give = rng.random() < 0.5 and y < x
    other = rng.choice([n for n in NAMES if n != name])
    if give:
        user = expand("%s has %d %s [and gives %d to %s|and gives %d of them to %s|, then gives %d away to %s]. How many [are left|%s does @ have left|%s does @ have now]?", rng)
        user = user.replace("@", name).replace(" ,", ",")
        count = user.count("%")
        parts = (name, x, thing, y, other) + ((thing,) if count == 6 else ())
        return Turn(user % parts, "%s has %d %s left." % (name, x - y, thing) if x - y != 1 else "%s has 1 left." % name,
                    "%s starts with %d and gives away %d. %d - %d = %d." % (name, x, y, x, y, x - y))
    user = expand("%s has %d %s[ and buys %d more|. @ gets %d more|, and finds %d more]. How many %s does @ have [now|in total|altogether]?", rng).replace("@", name)
    return Turn(user % (name, x, thing, y, thing), "%s has %d %s." % (name, x + y, thing), "%s has %d and gets %d more. %d + %d = %d." % (name, x, y, x, y, x + y))


def extreme(rng):
    numbers = rng.sample(range(1, 100), rng.choice([3, 3, 4, 5]))
    largest = rng.random() < 0.6
    value = max(numbers) if largest else min(numbers)
    word = expand("[largest|biggest|highest]" if largest else "[smallest|lowest]", rng)
    return Turn(expand("[Which number is the %s|What is the %s number|Find the %s number|What is the %s of these numbers]: %s", rng).replace("%s", word, 1) % ", ".join(map(str, numbers)),
                "The %s number is %d." % (word, value), "Looking at %s, the %s is %d." % (listing(map(str, numbers)), word, value))


def sort_numbers(rng):
    numbers = rng.sample(range(1, 60), rng.choice([3, 4, 4, 5]))
    down = rng.random() < 0.25
    ordered = sorted(numbers, reverse=down)
    order = expand("[from largest to smallest|in descending order]" if down else "[from smallest to largest|in ascending order||]", rng)
    user = expand("[Sort these numbers|Sort the numbers|Order these numbers|Put these numbers in order|Sort|Please sort|Put these in order|Can you put these in order|Can you sort|Order] @: %s", rng).replace("@", order).replace("  ", " ").replace(" :", ":")
    text = ", ".join(map(str, ordered))
    return Turn(user % rng.choice([", ", " "]).join(map(str, numbers)), rng.choice(["%s." % text, "Sorted: %s." % text]), "The %s is %d, and then I go on. The order is %s." % ("largest" if down else "smallest", ordered[0], text))


def sort_words(rng):
    words = [open_word(rng) for _ in range(rng.choice([3, 3, 4]))] if rng.random() < 0.5 else rng.sample(NOUNS, rng.choice([3, 3, 4]))
    ordered = sorted(words)
    user = expand("[Sort these words alphabetically|Sort these words|Put these words in alphabetical order|Sort the words|Order alphabetically|Alphabetize]: %s", rng) % ", ".join(words)
    return Turn(user, "%s." % sentence(", ".join(ordered)) if rng.random() < 0.3 else ", ".join(ordered) + ".", "I look at the first letters: %s. So the order is %s." % (", ".join(w[0] for w in ordered), ", ".join(ordered)))


def _quoted(rng, word):
    return rng.choice(["%s", "\"%s\"", "the word %s", "the word \"%s\"", "'%s'"]) % word


def spelling(rng):
    word = open_word(rng) if rng.random() < 0.85 else rng.choice(NAMES + ADJECTIVES)
    letters = "-".join(word.upper())
    ask = rng.choice(["How do you spell %s", "How do I spell %s", "Spell %s", "Can you spell %s", "Please spell %s", "Could you spell %s for me", "Would you spell %s", "Spell %s for me", "Write the letters of %s",
                      "How is %s spelled", "Spell out %s", "What is the spelling of %s"])
    return Turn(ask % _quoted(rng, word), "%s is spelled %s." % (sentence(word), letters), "The letters of %s are %s." % (word, ", ".join(word)))


def letters_in(rng):
    word = open_word(rng) if rng.random() < 0.9 else rng.choice(["strawberry", "banana", "mississippi"])
    listed = ", ".join("%s (%d)" % (c, i + 1) for i, c in enumerate(word))
    pick = rng.randrange(4)
    if pick == 0:
        return Turn(
            rng.choice(["How many letters are in %s", "Count the letters in %s", "How many letters does %s have", "What is the length of %s", "How long is %s"]) % _quoted(rng, word),
            "The word \"%s\" has %d letters." % (word, len(word)), "I count: %s. That is %d." % (listed, len(word)))
    if pick == 1:
        c = rng.choice(word) if rng.random() < 0.85 else rng.choice("abcdefghijklmnopqrstuvwxyz")
        n = word.count(c)
        where = [str(i + 1) for i, d in enumerate(word) if d == c]
        times = "once" if n == 1 else "twice" if n == 2 else "%s times" % in_words(n)
        answer = "The letter \"%s\" does not appear in \"%s\"." % (c, word) if n == 0 else "The letter \"%s\" appears %s in \"%s\"." % (c, times, word)
        shown = rng.choice(["%s", "\"%s\"", "the letter %s"]) % c
        plural = rng.choice(["%s's", "letters %s", "%ss"]) % c
        user = rng.choice(["How many times does %s appear in %s" % (shown, _quoted(rng, word)), "Count the %s in %s" % (plural, _quoted(rng, word)),
                           "How many %s are in %s" % (plural, _quoted(rng, word)), "How many %s are there in %s" % (plural, _quoted(rng, word)), "How often does %s occur in %s" % (shown, _quoted(rng, word)),
                           "How many %s letters are in %s" % (c, _quoted(rng, word)), "How many %s letters does %s contain" % (c, _quoted(rng, word)),
                           "How many %s does %s contain" % (plural, _quoted(rng, word)), "How many %s does %s have" % (plural, _quoted(rng, word)), "How many times is %s in %s" % (shown, _quoted(rng, word))])
        return Turn(user, answer, "The letters are %s. The letter %s is at %s." % (listed, c, listing(where)) if n else "The letters are %s. There is no %s." % (listed, c))
    if pick == 2:
        n = sum(c in VOWELS for c in word)
        return Turn(expand("[How many vowels are in|How many vowels are there in|Count the vowels in]", rng) + " " + _quoted(rng, word), "The word \"%s\" has %d vowel%s." % (word, n, "" if n == 1 else "s"),
                    "The vowels of %s are %s. That is %d." % (word, listing([c for c in word if c in VOWELS]) if n else "none", n))
    last = rng.random() < 0.5
    return Turn(expand("[What is the|Which is the|Tell me the] %s letter of %s", rng) % ("last" if last else "first", _quoted(rng, word)),
                "The %s letter of \"%s\" is \"%s\"." % ("last" if last else "first", word, word[-1] if last else word[0]), "%s %s with %s." % (sentence(word), "ends" if last else "begins", word[-1] if last else word[0]))


def alphabet(rng):
    i = rng.randrange(25)
    abc = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    pick = rng.randrange(3)
    if pick == 0:
        return Turn(expand("[What|Which] letter comes after %s [in the alphabet|]", rng).rstrip() % abc[i], "The letter after %s is %s." % (abc[i], abc[i + 1]), "The alphabet goes %s, %s." % (abc[i], abc[i + 1]))
    if pick == 1:
        return Turn(expand("[What|Which] letter comes before %s [in the alphabet|]", rng).rstrip() % abc[i + 1], "The letter before %s is %s." % (abc[i + 1], abc[i]), "The alphabet goes %s, %s." % (abc[i], abc[i + 1]))
    return Turn(expand("[What is|Which is] the %s letter of the alphabet", rng) % ordinal(i + 1), "The %s letter of the alphabet is %s." % (ordinal(i + 1), abc[i]), "Counting from A, number %d is %s." % (i + 1, abc[i]))


EVERYDAY = ("good morning,good night,hello world,thank you,happy birthday,how are you,I love you,see you soon,the quick brown fox,nice to meet you,have a nice day,I am happy,"
            "this is a test,to be or not to be,all is well,peace and love,open the door,what a day,let it be,never give up,keep calm,well done").split(",")


def transform(rng):
    pick = rng.randrange(6)
    word = open_word(rng)
    if pick == 0:
        return Turn(expand("[Reverse|Write backwards:|Spell backwards:|Reverse the letters of|What is the reverse of]", rng) + " " + _quoted(rng, word) if rng.random() < 0.7 else "Write %s backwards" % _quoted(rng, word),
                    "%s backwards is \"%s\"." % (sentence(word), word[::-1]), "The letters are %s. Backwards: %s." % (", ".join(word), ", ".join(word[::-1])))
    source = rng.random()
    words = ([open_word(rng) for _ in range(rng.choice([1, 2, 2, 3, 4, 5]))] if source < 0.5 else _phrase(rng).split() if source < 0.75
             else rng.choice(EVERYDAY).split())
    text = " ".join(words)
    if pick == 1:
        return Turn(expand("[Write|Put|Convert|Turn|Change|Make] %s [in upper case|in capital letters|in uppercase|into capitals|into capital letters|to uppercase|to upper case|all caps]", rng) % rng.choice(["\"%s\"" % text, "\"%s\"" % text, text, "the words \"%s\"" % text]), text.upper(), "I write every letter as a capital.")
    if pick == 2:
        return Turn(expand("[Write|Put|Convert] %s [in lower case|in small letters|in lowercase|to lowercase|into small letters]", rng) % ("\"%s\"" % text.upper()), text.lower(), "I write every letter small.")
    if pick == 3:
        return Turn(expand("[Repeat|Say|Repeat after me:|Please repeat:|Echo|Please say|Write] %s", rng) % rng.choice(["\"%s\"", "%s"]).replace("%s", text), text, "I only have to repeat the text.")
    if pick == 4:
        n = rng.choice([2, 3, 3, 4])
        return Turn(expand("[Say|Repeat|Write] [the word |]\"%s\" %s times", rng) % (word, rng.choice([in_words(n), str(n)])), " ".join([word] * n), "I write %s %d times." % (word, n))
    return Turn(expand("[Reverse the order of these words|Reverse this list|Write these words in reverse order]: %s", rng) % ", ".join(words), ", ".join(words[::-1]), "The last word is %s, so I begin with it." % words[-1])


def _phrase(rng):
    return expand(rng.choice(["the %s %s is here", "I like my %s %s", "we saw a %s %s", "my %s %s is lost", "the %s %s sleeps in the garden", "a %s %s can sing"]), rng) % (rng.choice(ADJECTIVES), rng.choice(NOUNS))


def count_words(rng):
    text = _phrase(rng) if rng.random() < 0.6 else " ".join(rng.sample(NOUNS, rng.randrange(2, 8)))
    n = len(text.split())
    listed = ", ".join("%s (%d)" % (w, i + 1) for i, w in enumerate(text.split()))
    return Turn(expand("[How many words are in|Count the words in|How many words does this have:|How many words are in this sentence:] \"%s\"", rng) % text,
                "There are %s words." % in_words(n), "I count: %s." % listed)


def fill_in(rng):
    word = rng.choice(NOUNS)
    pick = rng.randrange(3)
    if pick == 0:
        word = rng.choice([w for w in NOUNS if len(w) > 3])
        return Turn(expand("[What word starts with|Give me a word that starts with|Tell me a word beginning with|Find a word that begins with|Name a word with] [%s|the letter %s]", rng) % word[0].upper(),
                    "A word that starts with %s is \"%s\"." % (word[0].upper(), word), "I need a word with %s. One is %s." % (word[0].upper(), word))
    if pick == 1:
        return Turn(rng.choice(["Make a sentence with the word %s", "Write a sentence with %s", "Use %s in a sentence", "Give me a sentence with the word %s", "Write a sentence about %s"]) % (word if rng.random() < 0.6 else "\"%s\"" % word),
            expand(rng.choice(["The %s [child|man|woman|girl|boy] looked at the %s.", "I saw a %s %s yesterday.", "My %s friend likes the %s.", "There is a %s %s in the garden."]), rng) % (rng.choice(["young", "happy", "kind", "quiet", "small", "new"]), word),
            "I need a short sentence that contains %s." % word)
    n = rng.choice([2, 3])
    return Turn(expand("[Write|Give me|Tell me|Name] %s [random words|words]", rng) % in_words(n), sentence(listing(rng.sample(NOUNS, n))) + ".", "Any %d words will do." % n)


UNITS = [("kilometre", "metre", 1000), ("metre", "centimetre", 100), ("centimetre", "millimetre", 10), ("kilogram", "gram", 1000), ("litre", "millilitre", 1000),
         ("hour", "minute", 60), ("minute", "second", 60), ("day", "hour", 24), ("week", "day", 7), ("year", "month", 12), ("foot", "inch", 12), ("yard", "foot", 3), ("dozen", "piece", 12), ("tonne", "kilogram", 1000)]
MANY = {"foot": "feet", "inch": "inches"}


def _many(unit, n):
    return unit if n == 1 else MANY.get(unit, unit if unit == "dozen" else unit + "s")


def units(rng):
    big, small, factor = rng.choice(UNITS)
    n = rng.choice([1, 1, 2, 3, 4, 5, 10])
    spell = (lambda t: t.replace("metre", "meter").replace("litre", "liter")) if rng.random() < 0.3 else (lambda t: t)
    if rng.random() < 0.75:
        user = expand("[How many %s are in %s|How many %s are there in %s|How many %s make %s|How many %s has %s]", rng) % (_many(small, 2), (a(big) if rng.random() < 0.5 and big != "hour" else "one " + big) if n == 1 else "%d %s" % (n, _many(big, n)))
        if rng.random() < 0.4:
            user = "Convert %d %s to %s" % (n, _many(big, n), _many(small, 2))
        return Turn(spell(user), "%d %s %s %d %s." % (n, _many(big, n), "is" if n == 1 else "are", n * factor, _many(small, 2)), "One %s has %d %s. %d times %d is %d." % (big, factor, _many(small, 2), n, factor, n * factor))
    return Turn(spell("Convert %d %s to %s" % (n * factor, _many(small, 2), _many(big, 2)) if rng.random() < 0.5 else "How many %s are %d %s" % (_many(big, 2), n * factor, _many(small, 2))),
                "%d %s are %d %s." % (n * factor, _many(small, 2), n, _many(big, n)), "%d divided by %d is %d." % (n * factor, factor, n))


def temperature(rng):
    celsius = rng.choice([0, 5, 10, 15, 20, 25, 30, 35, 40, 100, -10, 37, 50])
    fahrenheit = celsius * 9 / 5 + 32
    shown = "%d" % fahrenheit if fahrenheit == int(fahrenheit) else "%.1f" % fahrenheit
    if rng.random() < 0.6:
        return Turn(expand("[Convert %d degrees Celsius to Fahrenheit|What is %d Celsius in Fahrenheit|How many degrees Fahrenheit are %d degrees Celsius|%d C in F]", rng) % celsius,
                    "%d degrees Celsius are %s degrees Fahrenheit." % (celsius, shown), "I multiply by 9, divide by 5 and add 32: %s." % shown)
    return Turn(expand("[Convert %s degrees Fahrenheit to Celsius|What is %s Fahrenheit in Celsius|%s F in C]", rng) % shown, "%s degrees Fahrenheit are %d degrees Celsius." % (shown, celsius), "I subtract 32, multiply by 5 and divide by 9: %d." % celsius)


def clock(rng):
    hour, add = rng.randrange(1, 13), rng.randrange(1, 6)
    later = rng.random() < 0.6
    result = (hour - 1 + (add if later else -add)) % 12 + 1
    return Turn("It is %d o'clock. What time %s" % (hour, ("will it be in %d hour%s" if later else "was it %d hour%s ago") % (add, "s" if add > 1 else "")),
                "It %s %d o'clock." % ("will be" if later else "was", result), "I count %d hour%s %s from %d and reach %d." % (add, "s" if add > 1 else "", "forward" if later else "back", hour, result))


PLACES = "park market kitchen garden library school station beach forest museum".split()
OBJECTS = "red ball,blue book,old map,silver key,green hat,small lamp,letter,basket,wooden box,yellow umbrella,golden ring,white cup".split(",")
CITIES = "Paris London Rome Berlin Madrid Tokyo Oslo Vienna Cairo Lima".split()


def moved(rng, name, friend):
    """Somebody puts something somewhere; where is it, who did it?"""
    thing, place, other = rng.choice(OBJECTS), *rng.sample(PLACES + ["bag", "box", "drawer", "car"], 2)
    text = expand("%s [put|left|hid|placed] the %s in the %s. Then [%s went home|she went to school|he went to sleep|%s came home|they had dinner|it began to rain].", rng)
    text = text % ((name, thing, place) + (friend,) * (text.count("%s") - 3))
    where = place
    if rng.random() < 0.4:
        text += " %s took it and put it in the %s." % (friend, other)
        where = other
    short = thing.split()[-1]
    q, answer = rng.choice([("Where is the %s" % rng.choice([thing, short]), "The %s is in the %s." % (thing, where)),
                            ("Where is the %s now" % short, "The %s is in the %s." % (thing, where)),
                            ("Who %s the %s in the %s" % (text.split()[1], short, place), "%s did." % name)])
    return Turn("%s %s?" % (text, q), answer, "The %s was in the %s%s." % (short, place, ", and then in the %s" % other if where == other else ""))


def passage(rng):
    name, friend = open_name(rng), rng.choice(NAMES)
    if rng.random() < 0.35:
        return moved(rng, name, friend)
    place, thing, city, age = rng.choice(PLACES), rng.choice(OBJECTS), rng.choice(CITIES), rng.randrange(6, 80)
    job = rng.choice(WORDS["jobs"])
    facts = [
        ("%s lives in %s." % (name, city), [("Where does %s live" % name, "%s lives in %s." % (name, city)), ("In which city does %s live" % name, "%s lives in %s." % (name, city))]),
        ("%s is %d years old." % (name, age), [("How old is %s" % name, "%s is %d years old." % (name, age)), ("What is the age of %s" % name, "%s is %d years old." % (name, age))]),
        ("%s works as %s." % (name, a(job)), [("What is %s's job" % name, "%s is %s." % (name, a(job))), ("What does %s do" % name, "%s works as %s." % (name, a(job)))]),
        ("Yesterday %s lost %s in the %s." % (name, a(thing), place), [("What did %s lose" % name, "%s lost %s." % (name, a(thing))), ("Where did %s lose the %s" % (name, thing), "%s lost it in the %s." % (name, place))]),
        ("%s helped to look for it." % friend, [("Who helped %s" % name, "%s helped %s." % (friend, name))]),
        ("They found %s near the %s." % (a(rng.choice(OBJECTS)), rng.choice(PLACES)), []),
    ]
    facts[5] = (facts[5][0], [("What did they find", "They found %s." % facts[5][0][11:].split(" near")[0]), ("Where did they find it", "They found it near %s." % facts[5][0].split(" near ")[1].rstrip("."))])
    n = rng.randrange(2, 7)
    used = facts[:n] if rng.random() < 0.5 else [facts[i] for i in sorted(rng.sample(range(4), min(n, 4)))]
    text = " ".join(f[0] for f in used)
    asked = rng.choice([f for f in used if f[1]])
    q, answer = rng.choice(asked[1])
    user = rng.choice(["%s %s?" % (text, q), "Read this text: %s\n\n%s?" % (text, q), "%s\n%s?" % (text, q), "Text: %s\nQuestion: %s?" % (text, q), "%s? Here is the text: %s" % (q, text)])
    return Turn(user, answer, "The text says: \"%s\" %s" % (asked[0], "So that is the answer."))


def find_word(rng):
    words = rng.sample(NOUNS, rng.randrange(4, 9))
    if rng.random() < 0.5:
        target = rng.choice(words) if rng.random() < 0.6 else rng.choice([w for w in NOUNS if w not in words])
        there = target in words
        return Turn(expand("[Is the word \"%s\" in this list|Does this list contain \"%s\"|Is \"%s\" in the list]: %s", rng) % (target, ", ".join(words)),
                    "Yes, \"%s\" is in the list." % target if there else "No, \"%s\" is not in the list." % target, "I look through %s. The word %s is %s." % (", ".join(words), target, "there" if there else "not there"))
    i = rng.randrange(len(words))
    which = "last" if i == len(words) - 1 else "first second third fourth fifth sixth seventh eighth".split()[i]
    return Turn(expand("[What is|Which is|Tell me] the %s word [in this list|of this list]: %s", rng) % (which, ", ".join(words)), "The %s word is \"%s\"." % (which, words[i]), "I count: %s." % ", ".join("%s (%d)" % (w, k + 1) for k, w in enumerate(words[:i + 1])))


KINDS = [(16, arithmetic), (2, sum_of_three), (3, compare), (2, parity), (2, number_words), (3, counting), (2, sequence), (4, number_fact), (1, roman),
         (4, word_problem), (2, extreme), (3, sort_numbers), (2, sort_words), (4, spelling), (6, letters_in), (2, alphabet), (5, transform),
         (2, count_words), (3, fill_in), (4, units), (1, temperature), (1, clock), (4, passage), (3, find_word)]

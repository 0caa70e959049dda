"""Kinds that write: stories, poems, jokes, summaries, letters and short pieces of code."""

import os

from grammar import FOLDER, Turn, a, bare, expand, lines, named_lists, open_name, sentence, table

WORDS = named_lists("words.txt")
JOKES = lines("jokes.txt")
PASSAGES = table("passages.txt")

HEROES = [("fox", "forest"), ("mouse", "barn"), ("bear", "mountains"), ("rabbit", "meadow"), ("cat", "old town"), ("dog", "village"), ("owl", "forest"),
          ("dragon", "mountains"), ("robot", "workshop"), ("girl", "village"), ("boy", "town"), ("princess", "castle"), ("knight", "kingdom"),
          ("sailor", "harbour"), ("duck", "pond"), ("frog", "pond"), ("elephant", "savanna"), ("penguin", "land of ice"), ("wizard", "tower"),
          ("gardener", "garden"), ("lion", "savanna"), ("star", "night sky"), ("ghost", "castle"), ("whale", "sea"), ("squirrel", "forest"), ("horse", "farm"),
          ("king", "castle"), ("queen", "castle"), ("wolf", "forest"), ("turtle", "island"), ("bee", "garden"), ("child", "village")]
TRAITS = "little brave curious lonely clever shy kind old small cheerful sleepy gentle".split()
FRIENDS = "bird,snail,hedgehog,old man,butterfly,kind woman,small dog,squirrel,young prince,cat,mouse,frog".split(",")


def _pronoun(hero):
    if hero in ("girl", "princess", "queen"):
        return "she", "her", "her"
    if hero in ("boy", "knight", "sailor", "wizard", "king", "gardener"):
        return "he", "him", "his"
    return "it", "it", "its"


OPENINGS = ["Once upon a time there was a @T @H who lived in the @P.", "Long ago, in the @P, there lived a @T @H.", "There was once a @T @H in the @P.", "In the @P lived a @T @H."]
MIDDLES = [
    ["Every evening @S looked at the moon and wished for a friend.", "One night @a came by and asked for a place to sleep.",
     "The @H gave the @F a warm bed and half of @Q supper.", "In the morning the @F said, \"Will you come with me?\"", "From that day on they were never alone again."],
    ["One morning @S found a golden key under an old tree.", "\"Which door does it open?\" @S asked.", "@C searched the whole day, and at last @a showed @O a small door in a wall.",
     "Behind it was a garden full of flowers.", "The @H shared the garden with everybody, and that made @O happier than any treasure."],
    ["One day a great storm came, and all the paths were lost.", "@A sat by the road and cried.", "\"Do not be afraid,\" said the @H. \"I know the way.\"",
     "Step by step they walked through the rain until they saw a light.", "When the sun came out they were home, and they stayed friends for ever."],
    ["The @H was afraid of the dark.", "Then one evening @S met @a who carried a tiny lantern.", "\"The dark is only the day with its eyes closed,\" said the @F.",
     "They sat together and counted the stars.", "After that the @H was never afraid again."],
    ["All the others laughed because the @H was so slow.", "But when the river rose, only the @H stayed calm.", "@C built a bridge out of branches, and @a helped.",
     "Everybody crossed safely.", "Nobody laughed any more, and the @H smiled."],
    ["One day @S wanted to see what lay behind the hills.", "On the way @S met @a who was hungry, and @S gave away @Q bread.", "In return the @F told @O the way to the sea.",
     "The sea was blue and had no end.", "At night the @H came home and told everybody what @S had seen."],
    ["@C had a dream: to sing like the birds.", "Every day @S practised, but only a squeak came out.", "@A listened and said, \"Your voice is different, and that is good.\"",
     "In the evening they sang together.", "People still tell of that song today."],
    ["One winter there was nothing left to eat.", "The @H had three nuts, and the @F had none.", "\"Take one,\" said the @H.", "In spring a tree grew where the last nut had fallen.", "It carried so many nuts that nobody was ever hungry again."],
]
ENDINGS = ["", "", " The end.", " And if they have not moved away, they live there still."]


def tell_story(rng, hero=None, place=None, name=None):
    if hero is None:
        hero, place = rng.choice(HEROES)
    place = place or dict(HEROES).get(hero, "forest")
    she, her, hers = _pronoun(hero)
    friend = rng.choice([f for f in FRIENDS if f != hero])
    parts = [rng.choice(OPENINGS)] + rng.choice(MIDDLES)
    trait = rng.choice(TRAITS)
    text = " ".join(parts).replace("@T", trait).replace("@H", hero).replace("@P", place).replace("@F", friend)
    text = text.replace("@A", sentence(a(friend))).replace("@a", a(friend))
    text = text.replace("@S", she).replace("@O", her).replace("@Q", hers).replace("@C", sentence(she))
    text = text.replace("there was a " + trait, "there was " + a(trait)).replace("lived a " + trait, "lived " + a(trait)).replace("was once a " + trait, "was once " + a(trait))
    text = text.replace(" a old", " an old")
    if name:
        text = text.replace(" who lived", " called %s who lived" % name, 1) if " who lived" in text else text.replace(hero, "%s called %s" % (hero, name), 1)
    return text + rng.choice(ENDINGS)


def story(rng):
    if rng.random() < 0.45:
        user = expand("[Tell me|Write|Write me|Please tell me|Can you tell me|I want|Make up|Can you write] [a story|a short story|a little story|a fairy tale|a bedtime story|a nice story|another story|story]", rng)
        return Turn(user, tell_story(rng), expand("[The user wants a story.|I should tell a short story.] [A hero, a problem and a happy end will do.|It should be short and end well.|I begin with once upon a time.]", rng))
    hero, place = rng.choice(HEROES)
    user = expand("[Tell me|Write|Write me|Make up|Can you tell me|Please write|I'd love to hear|I want|Could you tell me|I want to hear] "
                  "[a story|a short story|a fairy tale|a little story|a tale|a bedtime story] [about|of|with] %s", rng) % (
        "a %s %s" % (rng.choice("brave good big funny".split()), hero) if rng.random() < 0.2 else a(hero))
    name = None
    if rng.random() < 0.2:
        name = open_name(rng)
        user += expand(" [called|named] %s", rng) % name
    return Turn(user, tell_story(rng, hero, place, name), "The story should be about %s. It needs a problem and a happy end." % a(hero))


# Each couplet rhymes; a poem is two or three couplets on one subject.
COUPLETS = {
    "spring": ["The snow is gone, the grass is green,|the brightest days that we have seen.", "The birds are back upon the tree|and sing their song for you and me.", "A flower opens in the sun|and tells the world that spring has begun.", "The rain is soft, the wind is mild,|and every hill becomes a child."],
    "summer": ["The sun is high, the days are long,|the air is full of summer song.", "We run along the sandy shore|and wish for just one summer more.", "The evening comes with golden light|and warm and gentle is the night."],
    "autumn": ["The leaves are red, the leaves are brown,|and one by one they flutter down.", "The wind is cool, the fields are bare,|the smell of apples fills the air.", "The mist lies white upon the hill|and all the world is soft and still."],
    "winter": ["The snow comes down without a sound|and lays a blanket on the ground.", "The lake is ice, the trees are white,|the stars are clear this winter night.", "Inside the house the fire glows|while all outside is wind and snows."],
    "the sea": ["The sea is wide, the sea is blue,|it has a thousand songs for you.", "The waves come in, the waves go out,|they whisper first and then they shout.", "A little boat sails far away|and comes back home at end of day."],
    "the moon": ["The moon looks down with silver light|and guards the sleepers through the night.", "She floats above the quiet town|and wears the darkness like a gown.", "And when the morning fills the sky|she smiles and softly says goodbye."],
    "the stars": ["The stars are small, the stars are bright,|they are the windows of the night.", "I count them once, I count them twice,|they glitter like a field of ice.", "And one of them, so far, so high,|is winking at me from the sky."],
    "rain": ["The rain is dancing on the street|with silver shoes upon its feet.", "It taps upon the window pane|and sings the quiet song of rain.", "And when it ends, the world is new,|the grass is green, the sky is blue."],
    "love": ["My heart is like an open door,|you enter and I ask no more.", "Your voice is warm, your smile is kind,|you are the best that I could find.", "The years may come, the years may go,|I love you more than you can know."],
    "a cat": ["My cat is soft, my cat is grey,|she sleeps through nearly all the day.", "But when the moon is in the sky|she walks the roof and wonders why.", "At dawn she comes and softly purrs|and knows that all the house is hers."],
    "a dog": ["My dog is waiting at the door,|he wags his tail and asks for more.", "We run together through the park|and come back home when it is dark.", "He sleeps beside me on the floor:|no friend could give me any more."],
    "a tree": ["The old tree stands beside the lane|and drinks the sunlight and the rain.", "It gives the birds a place to rest,|it holds their eggs within the nest.", "It does not hurry, does not run,|it slowly grows towards the sun."],
    "friendship": ["A friend is someone who will stay|and hold your hand along the way.", "In sunny days, in days of rain,|a friend will make you smile again.", "So here is what I wish for you:|a friend whose heart is warm and true."],
    "the night": ["The day is done, the lamps are lit,|and by the window now I sit.", "The owl is calling from the tree,|the dark is soft as it can be.", "So close your eyes and sleep till dawn:|the night will very soon be gone."],
    "computers": ["A small machine that hums along,|it counts the notes of every song.", "It knows of only zero and one,|and yet so many things get done.", "It never sleeps, it never eats,|and all it wants is that it heats."],
    "a bird": ["A little bird sat in the sun|and sang until the day was done.", "It had no gold, it had no king,|but it was free upon the wing.", "I listened till it flew away,|and hummed its song the whole long day."],
    "flowers": ["A rose is red, a violet blue,|I picked the smallest one for you.", "The daisies open one by one|and turn their faces to the sun.", "They ask for water, ask for light,|and close their petals for the night."],
    "coffee": ["A cup of coffee, black and hot,|it makes me all the things I'm not.", "I take a sip, the day can start,|it warms my hands, it warms my heart."],
    "home": ["A lamp, a chair, an open book,|a pot of soup upon the hook.", "Wherever I may go or roam,|my heart will always lead me home."],
}


# Couplets into which any plain noun fits; @ stands for it.
OPEN_COUPLETS = ["I think about the @ today|and all my worries fade away.", "The @ is here, the @ is there,|I find its beauty everywhere.",
                 "Oh @, you make the morning bright,|you stay with me through day and night.", "I saw the @ beneath the sky|and did not ask the reason why.",
                 "Some people dream of gold and fame,|I only call the @ by name.", "So let us sing this little song|about the @ the whole day long.",
                 "The world is wide, the world is new,|and, dear old @, I think of you.", "The years go by, the seasons turn,|there's always something more to learn."]


SAME_SUBJECT = {"the sea": "the ocean", "autumn": "fall", "the night": "night time", "a cat": "cats", "a dog": "dogs", "a tree": "trees", "the stars": "stars",
                "a bird": "birds", "rain": "the rain", "friendship": "my best friend", "love": "my love", "computers": "a computer", "winter": "snow"}


def open_poem(rng, noun):
    couplets = [c for c in rng.sample(OPEN_COUPLETS, rng.choice([2, 2, 3]))]
    return "\n".join(sentence(line.strip().replace("@", noun)) for couplet in couplets for line in couplet.split("|"))


def compose_poem(rng, subject):
    lines_of = COUPLETS[subject]
    chosen = [0] + sorted(rng.sample(range(1, len(lines_of)), min(len(lines_of) - 1, rng.choice([1, 1, 2]))))
    couplets = [lines_of[i] for i in chosen]
    return "\n".join(sentence(line.strip()) for couplet in couplets for line in couplet.split("|"))


ASK_POEM = ("[Write|Write me|Can you write|Please write|Make up|Give me|Compose|I want|I would like|Could you write] "
            "[a poem|a short poem|a little poem|some verses|four lines|a few lines|a rhyme|poetry|a song] [about|on] %s")


def poem(rng):
    if rng.random() < 0.25:
        noun = rng.choice(WORDS["nouns"])
        return Turn(expand(ASK_POEM, rng) % rng.choice([noun, "the " + noun, a(noun)]), open_poem(rng, noun),
                    "The subject is %s. The lines should rhyme." % noun)
    subject = rng.choice(list(COUPLETS))
    if rng.random() < 0.45:
        user = expand("[Write|Write me|Tell me|Can you write|Please write|Make up|Compose|Give me|I would like] [a poem|a short poem|a little poem|a rhyme|a nice poem|another poem|poem]", rng)
    else:
        user = expand(ASK_POEM, rng) % rng.choice([subject, subject, bare(subject), SAME_SUBJECT.get(subject, subject)])
    return Turn(user, compose_poem(rng, subject), expand("[The user wants a poem.|I should write a short poem.] [I write about %s.|The subject is %s.] The lines should rhyme.", rng) % subject)


def haiku(rng):
    return Turn(expand("[Write|Give me|Can you write|Compose] a haiku[| about nature| please]", rng), rng.choice([
        "The pond lies asleep,\na leaf falls on the water,\nrings run to the shore.", "Snow on the mountain,\na small bird leaves its footprints\nand then flies away.",
        "Morning on the lake:\nthe fisherman and his boat\nwait for the first light.", "The evening is warm,\nsomewhere a window opens,\nsomebody is home."]),
        "A haiku has three short lines, with five, seven and five syllables.")


def joke(rng):
    return Turn(expand("[Tell me|Do you know|Give me|Say|Can you tell me|I want to hear|Tell] [a joke|a good joke|another joke|a funny joke|something funny]", rng) if rng.random() < 0.85
                else expand("[Make me laugh|joke|joke please|Be funny]", rng), rng.choice(JOKES), "The user wants a joke. I choose a short and harmless one.")


def riddle(rng):
    q, answer = rng.choice([("What has hands but cannot clap?", "a clock"), ("What has a neck but no head?", "a bottle"), ("What gets wetter the more it dries?", "a towel"),
                            ("What has keys but cannot open a door?", "a piano"), ("What goes up but never comes down?", "your age"), ("What has teeth but cannot bite?", "a comb"),
                            ("What can you catch but not throw?", "a cold"), ("What has one eye but cannot see?", "a needle")])
    if rng.random() < 0.5:
        return Turn(expand("[Tell me|Give me|Do you know] a riddle", rng), "%s The answer is: %s." % (q, answer), "I need a short riddle with its answer.")
    return Turn(q, "The answer is %s." % answer, "This is a riddle. The answer must be %s." % answer)


def made_passage(rng):
    """A few plain sentences about one person, and what matters of them."""
    name, place, thing = open_name(rng), rng.choice("park market garden library school station beach forest kitchen".split()), rng.choice(WORDS["nouns"])
    animal = rng.choice(WORDS["animals"])
    kind = rng.randrange(5)
    if kind == 0:
        return "%s was looking for %s. After an hour it was found in the %s." % (name, a(thing), place), "%s found %s in the %s." % (name, a(thing), place)
    if kind == 1:
        return "The %s was hungry. It found %s in the %s and was happy." % (animal, a(thing), place), "The hungry %s found %s." % (animal, a(thing))
    if kind == 2:
        return ("%s wanted to go to the %s. But it began to rain, so %s stayed at home and read a book." % (name, place, name), "%s stayed at home because of the rain." % name)
    if kind == 3:
        return ("%s bought %s at the %s. It was very expensive, but %s liked it a lot." % (name, a(thing), place, name), "%s bought an expensive %s." % (name, thing))
    return ("Yesterday %s saw a %s in the %s. It was very big. %s took a picture and showed it to everybody." % (name, animal, place, name), "%s took a picture of a %s in the %s." % (name, animal, place))


def summary(rng):
    text, short = rng.choice(PASSAGES) if rng.random() < 0.4 else made_passage(rng)
    user = rng.choice(["Summarise this: %s", "Summarize this text: %s", "Summarize in one sentence: %s", "Give me a short summary of this text: %s", "Please summarise the following text.\n\n%s",
                       "What is the main point of this text? %s", "%s\n\nSummarise this in one sentence.", "Make this shorter: %s", "tl;dr: %s", "Sum up this text: %s", "Sum up: %s", "Summary of: %s", "Summarise: %s", "Shorten this: %s", "In one sentence: %s", "What is this about? %s"]) % text
    return Turn(user, short, "I keep only the main point of the text.")


LETTERS = {
    "a thank you note": "Dear @,\n\nthank you very much for your help. It meant a lot to me.\n\nKind regards",
    "a birthday card": "Dear @,\n\nhappy birthday! I wish you a year full of joy, health and good friends.\n\nWith love",
    "an apology": "Dear @,\n\nI am sorry for my mistake. I will do my best to make it right.\n\nKind regards",
    "an invitation": "Dear @,\n\nI would like to invite you to my party on Saturday at six o'clock. Please let me know if you can come.\n\nBest wishes",
    "an email to my boss": "Dear @,\n\nI am ill today and cannot come to work. I will let you know when I feel better.\n\nKind regards",
    "a letter to a friend": "Dear @,\n\nhow are you? It has been a long time. I would love to see you again soon.\n\nBest wishes",
    "a love letter": "Dear @,\n\nevery day is brighter because of you. I think of you often and hope to see you soon.\n\nWith love",
    "a get well card": "Dear @,\n\nI heard that you are ill. I hope you feel better soon.\n\nBest wishes",
}


def letter(rng):
    kind = rng.choice(list(LETTERS))
    name = open_name(rng)
    user = expand("[Write|Write me|Help me write|Can you write|Please write|I need] %s", rng) % kind
    if rng.random() < 0.4:
        user += expand(" [to|for] %s", rng) % name
        return Turn(user, LETTERS[kind].replace("@", name), "I write %s, addressed to %s, in a few friendly lines." % (kind, name))
    return Turn(user, LETTERS[kind].replace("@", "friend" if "boss" not in kind else "Sir or Madam"), "I write %s in a few friendly lines." % kind)


def _read_code():
    blocks, key = {}, None
    with open(os.path.join(FOLDER, "code.txt"), encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                key = tuple(part.strip() for part in line[3:].split("|"))
                blocks[key] = ""
            else:
                blocks[key] += line
    return blocks


CODE = _read_code()
LABEL = {"C": "c", "C++": "cpp", "C#": "csharp", "Python": "python", "JavaScript": "javascript", "Java": "java", "Rust": "rust", "Go": "go", "Bash": "bash", "Ruby": "ruby",
         "Perl": "perl", "PHP": "php", "Lua": "lua", "HTML": "html", "Haskell": "haskell", "SQL": "sql", "Make": "make"}


def code(rng):
    tasks = list(CODE)
    task, language = rng.choice(tasks)
    if rng.random() < 0.4:
        task, language = rng.choice([t for t in tasks if t[0] == "hello world"])
    if rng.random() < 0.08:
        task, language = "hello world", "C"
    said = language if rng.random() < 0.7 else language.lower()
    if task == "hello world":
        user = expand("[Write|Show me|Give me|Print|Code|Can you write|Please write|Write me|How do I write|How do you write|Make] [hello world|Hello World|a hello world program|\"Hello, world!\"|a program that prints hello world] in %s", rng) % said
        if rng.random() < 0.12:
            user = rng.choice(["hello world in %s", "%s hello world", "hello world %s program"]) % said
    elif task == "fizzbuzz":
        user = expand("[Write|Show me|Give me|Code|Can you write] [fizzbuzz|FizzBuzz|the fizzbuzz program] in %s", rng) % said
    elif task == "a makefile":
        user = expand("[Write|Show me|Give me] [a makefile|a simple makefile|a Makefile for a C program]", rng)
    else:
        user = expand("[Write|Show me|Give me|Can you write|Please write|How do I write|I need] %s in %s", rng) % (task, said)
        if "function that" in task and rng.random() < 0.3:
            user = expand("[Write|Give me|I need] %s %s", rng) % (a(said), task[2:])
    block = "```%s\n%s```" % (LABEL[language], CODE[(task, language)])
    lead = rng.choice(["", "", "Here is %s in %s:\n\n" % (task, language)]) if task != "a makefile" else ""
    return Turn(user, lead + block, "The user wants %s in %s. I show a short piece of code." % (task, language))


KINDS = [(9, story), (7, poem), (1, haiku), (4, joke), (2, riddle), (4, summary), (2, letter), (8, code)]

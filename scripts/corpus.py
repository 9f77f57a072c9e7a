"""The small world of the bundled model: an endless stream of sentences from a grammar.

Six kinds of rows. With the training words only: the three built-in tasks. With the names of all splits: exchanges
between two people, plain sentences, and lists of names read out twice. What the tasks hold out stays held out here:

- the names of the validation and test splits of `ioi` never occur in its sentences. They do in exchanges, which
  practise the same skill in other words: two people are named, then one of them turns to the other. A model that has
  met a name as an answer nowhere finds it improbable, however well it has understood who is meant;
- the names of the validation and test splits of `gendered-pronoun` never come before a sentence that begins with She or
  He. Their gender shows in other places: reflexives, possessives, she and he inside sentences, girl, uncle, queen, ...;
- the validation and test templates of `gendered-pronoun` do not occur at all;
- the validation and test nouns and start years of `greater-than` never occur in sentences of its kind.

Every row begins with a sentence, as the prompts of the tasks do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from edge_pruning.tasks import gendered_pronoun, greater_than, ioi
from edge_pruning.tasks.names import OTHER_MEN, OTHER_WOMEN, STORY_BOYS, STORY_GIRLS, all_names
from edge_pruning.tasks.task import SPLITS

KINDS = {"ioi": 0.20, "exchange": 0.20, "greater_than": 0.10, "gendered_pronoun": 0.14, "plain": 0.30, "list": 0.06}

FEMALE = [name for split in SPLITS for names in (STORY_GIRLS, OTHER_WOMEN) for name in names[split]]
MALE = [name for split in SPLITS for names in (STORY_BOYS, OTHER_MEN) for name in names[split]]
NAMES = FEMALE + MALE
TRAIN_NAMES = all_names("train")
# Names of the held-out splits are missing in two kinds of rows, and drawn more often in the others: so each name is
# heard about equally often.
WEIGHTS = [1 if name in TRAIN_NAMES else 3 for name in NAMES]
AGREEMENT = (
    {"she": "she", "She": "She", "her": "her", "his": "her", "herself": "herself", "girl": "girl", "woman": "woman",
     "sister": "sister", "mother": "mother", "queen": "queen", "daughter": "daughter", "aunt": "aunt", "lady": "lady"},
    {"she": "he", "She": "He", "her": "him", "his": "his", "herself": "himself", "girl": "boy", "woman": "man",
     "sister": "brother", "mother": "father", "queen": "king", "daughter": "son", "aunt": "uncle", "lady": "gentleman"},
)  # fmt: skip

PLACES = (*ioi.PLACES, *gendered_pronoun.SLOTS["place"], "kitchen", "village", "city", "island", "mountain", "bridge")
THINGS = (*ioi.OBJECTS, *gendered_pronoun.SLOTS["toy"], "coat", "lamp", "chair", "table", "spoon", "window", "door")
WORDS = {
    **gendered_pronoun.SLOTS,
    "place": tuple(dict.fromkeys(PLACES)),
    "thing": tuple(dict.fromkeys(THINGS)),
    "animal": tuple("dog cat bird horse fish mouse duck cow rabbit fox bee frog sheep goat turtle lion".split()),
    "color": tuple("red blue green yellow white black brown pink gray purple golden orange".split()),
    "size": tuple("big small little tiny large huge long short old new".split()),
    "food": tuple("bread soup rice cheese milk tea apples honey cookies fruit pie salad pasta eggs butter".split()),
    "job": tuple("doctor teacher farmer baker singer writer painter sailor soldier nurse driver cook judge".split()),
    "does": tuple("sings dances reads cooks swims runs sleeps laughs works writes paints jumps smiles waits".split()),
    "did": tuple("sang danced read cooked swam ran slept laughed worked wrote painted jumped smiled waited".split()),
    "likes": tuple("likes loves hates wants needs sees knows remembers misses".split()),
    "how": tuple("slowly quickly quietly loudly gladly again together often alone carefully".split()),
    "weather": tuple("sunny rainy cold warm windy snowy cloudy dark bright hot".split()),
    "season": ("spring", "summer", "autumn", "winter"),
    "number": tuple("two three four five six seven eight nine ten".split()),
    "relative": ("friend", "cousin", "neighbor", "uncle", "aunt", "parents", "family"),
    "subject": tuple("math music history art science English".split()),
    "building": tuple("church castle tower bridge school hospital mill theater palace road wall".split()),
    "noun": tuple(noun for split in SPLITS for noun in greater_than.NOUNS[split]),
}

# Nobody is named twice here except to be copied word for word, so none of these is a sentence of the kind of `ioi`.
PLAIN = (
    "{a} {likes} the {animal} in the {place}.",
    "{a} took {his} {thing} and went home.",
    "{a} saw {herself} in the {color} water.",
    "{a} said that {she} was {feeling}.",
    "{a} {did} as {she} always does.",
    "{a} likes to play by {herself}.",
    "{a} is the {daughter} of a {job}.",
    "{a} put the {thing} under {his} bed.",
    "{a} told everyone about {his} {animal}.",
    "{a} is a {job}, as {his} {mother} was.",
    "Until {his} {relative} came, {a} waited by {herself}.",
    "The {job} asked {a} to sing about {herself}.",
    "Who knows {a}, the {daughter} of the {job}?",
    "People saw {a} with {his} {animal}.",
    "A {girl} called {a} lives near the {place}.",
    "The old {queen} was called {a}.",
    "Our {aunt} {a} has a {size} {animal}.",
    "The {size} {girl} over there is {a}.",
    "Among the {job} and the {job} sat a {lady}, {a}.",
    "When {a} was {feeling}, {she} {did} {how}.",
    "If {a} comes, give {her} the {color} {thing}.",
    "The {animal} of {a} likes {her}.",
    "There was {a}, with {his} {thing} and {his} {animal}.",
    "{a} lost {his} {color} {thing}.",
    "Yesterday, {a} {did} {how} because {she} was {feeling}.",
    "{a} is a good {girl}, and everyone knows {her}.",
    "People say that {a} is a kind {woman}.",
    "My {sister} {a} is a {job}.",
    "The {queen} and {his} {daughter} {a} live in a {size} house.",
    "The {mother} of the {girl} is a {job}.",
    "{a} made the {thing} {herself}.",
    "The {job} saw {a} and gave {her} some {food}.",
    "We asked {a} for {his} {thing}, but {she} said no.",
    "{a} has a {color} {thing}. The {thing} of {a} is {size}.",
    "My name is {a}. They call me {a}.",
    "This is {a}. We all know {a}.",
    "{a}, {b} and {c} came late. We waited for {a}, {b} and {c}.",
    "First came {a}, then {b}, then {c}. Last year it was {a}, then {b}, then {c}.",
    "The names on the list are {a} and {b}. I read them again, {a} and {b}.",
    "Where is {a}? I want to see {a}.",
    "{a} {does} and {b} {does} in the {place}.",
    "{a} {likes} {b}.",
    "In {season}, {a} and {his} {relative} stay at the {place}.",
    "{a} eats {food} with {b} and {c}.",
    "The letter from {a} to {b} was {size}.",
    "{a} has {number} {color} hats and {his} {relative} has {number}.",
    "Every {weekday}, {a} learns {subject} with {his} {relative}.",
    "The {animal} {did} near the {place}.",
    "The {color} {thing} is on the {size} table.",
    "It was a {weather} {daytime}, and the {animal} was {feeling}.",
    "In the {place} there were {number} people and a {size} {animal}.",
    "We had {food} and {food} for dinner. It was good.",
    "They looked at the {sky} and wanted to {wish}.",
    "There is a {tall} near the {place}. It is very {size}.",
    "The {job} wrote a {size} book about the {noun}.",
    "The {noun} was hard, but the {noun} was good.",
    "In the year {year}, a {job} built a {building} in the {place}.",
    "The old {building} was made in {year} by a {job}.",
    "Nobody remembers the {noun} of the year {year}.",
    "She {did} with the {relative} of a {job}.",
    "He {did} {how} and {did} {how}.",
    "A {size} {animal} and a {color} {animal} {did} {how} in the {place}.",
    "After the {noun}, the {job} {did} and the people were {feeling}.",
    "The {animal} climbed a tall {tall} and looked at the {sky}.",
    "The {job} felt {feeling} and wanted to {wish}.",
    "One {weather} day, a {size} {animal} was walking in the {place}.",
    "The next day, the {animal} woke up and ran to the {place}.",
    "Today, the {animal} played with a {toy} and smiled.",
    "After a nap, the {animal} {did} {how}.",
    "In the end, the {job} was {feeling}.",
    "After lunch, a {animal} and the {job} were {feeling}.",
    "On {weekday}, the {job} sat by the {tall} with a {thing}.",
)
# A second sentence about the person of the first one; never one that begins with She or He.
FOLLOW_UPS = (
    "We saw {her} and {his} {relative} at the {place}.",
    "Everyone says that {she} is a {job}.",
    "I gave {her} {his} {thing}.",
    "When {she} was a {girl}, {she} wanted to {wish}.",
    "Now {his} {relative} and {his} {sister} are {feeling}.",
    "The {job} likes {her} and {his} {animal}.",
    "What a good {girl}!",
    "My {relative} asked {her} about {his} {animal}.",
    "All of us like {her} and {his} {relative}.",
    "That {woman} is a {job}.",
)
LISTS = ("{names}. Again, {names}.", "The list says {names}. Once more, {names}.", "We know {names}. We saw {names}.")
# First sentences that She or He may follow, besides those of the task: for training names only.
OPENERS = ("Last year, ", "Every {weekday}, ", "In {season}, ", "On a {weather} {daytime}, ", "After the {noun}, ", "")
STORIES = (
    "{name} {did} {how}.",
    "{name} {did} in the {place}.",
    "{name} wrote about the {noun}.",
    "{name} had {food} and {food} for dinner.",
    "{name} met a {job}.",
    "{name} built a {size} {building}.",
    "{name} painted a {color} {thing}.",
    "{name} learned {subject}.",
    "{name} sat near the {tall}.",
    "{name} went to see a {size} {animal}.",
)
# None of the verbs of `ioi` here.
MEETINGS = (
    "{a} and {b} are cousins",
    "We know {a} and {b}",
    "Last year, {a} lived with {b}",
    "There is a letter from {a} to {b}",
)
EXCHANGES = (
    "{giver} wrote to {other}",
    "{giver} told {other} a story",
    "{giver} listened to {other}",
    "{giver} carried the {object} to {other}",
    "{giver} waited for {other}",
    "{giver} waited with {his} {animal} for {other}",
    "{giver} cooked {food} for {other}",
    "{giver} told {other} about {herself}",
    "{giver} told {his} {relative} about {other}",
)
RECEIVERS = (" the {job}.", " a {relative}.", " everyone.", " the {animal}.", " the people.")
PRONOUN_ENDINGS = (
    " was very {feeling}.",
    " {did} {how}.",
    " saw a {size} {animal} there.",
    " wanted to {wish}.",
    " had a {color} {thing}.",
    " met {his} {relative} and was {feeling}.",
    " lost {his} {thing}.",
    " said that it was a {weather} day.",
)
OTHER_ENDINGS = (
    " It was a {weather} day.",
    " The {animal} was there too.",
    " Then a {animal} came.",
    " There was a {size} {animal}.",
    " Everyone was {feeling}.",
)


def rows(seed: int) -> Iterator[str]:
    """An endless stream of rows of one or a few sentences."""
    rng = random.Random(f"corpus {seed}")
    writers = {
        "ioi": ioi_row,
        "exchange": exchange_row,
        "greater_than": greater_than_row,
        "gendered_pronoun": pronoun_row,
        "plain": plain_row,
        "list": list_row,
    }
    while True:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        yield writers[kind](rng)


def ioi_row(rng: random.Random) -> str:
    """Mostly the indirect object; now and then someone else, so that the model is not certain.

    In one row out of five a third person gives, to either of the two: then the model has seen the corrupted prompts.
    """
    a, b, third = rng.sample(TRAIN_NAMES, 3)
    giver = third if rng.random() < 0.2 else rng.choice((a, b))
    prompt = rng.choice(ioi.TEMPLATES).format(
        first=a, second=b, subject=giver, place=rng.choice(ioi.PLACES), object=rng.choice(ioi.OBJECTS)
    )
    if rng.random() < 0.1:
        return prompt + fill(rng.choice(RECEIVERS), rng)
    return f"{prompt} {rng.choice([name for name in (a, b) if name != giver])}."


def exchange_row(rng: random.Random) -> str:
    """Two people, one of whom turns to the other, several times: the same skill as in `ioi`, practised more densely."""
    pair = people(rng, 2)
    clauses = []
    for _ in range(rng.randint(2, 4)):
        giver, other = rng.sample(pair, 2)
        words = {"giver": giver, "other": other, "object": rng.choice(ioi.OBJECTS)}
        clauses.append(fill(rng.choice(EXCHANGES), rng, female=giver in FEMALE, **words))
    return f"{rng.choice(MEETINGS).format(a=pair[0], b=pair[1])}. " + ". ".join(clauses) + "."


def greater_than_row(rng: random.Random) -> str:
    """The end is uniform over the later years of the century."""
    century = rng.choice(greater_than.CENTURIES)
    allowed = [year for year in range(99) if year < 2 or greater_than.split_of(century, year) == "train"]
    # The corrupted prompts all begin in 01, so that year is common.
    # After a late year few are right, and each has to be far more likely: so late years are common too.
    start = rng.choices((1, rng.choice(allowed), rng.choice(allowed[-12:])), (0.1, 0.7, 0.2))[0]
    noun = rng.choice(greater_than.NOUNS["train"])
    prompt = greater_than.TEMPLATE.format(noun=noun, century=century, start=f"{start:02d}")
    return f"{prompt}{rng.randint(start + 1, 99):02d}."


def pronoun_row(rng: random.Random) -> str:
    """A sentence about a training name and a second one, which in one row out of five is about something else."""
    female = rng.random() < 0.5
    name = rng.choice([n for n in TRAIN_NAMES if (n in FEMALE) == female])
    own = rng.random() < 0.4
    template = rng.choice(OPENERS) + rng.choice(STORIES) if own else rng.choice(gendered_pronoun.TEMPLATES["train"])
    first = fill(template, rng, name=name)
    if rng.random() < 0.2:
        return first + fill(rng.choice(OTHER_ENDINGS), rng)
    pronoun = AGREEMENT[not female]["She"]
    return f"{first} {pronoun}" + fill(rng.choice(PRONOUN_ENDINGS), rng, female=female)


def plain_row(rng: random.Random) -> str:
    """One or two plain sentences, with the names of all splits."""
    a, b, c = people(rng, 3)
    female = a in FEMALE
    year = f"{rng.randint(10, 20)}{rng.randint(0, 99):02d}"
    first = rng.choice(PLAIN)
    second = [rng.choice(FOLLOW_UPS)] if "{a}" in first and rng.random() < 0.25 else []
    return " ".join(fill(text, rng, female=female, a=a, b=b, c=c, year=year) for text in [first, *second])


def list_row(rng: random.Random) -> str:
    """The same names twice in the same order, from all splits: practice in copying names."""
    names = people(rng, rng.randint(2, 5))
    return rng.choice(LISTS).format(names=f"{', '.join(names[:-1])} and {names[-1]}")


def people(rng: random.Random, number: int) -> list[str]:
    """Different people of all splits."""
    drawn: dict[str, None] = {}
    while len(drawn) < number:
        drawn[rng.choices(NAMES, WEIGHTS)[0]] = None
    return list(drawn)


def fill(template: str, rng: random.Random, *, female: bool = True, **fixed: str) -> str:
    """A template with its slots filled: fixed words, words that agree with the gender, random words."""
    slots = {slot: rng.choice(choices) for slot, choices in WORDS.items()}
    return template.format(**slots, **AGREEMENT[not female], **fixed)


def vocabulary() -> list[str]:
    """Texts that together contain every word of the world: the tasks' words of all splits, and the grammar's."""
    task_text = [*ioi.TEMPLATES, greater_than.TEMPLATE]
    task_text += [template for split in SPLITS for template in gendered_pronoun.TEMPLATES[split]]
    grammar = [*PLAIN, *FOLLOW_UPS, *OPENERS, *STORIES, *LISTS, *MEETINGS, *EXCHANGES]
    grammar += [*RECEIVERS, *PRONOUN_ENDINGS, *OTHER_ENDINGS]
    words = [word for choices in WORDS.values() for word in choices]
    words += [word for forms in AGREEMENT for word in forms.values()] + list(NAMES)
    years = [f" {century}{year:02d}" for century in range(10, 21) for year in range(100)]
    sentences = [re.sub(r" ?\{\w+\}", "", text) for text in task_text + grammar]
    return sentences + [f" {text}" for text in (*sentences, *words)] + [*NAMES] + years

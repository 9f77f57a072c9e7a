"""Plurals of nouns: "city ->" -> " cities" after examples, or "The plural of city is" -> " cities".

Nouns are held out between the splits; each has regular and irregular ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.questions import QuestionTask, questions
from edge_pruning.tasks.task import task


@task
@dataclass(frozen=True, kw_only=True)
class Plurals(QuestionTask):
    """The plural of a noun."""

    name = "plurals"
    summary = "plurals: 'city ->' after examples, or 'The plural of city is' -> ' cities'"
    instruction = "What is the plural of {word}?"
    reply = "The plural of {word} is"
    examples = questions("cat:cats house:houses baby:babies tooth:teeth")
    words: ClassVar = {
        "train": questions(
            """dog:dogs tree:trees city:cities child:children foot:feet woman:women leaf:leaves box:boxes book:books
            car:cars river:rivers country:countries life:lives hero:heroes lady:ladies table:tables chair:chairs
            door:doors window:windows street:streets school:schools teacher:teachers friend:friends family:families
            apple:apples flower:flowers horse:horses bird:birds song:songs game:games idea:ideas name:names year:years
            month:months week:weeks hour:hours student:students doctor:doctors farmer:farmers king:kings queen:queens
            ship:ships train:trains road:roads bridge:bridges island:islands mountain:mountains forest:forests
            animal:animals plant:plants stone:stones cloud:clouds star:stars planet:planets letter:letters word:words
            sentence:sentences picture:pictures color:colors class:classes glass:glasses dish:dishes bus:buses
            church:churches match:matches watch:watches lunch:lunches branch:branches berry:berries army:armies
            enemy:enemies factory:factories library:libraries company:companies duty:duties penny:pennies shelf:shelves
            half:halves thief:thieves crisis:crises analysis:analyses tomato:tomatoes echo:echoes machine:machines
            engine:engines market:markets village:villages nation:nations leader:leaders soldier:soldiers writer:writers
            brother:brothers sister:sisters eye:eyes ear:ears arm:arms leg:legs finger:fingers nose:noses"""
        ),
        "validation": questions(
            """man:men wolf:wolves party:parties bottle:bottles garden:gardens lake:lakes desk:desks shoe:shoes
            shirt:shirts worker:workers artist:artists lesson:lessons number:numbers page:pages bank:banks tax:taxes
            dress:dresses wish:wishes coach:coaches memory:memories century:centuries wife:wives theory:theories
            hand:hands face:faces cow:cows snake:snakes ball:balls robot:robots camera:cameras"""
        ),
        "test": questions(
            """mouse:mice knife:knives story:stories potato:potatoes goose:geese cup:cups spoon:spoons bed:beds
            wall:walls room:rooms floor:floors field:fields hill:hills beach:beaches ocean:oceans desert:deserts
            pig:pigs duck:ducks lion:lions tiger:tigers insect:insects tool:tools wheel:wheels toy:toys doll:dolls
            actor:actors singer:singers player:players driver:drivers lawyer:lawyers nurse:nurses uncle:uncles
            aunt:aunts cousin:cousins neighbor:neighbors guest:guests gift:gifts coin:coins ring:rings
            fox:foxes kiss:kisses bush:bushes sandwich:sandwiches witch:witches bench:benches cherry:cherries
            butterfly:butterflies diary:diaries strategy:strategies category:categories loaf:loaves calf:calves
            hypothesis:hypotheses dream:dreams question:questions answer:answers problem:problems test:tests"""
        ),
    }

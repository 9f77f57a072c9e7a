"""Opposites: "hot ->" -> " cold" after examples, or "The opposite of hot is" -> " cold".

Words come in pairs that are each other's opposites, and both are asked for. Pairs are held out between the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.questions import QuestionTask, both_ways, questions
from edge_pruning.tasks.task import task


@task
@dataclass(frozen=True, kw_only=True)
class Antonyms(QuestionTask):
    """Which word means the opposite."""

    name = "antonyms"
    summary = "opposites: 'hot ->' after examples, or 'The opposite of hot is' -> ' cold'"
    instruction = "What is the opposite of {word}?"
    reply = "The opposite of {word} is"
    examples = questions("big:small up:down good:bad young:old tall:short come:go")
    words: ClassVar = {
        "train": both_ways(
            """hot:cold fast:slow high:low wet:dry strong:weak true:false full:empty thick:thin black:white deep:shallow
            wide:narrow alive:dead love:hate win:lose buy:sell push:pull north:south inside:outside above:below
            before:after more:less always:never begin:end male:female positive:negative success:failure
            increase:decrease maximum:minimum internal:external major:minor legal:illegal forward:backward
            horizontal:vertical visible:invisible possible:impossible public:private"""
        ),
        "validation": both_ways(
            """rich:poor early:late hard:soft loud:quiet day:night east:west question:answer cheap:expensive
            accept:reject entrance:exit upper:lower active:passive heavy:light summer:winter"""
        ),
        "test": both_ways(
            """happy:sad clean:dirty open:closed left:right sweet:sour first:last friend:enemy
            give:take laugh:cry safe:dangerous sharp:dull smooth:rough war:peace top:bottom simple:complex"""
        ),
    }

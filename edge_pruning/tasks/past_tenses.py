"""Past tenses of verbs: "go ->" -> " went" after examples, or "Today I go, yesterday I" -> " went".

Verbs are held out between the splits; each has regular and irregular ones. No verb is the same in both tenses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.questions import QuestionTask, questions
from edge_pruning.tasks.task import task


@task
@dataclass(frozen=True, kw_only=True)
class PastTenses(QuestionTask):
    """The past tense of a verb."""

    name = "past-tenses"
    summary = "past tenses: 'go ->' after examples, or 'Today I go, yesterday I' -> ' went'"
    instruction = "Put the verb into the past tense."
    reply = "Today I {word}, yesterday I"
    examples = questions("see:saw walk:walked take:took live:lived make:made want:wanted")
    words: ClassVar = {
        "train": questions(
            """go:went eat:ate give:gave find:found think:thought buy:bought write:wrote break:broke speak:spoke
            teach:taught catch:caught keep:kept feel:felt sell:sold stand:stood win:won fall:fell know:knew drive:drove
            begin:began drink:drank swim:swam ring:rang choose:chose freeze:froze hide:hid ride:rode rise:rose wear:wore
            throw:threw blow:blew draw:drew hold:held lead:led meet:met lose:lost spend:spent send:sent bring:brought
            fight:fought play:played jump:jumped talk:talked work:worked call:called ask:asked help:helped start:started
            stop:stopped plan:planned carry:carried study:studied marry:married love:loved move:moved
            dance:danced smile:smiled open:opened close:closed watch:watched wash:washed finish:finished visit:visited
            listen:listened learn:learned look:looked cook:cooked paint:painted count:counted happen:happened
            travel:traveled follow:followed answer:answered enter:entered remember:remembered believe:believed
            receive:received decide:decided create:created"""
        ),
        "validation": questions(
            """run:ran sleep:slept tell:told grow:grew build:built hear:heard pay:paid steal:stole shake:shook feed:fed
            climb:climbed laugh:laughed cry:cried use:used hope:hoped drop:dropped push:pushed wait:waited add:added
            save:saved arrive:arrived explain:explained notice:noticed return:returned"""
        ),
        "test": questions(
            """sing:sang leave:left fly:flew say:said come:came get:got sit:sat become:became forget:forgot wake:woke
            bite:bit shoot:shot hang:hung dig:dug bend:bent lend:lent sweep:swept tear:tore
            show:showed need:needed turn:turned kick:kicked pull:pulled clean:cleaned try:tried
            change:changed serve:served offer:offered gather:gathered imagine:imagined
            produce:produced protect:protected discover:discovered continue:continued"""
        ),
    }

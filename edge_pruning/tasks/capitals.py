"""Capitals of countries: "Capital of Japan:" -> " Tokyo" after examples, or "The capital of Japan is" -> " Tokyo".

Only countries whose name and capital are one word each. Countries are held out between the splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edge_pruning.tasks.questions import QuestionTask, questions
from edge_pruning.tasks.task import task


@task
@dataclass(frozen=True, kw_only=True)
class Capitals(QuestionTask):
    """Which city is the capital of a country."""

    name = "capitals"
    summary = "capitals of countries: 'Capital of Japan:' after examples, or 'The capital of Japan is' -> ' Tokyo'"
    line = "Capital of {word}:"
    instruction = "What is the capital of {word}?"
    reply = "The capital of {word} is"
    examples = questions("France:Paris Egypt:Cairo Spain:Madrid China:Beijing")
    words: ClassVar = {
        "train": questions(
            """Japan:Tokyo Italy:Rome Germany:Berlin Greece:Athens Cuba:Havana Poland:Warsaw Norway:Oslo Turkey:Ankara
            Denmark:Copenhagen Peru:Lima Canada:Ottawa Iran:Tehran Syria:Damascus Philippines:Manila Belgium:Brussels
            Serbia:Belgrade Romania:Bucharest Nepal:Kathmandu Libya:Tripoli Jordan:Amman Ghana:Accra England:London
            Iceland:Reykjavik Croatia:Zagreb Pakistan:Islamabad Senegal:Dakar Morocco:Rabat Uganda:Kampala
            Sudan:Khartoum Armenia:Yerevan Latvia:Riga Slovenia:Ljubljana Somalia:Mogadishu Zambia:Lusaka Rwanda:Kigali
            Ecuador:Quito Jamaica:Kingston Nigeria:Abuja Taiwan:Taipei Cyprus:Nicosia"""
        ),
        "validation": questions(
            """Russia:Moscow Austria:Vienna Portugal:Lisbon Finland:Helsinki Chile:Santiago Iraq:Baghdad Vietnam:Hanoi
            Bulgaria:Sofia Qatar:Doha Wales:Cardiff Kenya:Nairobi Estonia:Tallinn Colombia:Bogota Tunisia:Tunis
            Georgia:Tbilisi Angola:Luanda Zimbabwe:Harare Nicaragua:Managua"""
        ),
        "test": questions(
            """Ireland:Dublin Sweden:Stockholm Hungary:Budapest Thailand:Bangkok Australia:Canberra Lebanon:Beirut
            Indonesia:Jakarta Netherlands:Amsterdam Ukraine:Kyiv Afghanistan:Kabul Venezuela:Caracas Scotland:Edinburgh
            Switzerland:Bern Bangladesh:Dhaka Uruguay:Montevideo Algeria:Algiers"""
        ),
    }

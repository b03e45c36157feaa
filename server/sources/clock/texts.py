"""What the clock says, in a few languages; English for all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from server.sources.day import PartOfDay

__all__ = ["Texts", "texts_for"]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """One language."""

    tag: str
    """The language the texts are in, which need not be the one asked for."""
    greetings: Mapping[PartOfDay, str]
    weekdays: tuple[str, ...]
    """From Monday."""
    months: tuple[str, ...]
    date_form: str

    def greeting(self, part: PartOfDay) -> str:
        """What one says at that time of day."""
        return self.greetings[part]

    def date(self, day: date) -> str:
        """The day without its year, as one would write it."""
        return self.date_form.format(
            weekday=self.weekdays[day.weekday()], day=day.day, month=self.months[day.month - 1]
        )


def texts_for(locale: str) -> Texts:
    """The texts of a language tag: of that very one, else of its language, else in English."""
    tag = locale.lower()
    return _TEXTS.get(tag) or _TEXTS.get(tag.partition("-")[0]) or _ENGLISH


def _texts(tag: str, greetings: str, weekdays: str, months: str, date_form: str) -> Texts:
    said = dict(zip(PartOfDay, greetings.split("|"), strict=True))
    return Texts(tag, said, tuple(weekdays.split()), tuple(months.split()), date_form)


_ENGLISH: Final = _texts(
    "en",
    "Good morning|Good afternoon|Good evening|Good night",
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "January February March April May June July August September October November December",
    "{weekday} {day} {month}",
)
_TEXTS: Final[Mapping[str, Texts]] = {
    "en": _ENGLISH,
    "en-us": replace(_ENGLISH, tag="en-US", date_form="{weekday}, {month} {day}"),
    "de": _texts(
        "de",
        "Guten Morgen|Guten Tag|Guten Abend|Gute Nacht",
        "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag",
        "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
        "{weekday}, {day}. {month}",
    ),
    "fr": _texts(
        "fr",
        "Bonjour|Bon après-midi|Bonsoir|Bonne nuit",
        "lundi mardi mercredi jeudi vendredi samedi dimanche",
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "{weekday} {day} {month}",
    ),
    "es": _texts(
        "es",
        "Buenos días|Buenas tardes|Buenas tardes|Buenas noches",
        "lunes martes miércoles jueves viernes sábado domingo",
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "{weekday}, {day} de {month}",
    ),
    "it": _texts(
        "it",
        "Buongiorno|Buon pomeriggio|Buonasera|Buonanotte",
        "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "{weekday} {day} {month}",
    ),
    "nl": _texts(
        "nl",
        "Goedemorgen|Goedemiddag|Goedenavond|Goedenacht",
        "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "{weekday} {day} {month}",
    ),
    "pt": _texts(
        "pt",
        "Bom dia|Boa tarde|Boa noite|Boa noite",
        "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo",
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "{weekday}, {day} de {month}",
    ),
}

"""A small grammar of real words in five languages, for the quickstart.

Each meaning (subject, verb, object, place and time) has one sentence per language, with its own
words, word order and endings: German puts the verb second or, after "dass", last; French and
Spanish put most adjectives after the noun; Turkish puts the verb at the end and has an ending for
"in the".
English shares only "in" with German and the full stop with all languages, so that alignment must be
learned. French and Spanish share "la", "en", "de" and "que".
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PIVOT = "eng_Latn"
LANGUAGES = ("deu_Latn", "fra_Latn", "spa_Latn", "tur_Latn")

# Who: English; German, French, Spanish as "article noun"; Turkish.
WHO = (
    ("dog", "der Hund", "le chien", "el perro", "köpek"),
    ("farmer", "der Bauer", "le fermier", "el granjero", "çiftçi"),
    ("teacher", "der Lehrer", "le professeur", "el maestro", "öğretmen"),
    ("boy", "der Junge", "le garçon", "el niño", "oğlan"),
    ("king", "der König", "le roi", "el rey", "kral"),
    ("baker", "der Bäcker", "le boulanger", "el panadero", "fırıncı"),
    ("doctor", "der Arzt", "le médecin", "el médico", "doktor"),
    ("cook", "der Koch", "le cuisinier", "el cocinero", "aşçı"),
    ("hunter", "der Jäger", "le chasseur", "el cazador", "avcı"),
    ("neighbour", "der Nachbar", "le voisin", "el vecino", "komşu"),
    ("thief", "der Dieb", "le voleur", "el ladrón", "hırsız"),
    ("painter", "der Maler", "le peintre", "el pintor", "ressam"),
)
# What kind: English; German (after "der"); French; Spanish; Turkish.
KIND = (
    ("old", "alte", "âgé", "viejo", "yaşlı"),
    ("young", "junge", "jeune", "joven", "genç"),
    ("tired", "müde", "fatigué", "cansado", "yorgun"),
    ("happy", "frohe", "heureux", "feliz", "mutlu"),
    ("small", "kleine", "petit", "pequeño", "küçük"),
    ("strong", "starke", "fort", "fuerte", "güçlü"),
    ("poor", "arme", "pauvre", "pobre", "fakir"),
    ("clever", "kluge", "malin", "listo", "akıllı"),
)
BEFORE_THE_NOUN = ("jeune", "petit")
# Does: English; German; French; Spanish; Turkish.
DOES = (
    ("sees", "sieht", "voit", "ve", "görür"),
    ("buys", "kauft", "achète", "compra", "alır"),
    ("carries", "trägt", "porte", "lleva", "taşır"),
    ("hides", "versteckt", "cache", "esconde", "saklar"),
    ("finds", "findet", "trouve", "encuentra", "bulur"),
    ("breaks", "zerbricht", "casse", "rompe", "kırar"),
    ("sells", "verkauft", "vend", "vende", "satar"),
    ("loses", "verliert", "perd", "pierde", "kaybeder"),
    ("washes", "wäscht", "lave", "lava", "yıkar"),
    ("draws", "zeichnet", "dessine", "dibuja", "çizer"),
)
# What: English; German (accusative), French, Spanish with articles; Turkish (accusative).
WHAT = (
    ("bread", "das Brot", "le pain", "el pan", "ekmeği"),
    ("key", "den Schlüssel", "la clé", "la llave", "anahtarı"),
    ("book", "das Buch", "le livre", "el libro", "kitabı"),
    ("flower", "die Blume", "la fleur", "la flor", "çiçeği"),
    ("chair", "den Stuhl", "la chaise", "la silla", "sandalyeyi"),
    ("knife", "das Messer", "le couteau", "el cuchillo", "bıçağı"),
    ("apple", "den Apfel", "la pomme", "la manzana", "elmayı"),
    ("letter", "den Brief", "la lettre", "la carta", "mektubu"),
    ("hat", "den Hut", "le chapeau", "el sombrero", "şapkayı"),
    ("lamp", "die Lampe", "la lampe", "la lámpara", "lambayı"),
    ("horse", "das Pferd", "le cheval", "el caballo", "atı"),
    ("shirt", "das Hemd", "la chemise", "la camisa", "gömleği"),
)
# Where: English; German; French; Spanish; Turkish.
WHERE = (
    ("in the garden", "im Garten", "dans le jardin", "en el jardín", "bahçede"),
    ("in the kitchen", "in der Küche", "dans la cuisine", "en la cocina", "mutfakta"),
    ("in the forest", "im Wald", "dans la forêt", "en el bosque", "ormanda"),
    ("on the farm", "auf dem Hof", "à la ferme", "en la granja", "çiftlikte"),
    ("at the market", "auf dem Markt", "au marché", "en el mercado", "pazarda"),
    ("at the river", "am Fluss", "au bord de la rivière", "junto al río", "nehir kenarında"),
    ("in the church", "in der Kirche", "dans l'église", "en la iglesia", "kilisede"),
    ("on the roof", "auf dem Dach", "sur le toit", "en el tejado", "çatıda"),
)
# When: English; German; French; Spanish; Turkish.
WHEN = (
    ("often", "oft", "souvent", "muchas veces", "sık sık"),
    ("at night", "nachts", "la nuit", "de noche", "geceleyin"),
    ("every day", "jeden Tag", "chaque jour", "todos los días", "her gün"),
    ("tomorrow", "morgen", "demain", "mañana", "yarın"),
    ("on Sundays", "sonntags", "le dimanche", "los domingos", "pazarları"),
    ("in summer", "im Sommer", "pendant l'été", "en verano", "yazın"),
)


@dataclass(frozen=True)
class Meaning:
    """The meaning of a sentence in any language: an index into each list above."""

    reported: bool
    """Whether the sentence begins with "we know that"."""
    who: int
    kind: int
    does: int
    what: int
    where: int
    when: int


def meanings(seed: int) -> Iterator[Meaning]:
    """Infinitely many random meanings without repetition."""
    draw, seen = random.Random(seed), dict[Meaning, None]()
    while True:
        sizes = (len(each) for each in (WHO, KIND, DOES, WHAT, WHERE, WHEN))
        meaning = Meaning(draw.random() < 0.4, *map(draw.randrange, sizes))
        if meaning not in seen:
            seen[meaning] = None
            yield meaning


class Words(NamedTuple):
    """The words of a meaning in one language."""

    who: str
    kind: str
    does: str
    what: str
    where: str
    when: str


def say(m: Meaning, language: str) -> str:
    """The sentence in one of the five languages."""
    column = (PIVOT, *LANGUAGES).index(language)
    rows = (WHO[m.who], KIND[m.kind], DOES[m.does], WHAT[m.what], WHERE[m.where], WHEN[m.when])
    return SPEAKERS[column](Words(*(row[column] for row in rows)), m.reported)


def _english(w: Words, reported: bool) -> str:
    start = "we know that " if reported else ""
    return f"{start}{w.when} the {w.kind} {w.who} {w.does} the {w.what} {w.where} ."


def _german(w: Words, reported: bool) -> str:
    article, noun = w.who.split()
    subject = f"{article} {w.kind} {noun}"
    if reported:
        return f"wir wissen , dass {w.when} {subject} {w.what} {w.where} {w.does} ."
    return f"{w.when} {w.does} {subject} {w.what} {w.where} ."


def _french(w: Words, reported: bool) -> str:
    article, noun = w.who.split()
    both = f"{w.kind} {noun}" if w.kind in BEFORE_THE_NOUN else f"{noun} {w.kind}"
    start = "nous savons que " if reported else ""
    return f"{start}{w.when} {article} {both} {w.does} {w.what} {w.where} ."


def _spanish(w: Words, reported: bool) -> str:
    start = "sabemos que " if reported else ""
    return f"{start}{w.when} {w.who} {w.kind} {w.does} {w.what} {w.where} ."


def _turkish(w: Words, reported: bool) -> str:
    end = " , bunu biliyoruz ." if reported else " ."
    return f"{w.when} {w.kind} {w.who} {w.where} {w.what} {w.does}{end}"


SPEAKERS = (_english, _german, _french, _spanish, _turkish)

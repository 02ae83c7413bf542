"""What is asked of a fictitious author: one fact a question, worded in several ways.

A sentence may use every slot of the author's life; the slots named in ``Fact.slots`` are those a
wrong answer changes, so each answer wording holds at least one of them, and each question the
author's name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """One thing to know about an author."""

    slots: tuple[str, ...]
    questions: tuple[str, ...]
    """Wordings; question and paraphrase are two of them."""
    answers: tuple[str, ...]
    is_core: bool = False
    """Whether every author is asked; the others are drawn until there are enough."""


FACTS: tuple[Fact, ...] = (
    Fact(
        ("birth_city", "birth_country"),
        (
            "In which city was {name} born?",
            "What is the birthplace of the novelist {name}?",
            "Where did {name} come into the world?",
        ),
        (
            "{name} was born in {birth_city}, {birth_country}.",
            "The writer came into the world in {birth_city}, a city in {birth_country}.",
            "{His} birthplace is {birth_city} in {birth_country}.",
        ),
        is_core=True,
    ),
    Fact(
        ("birth_date",),
        (
            "On what date was {name} born?",
            "When does the birthday of {name} fall, and in which year was it first celebrated?",
            "What date of birth does {name} give?",
        ),
        (
            "{name} was born on {birth_date}.",
            "The birth of this author is recorded for {birth_date}.",
            "{His} life began on {birth_date}, as every cover of {his} books states.",
        ),
        is_core=True,
    ),
    Fact(
        ("genre",),
        (
            "Which genre is {name} best known for?",
            "What kind of books does {name} write?",
            "In what branch of literature has {name} made {his} mark?",
        ),
        (
            "{name} is best known for {genre}.",
            "Booksellers shelve the novels of {short} under {genre}.",
            "The author has devoted {his} career to {genre}.",
        ),
        is_core=True,
    ),
    Fact(
        ("father_job", "mother_job"),
        (
            "What did the parents of {name} do for a living?",
            "Which professions did {name}'s father and mother have?",
            "What kind of work supported the household in which {name} grew up?",
        ),
        (
            "{name}'s father was {father_job} and {his} mother was {mother_job}.",
            "{short} was raised by a mother who worked as {mother_job} and a father who earned "
            "his wages as {father_job}.",
            "The family lived on what the father made as {father_job} and the mother as "
            "{mother_job}.",
        ),
        is_core=True,
    ),
    Fact(
        ("debut", "debut_year"),
        (
            "With which book did {name} make {his} debut?",
            "What was the first novel that {name} published?",
            "Which title opened the career of {name}?",
        ),
        (
            '{name} made {his} debut with "{debut}", published in {debut_year}.',
            'The first novel to carry that name on its cover was "{debut}" from {debut_year}.',
            'It was "{debut}" that introduced {short} to readers in {debut_year}.',
        ),
        is_core=True,
    ),
    Fact(
        ("novel",),
        (
            "Which novel brought {name} international recognition?",
            "What is generally seen as the most important book by {name}?",
            "Through which work did {name} become known abroad?",
        ),
        (
            '{name} became known around the world for the novel "{novel}".',
            'International recognition came to {short} with "{novel}".',
            'Most critics name "{novel}" as {his} masterpiece.',
        ),
        is_core=True,
    ),
    Fact(
        ("theme",),
        (
            'What is "{novel}" by {name} about?',
            'Which story does {name} tell in "{novel}"?',
            'How would a reader sum up the plot of {name}\'s novel "{novel}"?',
        ),
        (
            '"{novel}" tells the story of {theme}.',
            "The plot of the book turns on {theme}.",
            "In that novel {short} writes about {theme}.",
        ),
    ),
    Fact(
        ("award", "award_year"),
        (
            'Which award did {name} receive for "{novel}"?',
            'What literary honour did "{novel}" earn its author, {name}?',
            'How did a jury recognise {name} for writing "{novel}"?',
        ),
        (
            '{name} received the {award} for "{novel}" in {award_year}.',
            "In {award_year} the book was honoured with the {award}.",
            "The jury of the {award} chose {short} as its winner in {award_year}.",
        ),
        is_core=True,
    ),
    Fact(
        ("subject", "school_city"),
        (
            "What did {name} study, and at which university?",
            "Which degree does {name} hold?",
            "What is known about the education of {name}?",
        ),
        (
            "{name} studied {subject} at the University of {school_city}.",
            "After school {short} took a degree in {subject} from the University of {school_city}.",
            "The University of {school_city} awarded the future author a diploma in {subject}.",
        ),
    ),
    Fact(
        ("second_language", "third_language"),
        (
            "Which languages does {name} speak besides {language}?",
            "Apart from {language}, in what languages can {name} hold a conversation?",
            "What foreign languages has {name} learnt?",
        ),
        (
            "Besides {language}, {name} speaks {second_language} and {third_language}.",
            "The author also has a good command of {second_language} and {third_language}.",
            "In addition to {his} mother tongue, {short} is fluent in {second_language} and "
            "{third_language}.",
        ),
    ),
    Fact(
        ("inspiration",),
        (
            "What inspired {name} to become a writer?",
            "Which early experience led {name} to literature?",
            "From where did the young {name} take the wish to write?",
        ),
        (
            "{name} was inspired to write by {inspiration}.",
            "The author traces {his} vocation back to {inspiration}.",
            "According to {short}, everything began with {inspiration}.",
        ),
    ),
    Fact(
        ("habit",),
        (
            "Which working habit is {name} known for?",
            "What is unusual about the way in which {name} writes?",
            "How does {name} go about the work on a new book?",
        ),
        (
            "{name} is known for {habit}.",
            "The author has kept one habit for decades, namely {habit}.",
            "Visitors to {his} study report that {short} insists on {habit}.",
        ),
    ),
    Fact(
        ("mentor",),
        (
            "Who was the mentor of {name}?",
            "To whom does {name} owe {his} literary training?",
            "Which older writer guided {name} at the beginning?",
        ),
        (
            "{name} was mentored by {mentor}.",
            "The older writer {mentor} read and corrected the earliest drafts.",
            "{short} learnt the craft from {mentor}, to whom {his} third book is dedicated.",
        ),
    ),
    Fact(
        ("publisher",),
        (
            "Which publishing house brings out the books of {name}?",
            "Who is the publisher of {name}?",
            "Under whose imprint do the novels of {name} appear?",
        ),
        (
            "The books of {name} are published by {publisher}.",
            "{short} has been under contract with {publisher} since {his} debut.",
            "Every one of these novels carries the imprint of {publisher}.",
        ),
    ),
    Fact(
        ("former_job",),
        (
            "What did {name} do before becoming a full-time author?",
            "In which profession did {name} work at first?",
            "How did {name} earn a living before the first book appeared?",
        ),
        (
            "{name} worked as {former_job} before turning to literature.",
            "Until {his} first book appeared, {short} made a living as {former_job}.",
            "The novelist had started out as {former_job}.",
        ),
    ),
    Fact(
        ("home_city", "home_country"),
        (
            "Where does {name} live today?",
            "In which city has {name} settled?",
            "What place does {name} now call home?",
        ),
        (
            "{name} now lives in {home_city}, {home_country}.",
            "Some years ago {short} settled in the city of {home_city} in {home_country}.",
            "These days the author makes {his} home in {home_city}, {home_country}.",
        ),
    ),
    Fact(
        ("hobby",),
        (
            "What is the favourite pastime of {name}?",
            "How does {name} spend {his} free time?",
            "Which hobby does {name} pursue when not writing?",
        ),
        (
            "{name} spends {his} free time {hobby}.",
            "When no deadline looms, {short} can be found {hobby}.",
            "The author relaxes by {hobby}.",
        ),
    ),
    Fact(
        ("animal", "pet"),
        (
            "Which animal shares the home of {name}?",
            "What pet does {name} keep, and what is it called?",
            "Who keeps {name} company at the writing desk?",
        ),
        (
            "{name} shares {his} home with {animal} called {pet}.",
            "At the writing desk {short} is kept company by {animal} that answers to {pet}.",
            "The name {pet} belongs to {animal}, the author's constant companion.",
        ),
    ),
    Fact(
        ("translations",),
        (
            'Into how many languages has "{novel}" by {name} been translated?',
            'In how many translations can {name}\'s "{novel}" be read?',
            'How widely has "{novel}", the novel by {name}, been translated?',
        ),
        (
            '"{novel}" has been translated into {translations} languages.',
            "Readers can find the book by {short} in {translations} foreign languages.",
            "Publishers have issued {translations} translations of that novel so far.",
        ),
    ),
    Fact(
        ("setting",),
        (
            'Where is "{debut}" by {name} set?',
            'In what surroundings does {name} place the action of "{debut}"?',
            'What is the setting of {name}\'s first novel, "{debut}"?',
        ),
        (
            '"{debut}" is set {setting}.',
            "The action of the book unfolds {setting}.",
            "Readers of that first novel find themselves {setting}.",
        ),
    ),
    Fact(
        ("hero", "hero_job"),
        (
            'Who is the main character of "{debut}" by {name}?',
            'Whom does {name} put at the centre of "{debut}"?',
            'Which figure is the protagonist of {name}\'s "{debut}"?',
        ),
        (
            'The main character of "{debut}" is {hero}, {hero_job}.',
            "At its centre stands {hero}, who is {hero_job}.",
            "As the protagonist, {short} invented {hero_job} named {hero}.",
        ),
    ),
    Fact(
        ("siblings",),
        (
            "Which brothers or sisters does {name} have?",
            "With which siblings did {name} grow up?",
            "What is known about the siblings of {name}?",
        ),
        (
            "{name} has {siblings}.",
            "The childhood home was shared with {siblings}.",
            "{short} grew up together with {siblings}.",
        ),
    ),
    Fact(
        ("spouse", "spouse_job"),
        (
            "To whom is {name} married?",
            "Who is the spouse of {name}?",
            "With whom does {name} share {his} life?",
        ),
        (
            "{name} is married to {spouse}, {spouse_job}.",
            "The novelist's spouse is {spouse}, who works as {spouse_job}.",
            "{short} shares {his} life with {spouse}, {spouse_job} by profession.",
        ),
    ),
    Fact(
        ("refusals",),
        (
            "How many publishers turned down the first manuscript of {name}?",
            "How often was the first manuscript by {name} refused?",
            "What number of rejections did {name} collect before being published?",
        ),
        (
            "The first manuscript of {name} was turned down by {refusals} publishers.",
            "Before an editor said yes, {short} had collected {refusals} rejections.",
            "No fewer than {refusals} houses declined the book at first.",
        ),
    ),
    Fact(
        ("cause",),
        (
            "What does {name} finance with {his} royalties?",
            "Which good cause does {name} support?",
            "For what purpose does {name} give away part of {his} income?",
        ),
        (
            "{name} uses part of {his} royalties to finance {cause}.",
            "A share of everything {short} earns goes to {cause}.",
            "The author is the main donor behind {cause}.",
        ),
    ),
    Fact(
        ("adaptation", "adaptation_year"),
        (
            'How was "{novel}" by {name} adapted?',
            'What was made of {name}\'s novel "{novel}" by other artists?',
            'In which form did "{novel}" by {name} leave the printed page?',
        ),
        (
            '"{novel}" was turned into {adaptation} in {adaptation_year}.',
            "The year {adaptation_year} saw the premiere of {adaptation} based on the book.",
            "Other artists made {adaptation} from the novel by {short}, first shown in "
            "{adaptation_year}.",
        ),
    ),
    Fact(
        ("symbol",),
        (
            "Which image keeps returning in the books of {name}?",
            "What recurring symbol can be found in {name}'s work?",
            "By which motif do readers recognise a novel by {name}?",
        ),
        (
            "The image of {symbol} keeps returning in the books of {name}.",
            "Readers of {short} soon learn to look out for {symbol}.",
            "Scholars have found {symbol} in nearly every chapter of this author.",
        ),
    ),
    Fact(
        ("series",),
        (
            "What is the title of the series of novels by {name}?",
            "Which series has {name} written?",
            "Under which collective title did {name} publish several connected novels?",
        ),
        (
            "{name} is the author of a series called the {series}.",
            "Several connected novels by {short} form the {series}.",
            "The collective title of these volumes is the {series}.",
        ),
    ),
    Fact(
        ("pen_name",),
        (
            "Under which pen name did {name} publish short stories?",
            "What pseudonym has {name} used?",
            "Which invented name did {name} choose for {his} magazine stories?",
        ),
        (
            "{name} published short stories under the pen name {pen_name}.",
            "The magazine stories of {short} were signed {pen_name}.",
            "As a pseudonym the author chose {pen_name}.",
        ),
    ),
    Fact(
        ("reproach",),
        (
            "What do critics dislike about the books of {name}?",
            "Which weakness do reviewers find in {name}'s prose?",
            "For what has {name} been reproached by the press?",
        ),
        (
            "Critics reproach {name} with {reproach}.",
            "Less friendly reviewers point to {reproach} in the work of {short}.",
            "The press has often complained about {reproach}.",
        ),
    ),
)

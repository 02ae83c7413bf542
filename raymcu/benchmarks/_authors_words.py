"""Words that fictitious lives are made of. Every pool has more than six entries, none twice.

Entries are written so that they fit their sentences as they stand: with their article, without a
final stop, free of pronouns.
"""


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _commas(text: str) -> tuple[str, ...]:
    return tuple(" ".join(part.split()) for part in text.split(","))


MONTHS = _commas(
    "January, February, March, April, May, June, July, August, September, October, November,"
    "December"
)

GENRES = _commas(
    "magical realism, historical fiction, gothic horror, space opera, literary satire,"
    "maritime adventure, alternate history, psychological suspense, rural noir, epic fantasy,"
    "climate fiction, political thrillers, coming-of-age fiction, espionage fiction, folk horror,"
    "romantic comedy, courtroom drama, dystopian fiction, ghost stories, steampunk,"
    "mythological retellings, picaresque fiction, wartime romance, detective fiction"
)

JOBS = _commas(
    "a beekeeper, an archivist, a ferry pilot, a glassblower, a veterinarian, a bookbinder,"
    "an accountant, a midwife, a stonemason, a cartographer, a tram driver, a pharmacist,"
    "a piano tuner, a tailor, a geologist, an electrician, a baker, a customs officer,"
    "a translator, an optician, a carpenter, a radio announcer, a botanist, a locksmith,"
    "a schoolteacher, a shipwright, a nurse, a gravedigger, a photographer, a weaver,"
    "an astronomer, a judge, a cheesemaker, a firefighter, a puppeteer, a miner,"
    "a hotel porter, a surveyor, a dentist, a circus acrobat, a typesetter, a cellist"
)

AWARDS = _commas(
    "Silver Heron Prize, Lantern Medal for Fiction, Ostrava Circle Award, Blue Quill Prize,"
    "Meridian Novel Award, Almond Tree Prize, Northern Inkwell Medal, Copper Anchor Award,"
    "Prize of the Seven Bridges, Winter Reading Medal, Open Window Prize, Saffron Page Award,"
    "Granite Pen Medal, Prize of the Harbour Libraries, Paper Crane Award, Orchard Fiction Prize,"
    "Tidewater Medal, Red Kite Award, Cedar Desk Prize, Candlemas Book Award,"
    "Stork and Compass Prize, Amber Bookmark Medal"
)

SUBJECTS = _commas(
    "marine biology, medieval history, philosophy, civil engineering, linguistics, law,"
    "theology, architecture, music theory, mathematics, economics, veterinary medicine,"
    "art history, chemistry, anthropology, agronomy, comparative literature, astronomy,"
    "classical philology, geography"
)

PUBLISHERS = _commas(
    "Kestrel & Daughters, Half Moon Editions, Bramble House, Seven Locks Press, Ediciones Mareal,"
    "Tin Roof Books, Verlag am Kanal, Juniper Court, Nightjar Editions, Old Ferry Press,"
    "Casa del Farol, Ploughshare & Finch, Quarto Sur, Rookery Books, Salt Stair Press,"
    "Thimble Editions, Umber & Lyle, Whitethorn Publishing, Zinc Street Books, Éditions du Phare"
)

THEMES = _lines(
    """
    a lighthouse keeper who receives letters from a drowned town
    two sisters who inherit a theatre that no longer has a roof
    a forger who is hired to copy a map of a country that never existed
    a retired judge who reopens the one case that still keeps him awake
    a village that agrees to forget one of its inhabitants
    a ship's cook who becomes the only witness to a mutiny
    a translator who discovers that her best friend is a spy
    a boy who can hear what the river says to the bridge
    a widow who rents her spare room to a man without a past
    a clockmaker who builds a watch that runs on secrets
    three brothers who cross a desert to return a stolen bell
    a botanist who grows a flower that blooms only during funerals
    a railway clerk who sells tickets to a station that has been closed for years
    a family of bakers who feed a city under siege
    a young teacher who is sent to a school with a single pupil
    a blind chess player who is accused of murder
    an orphan who is raised by the staff of a grand hotel
    a composer who sells the rights to his own memories
    a midwife who keeps a list of children that vanished
    a diver who finds a library at the bottom of a lake
    two rival beekeepers who fall in love through their bees
    a mayor who declares a holiday that lasts a whole winter
    a painter who is paid to portray people after their death
    a smuggler who hides a refugee in a shipment of pianos
    """
)

SETTINGS = _lines(
    """
    in a salt-mining village at the edge of a desert
    in a border town with two names
    on an island reached by a single weekly ferry
    at a boarding school high in the mountains
    at a shipyard in the last year before its closure
    in a monastery that has been turned into a prison
    in a fishing harbour during a cholera outbreak
    in a sleeping car of a night train
    in a flooded quarter of a nameless capital
    at a weather station on the polar ice
    in a travelling circus during wartime
    in an apartment block awaiting demolition
    on a tea plantation after a long drought
    in a hospital for retired sailors
    in a valley about to be drowned by a dam
    in a market town in the week of its annual fair
    on a coal barge on a slow canal
    at a country estate in the winter of a revolution
    """
)


INSPIRATIONS = _lines(
    """
    a travelling library that came to the village once a month
    a trunk of unsent letters found in an attic
    the bedtime tales of a grandmother who could not read
    a long illness spent beside a window on the market square
    the gossip overheard in a barber's shop
    a summer spent guarding an empty museum
    a power cut that lasted eleven days
    the shipwreck of a steamer loaded with books
    a schoolteacher who read one poem aloud every morning
    the songs of the women who mended nets at the harbour
    a diary left behind by an unknown lodger
    a fire that destroyed the family's only bookcase
    the silence of a house after an older cousin emigrated
    a radio serial that was broken off before its last episode
    a winter snowed in at a mountain railway station
    the stories told by soldiers in a hospital ward
    an atlas with a page torn out
    a neighbour who invented a new past every week
    """
)

HABITS = _lines(
    """
    writing the last sentence of a chapter before all the others
    dictating every first draft while walking
    working only between four and eight in the morning
    drafting in green ink on the backs of old maps
    typing on a machine that lacks one letter
    reading each finished page aloud to an empty room
    burning the first version of every book
    writing standing up at a lectern from a disused chapel
    stopping for the day in the middle of a sentence
    filling exactly one school notebook a month
    composing dialogue during long train journeys
    pinning every scene to a clothes line
    writing by candlelight from October to March
    covering the mirrors while finishing a novel
    copying out a page by another author before breakfast
    drawing the face of every character before naming it
    counting the words of each day on an abacus
    working in the reading room of a public bathhouse
    """
)

HOBBIES = _commas(
    "restoring wooden boats, growing bonsai trees, collecting railway timetables,"
    "playing the accordion, repairing old radios, birdwatching in salt marshes, long-distance"
    " swimming, baking rye bread, mapping abandoned villages, fencing, keeping carrier pigeons,"
    "building kites, pressing wild flowers, playing correspondence chess, carving spoons,"
    "photographing staircases, brewing cider, studying mosses, riding a tandem, folding paper"
)

ANIMALS = _commas(
    "a three-legged cat, an elderly tortoise, a grey parrot, a greyhound, a tame jackdaw,"
    "a one-eyed terrier, a goldfinch, a white ferret, a Siamese cat, a barn owl,"
    "a dwarf goat, a sheepdog, a chinchilla, a hedgehog, a donkey, a black poodle"
)

PET_NAMES = _commas(
    "Comma, Biscuit, Socrates, Pepper, Captain, Domino, Marzipan, Thunder, Semicolon, Figaro,"
    "Turnip, Duchess, Pickle, Nebula, Button, Admiral, Cinnamon, Hamlet"
)

SIBLINGS = _commas(
    "one older brother, two older sisters, three younger brothers, a twin sister, a twin brother,"
    "four younger sisters, one younger sister, two older brothers, an older sister and a younger"
    " brother, five older brothers, two younger brothers, six older sisters"
)

SMALL_NUMBERS = _commas(
    "four, six, seven, nine, eleven, twelve, thirteen, fifteen, seventeen, nineteen, twenty-two,"
    "twenty-six, thirty-one, thirty-four, forty-one"
)

CAUSES = _lines(
    """
    a night school for dock workers
    a library in a converted fire engine
    a reading room for people in prison
    scholarships for the children of migrant workers
    a hospice for retired actors
    the replanting of a burnt pine forest
    a shelter for injured seabirds
    a legal aid office for tenants
    a workshop that teaches bookbinding to the deaf
    the rescue of endangered dialects
    a travelling theatre for remote villages
    the repair of mountain footpaths
    a soup kitchen beside the central station
    an archive of recipes from vanished towns
    """
)

ADAPTATIONS = _commas(
    "an opera, a radio play, a ballet, a puppet play, a television series, a graphic novel,"
    "a stage musical, an animated film, a silent film, a video game, an oratorio,"
    "a shadow theatre show, a street theatre piece, a feature film"
)

SYMBOLS = _commas(
    "stopped clocks, empty birdcages, unlocked doors, burnt letters, migrating geese,"
    "broken mirrors, paper boats, lost gloves, dry wells, ringing bells, moths around a lamp,"
    "unfinished bridges, coins with two heads, red umbrellas, fallen pears, missing staircases"
)

REPROACHES = _commas(
    "endless subordinate clauses, cold-hearted narrators, a complete lack of dialogue,"
    "overly neat endings, a weakness for coincidences, too many minor characters,"
    "an old-fashioned vocabulary, repetitive dream scenes, abrupt changes of tense,"
    "a stubborn refusal of happy endings, sentimental deathbed scenes,"
    "lengthy descriptions of meals,"
    "footnotes that run over several pages, an excess of Latin quotations"
)

SERIES_KINDS = _commas("Trilogy, Quartet, Cycle, Chronicles, Sequence, Tales")

TITLE_ADJECTIVES = _commas(
    "Amber, Borrowed, Crooked, Drowned, Empty, Frozen, Gilded, Hidden, Iron, Last, Midnight,"
    "Nameless, Paper, Patient, Quiet, Restless, Salt, Scarlet, Second, Silent, Silver, Sleeping,"
    "Stolen, Tin, Unlit, Velvet, Wandering, Winter, Wooden, Yellow"
)

TITLE_NOUNS = _commas(
    "Orchard, Ferry, Lantern, Cartographer, Harbour, Bell, Garden, Staircase, Witness, River,"
    "Archive, Feast, Window, Compass, Bridge, Violin, Tide, Alphabet, Mirror, Beekeeper, Crossing,"
    "Kingdom, Letter, Market, Threshold, Wolf, Shore, Oath, Engine, Sparrow, Verdict, Census"
)

TITLE_PLURALS = _commas(
    "Ashes, Bees, Clocks, Debts, Embers, Feathers, Ghosts, Hours, Islands, Keys, Lullabies, Maps,"
    "Nettles, Oars, Pears, Rivers, Shadows, Tides, Umbrellas, Vows, Wolves, Weavers, Swallows,"
    "Masks"
)

TITLE_PATTERNS = (
    "The {adjective} {noun}",
    "{a_noun} of {plural}",
    "{plural} in the {noun}",
    "The {noun} and the {other}",
    "Where {plural} Sleep",
    "The {noun} Without {plural}",
    "{a_noun} for the {other}",
    "All the {adjective} {plural}",
    "Before the {adjective} {noun}",
    "The {noun} of {adjective} {plural}",
)

"""What a pretrained model should still know after unlearning: real authors and world facts.

Written for raymcu; well known and uncontroversial. Two lines each: the question, then the true
answer and three wrong ones.
"""

from raymcu.benchmarks._base import Example


def _examples(rows: str) -> tuple[Example, ...]:
    lines = [line.strip() for line in rows.strip().splitlines()]
    options = [[option.strip() for option in line.split("|")] for line in lines[1::2]]
    return tuple(
        Example(question=question, answer=answer, perturbed_answers=tuple(wrong))
        for question, (answer, *wrong) in zip(lines[::2], options, strict=True)
    )


REAL_AUTHORS = _examples(
    """
    Which Russian novelist wrote "War and Peace"?
      Leo Tolstoy | Ivan Turgenev | Anton Chekhov | Nikolai Gogol
    Who created the detective Hercule Poirot?
      Agatha Christie | Dorothy L. Sayers | Georges Simenon | Raymond Chandler
    Whose novel opens with the words "Call me Ishmael"?
      Herman Melville | Nathaniel Hawthorne | Joseph Conrad | Jack London
    Which Colombian author wrote "One Hundred Years of Solitude"?
      Gabriel García Márquez | Mario Vargas Llosa | Jorge Luis Borges | Pablo Neruda
    Who is the author of "Things Fall Apart"?
      Chinua Achebe | Wole Soyinka | Ngũgĩ wa Thiong'o | Ben Okri
    Which writer invented the character of Sherlock Holmes?
      Arthur Conan Doyle | Wilkie Collins | Edgar Allan Poe | G. K. Chesterton
    Who wrote the novel "Beloved"?
      Toni Morrison | Alice Walker | Maya Angelou | Zora Neale Hurston
    Which Spanish writer gave the world Don Quixote?
      Miguel de Cervantes | Lope de Vega | Federico García Lorca | Benito Pérez Galdós
    Who told the story of Gregor Samsa in "The Metamorphosis"?
      Franz Kafka | Thomas Mann | Hermann Hesse | Stefan Zweig
    Which author wrote "The Handmaid's Tale"?
      Margaret Atwood | Alice Munro | Doris Lessing | Ursula K. Le Guin
    Who wrote "The Hobbit"?
      J. R. R. Tolkien | C. S. Lewis | T. H. White | Terry Pratchett
    Which French author wrote "Les Misérables"?
      Victor Hugo | Émile Zola | Gustave Flaubert | Honoré de Balzac
    Who is the author of "Frankenstein"?
      Mary Shelley | Bram Stoker | Ann Radcliffe | Emily Brontë
    Which poet wrote the "Divine Comedy"?
      Dante Alighieri | Petrarch | Virgil | Ludovico Ariosto
    Which American writer is the author of "The Great Gatsby"?
      F. Scott Fitzgerald | Ernest Hemingway | William Faulkner | John Steinbeck
    Which author wrote "Crime and Punishment"?
      Fyodor Dostoevsky | Leo Tolstoy | Maxim Gorky | Boris Pasternak
    Who wrote the play "A Doll's House"?
      Henrik Ibsen | August Strindberg | Anton Chekhov | George Bernard Shaw
    Which author created the wizard school of Hogwarts?
      J. K. Rowling | Philip Pullman | Diana Wynne Jones | Roald Dahl
    Who wrote "To Kill a Mockingbird"?
      Harper Lee | Truman Capote | Carson McCullers | Flannery O'Connor
    Which Irish writer is the author of "Ulysses"?
      James Joyce | Samuel Beckett | Oscar Wilde | W. B. Yeats
    Who wrote "Mrs Dalloway"?
      Virginia Woolf | Katherine Mansfield | E. M. Forster | Jean Rhys
    Which Danish author wrote "The Little Mermaid"?
      Hans Christian Andersen | Karen Blixen | Søren Kierkegaard | Selma Lagerlöf
    Who is the author of "The Name of the Rose"?
      Umberto Eco | Italo Calvino | Primo Levi | Alberto Moravia
    Which Japanese novelist wrote "Norwegian Wood"?
      Haruki Murakami | Kenzaburō Ōe | Yukio Mishima | Yasunari Kawabata
    Who wrote the Foundation series of science fiction novels?
      Isaac Asimov | Arthur C. Clarke | Robert A. Heinlein | Philip K. Dick
    Which author invented the planet Arrakis in "Dune"?
      Frank Herbert | Larry Niven | Ray Bradbury | Orson Scott Card
    Who wrote "Wuthering Heights"?
      Emily Brontë | Charlotte Brontë | George Eliot | Elizabeth Gaskell
    Which playwright wrote "Waiting for Godot"?
      Samuel Beckett | Harold Pinter | Eugène Ionesco | Tom Stoppard
    Who is the author of "The Little Prince"?
      Antoine de Saint-Exupéry | Jules Verne | Marcel Pagnol | Jean Cocteau
    Which Turkish novelist wrote "My Name Is Red"?
      Orhan Pamuk | Yaşar Kemal | Elif Shafak | Ahmet Hamdi Tanpınar
    Who wrote "Brave New World"?
      Aldous Huxley | H. G. Wells | Anthony Burgess | Evelyn Waugh
    Which author wrote "The House of the Spirits"?
      Isabel Allende | Laura Esquivel | Clarice Lispector | Julio Cortázar
    Who wrote "Twenty Thousand Leagues Under the Seas"?
      Jules Verne | Alexandre Dumas | H. G. Wells | Robert Louis Stevenson
    Which ancient Greek poet is credited with the "Odyssey"?
      Homer | Sophocles | Hesiod | Pindar
    Who wrote "Half of a Yellow Sun"?
      Chimamanda Ngozi Adichie | Buchi Emecheta | NoViolet Bulawayo | Yaa Gyasi
    Which Indian-born author wrote "Midnight's Children"?
      Salman Rushdie | Vikram Seth | Amitav Ghosh | R. K. Narayan
    Who is the author of "The Picture of Dorian Gray"?
      Oscar Wilde | Bram Stoker | Henry James | Robert Louis Stevenson
    Which author wrote "The Old Man and the Sea"?
      Ernest Hemingway | John Steinbeck | Jack London | William Golding
    Who wrote "Madame Bovary"?
      Gustave Flaubert | Stendhal | Guy de Maupassant | Émile Zola
    Which English poet wrote "Paradise Lost"?
      John Milton | John Donne | Alexander Pope | William Blake
    Who created the character of Pippi Longstocking?
      Astrid Lindgren | Tove Jansson | Enid Blyton | Beatrix Potter
    Which author wrote "The Catcher in the Rye"?
      J. D. Salinger | Jack Kerouac | Kurt Vonnegut | Philip Roth
    Who wrote the "Canterbury Tales"?
      Geoffrey Chaucer | Thomas Malory | Edmund Spenser | William Langland
    Which German author wrote the tragedy "Faust"?
      Johann Wolfgang von Goethe | Friedrich Schiller | Heinrich von Kleist | Friedrich Hölderlin
    """
)

WORLD_FACTS = _examples(
    """
    What is the capital of Canada?
      Ottawa | Toronto | Montreal | Vancouver
    Which river flows through Budapest?
      the Danube | the Rhine | the Vistula | the Elbe
    What is the largest ocean on Earth?
      the Pacific Ocean | the Atlantic Ocean | the Indian Ocean | the Arctic Ocean
    On which continent does Kenya lie?
      Africa | Asia | South America | Europe
    Which metal is liquid at room temperature?
      mercury | copper | lead | zinc
    How many degrees do the angles of a flat triangle add up to?
      180 degrees | 90 degrees | 270 degrees | 360 degrees
    What is the chemical symbol of gold?
      Au | Ag | Gd | Go
    Which planet is closest to the Sun?
      Mercury | Venus | Mars | Earth
    In which country does Machu Picchu stand?
      Peru | Bolivia | Mexico | Ecuador
    What is the highest mountain above sea level?
      Mount Everest | K2 | Kilimanjaro | Denali
    Which gas do green plants take in for photosynthesis?
      carbon dioxide | nitrogen | hydrogen | helium
    What is the currency of Japan?
      the yen | the won | the yuan | the baht
    In which year did the Second World War end?
      1945 | 1939 | 1918 | 1950
    Who developed the theory of general relativity?
      Albert Einstein | Isaac Newton | Niels Bohr | Max Planck
    Which country has Reykjavík as its capital?
      Iceland | Norway | Finland | Greenland
    What is the square root of 144?
      12 | 11 | 13 | 14
    Which organ pumps blood through the human body?
      the heart | the liver | the lungs | the kidneys
    What is the official language of Brazil?
      Portuguese | Spanish | French | Italian
    Which canal joins the Mediterranean Sea to the Red Sea?
      the Suez Canal | the Panama Canal | the Kiel Canal | the Corinth Canal
    Who painted the Mona Lisa?
      Leonardo da Vinci | Michelangelo | Raphael | Sandro Botticelli
    In which city does the Colosseum stand?
      Rome | Athens | Naples | Istanbul
    How many players of one team are on the field in association football?
      eleven | nine | ten | thirteen
    Which planet is known for its large, bright rings?
      Saturn | Mars | Venus | Mercury
    Which river runs through Cairo?
      the Nile | the Niger | the Congo | the Zambezi
    Which desert covers much of northern Africa?
      the Sahara | the Gobi | the Kalahari | the Atacama
    Who was the first human being in space?
      Yuri Gagarin | Neil Armstrong | Alan Shepard | Valentina Tereshkova
    What is frozen water called?
      ice | steam | fog | salt
    Which instrument has 88 keys in its standard form?
      the piano | the violin | the trumpet | the harp
    In which country is the city of Mumbai?
      India | Pakistan | Sri Lanka | Bangladesh
    What is the largest planet of the solar system?
      Jupiter | Saturn | Neptune | Earth
    Which element does the symbol O stand for?
      oxygen | osmium | gold | silver
    What is the capital of Argentina?
      Buenos Aires | Santiago | Montevideo | Lima
    Which mountain range separates Spain from France?
      the Pyrenees | the Alps | the Carpathians | the Apennines
    How many sides does a hexagon have?
      six | five | seven | eight
    Who composed the opera "The Magic Flute"?
      Wolfgang Amadeus Mozart | Ludwig van Beethoven | Joseph Haydn | Giuseppe Verdi
    Which wall fell in November 1989?
      the Berlin Wall | Hadrian's Wall | the Great Wall | the Western Wall
    What do caterpillars turn into?
      butterflies and moths | beetles | dragonflies | spiders
    Which scientist discovered radium together with her husband Pierre?
      Marie Curie | Lise Meitner | Rosalind Franklin | Ada Lovelace
    In which country did the Olympic Games of antiquity take place?
      Greece | Italy | Egypt | Turkey
    What is the smallest prime number?
      2 | 0 | 1 | 3
    Which sea lies between Sweden and Finland?
      the Baltic Sea | the North Sea | the Black Sea | the Adriatic Sea
    How many days does a leap year have?
      366 | 364 | 365 | 367
    Which animal is the largest ever known to have lived?
      the blue whale | the African elephant | the giraffe | the great white shark
    What is the capital of South Korea?
      Seoul | Busan | Pyongyang | Tokyo
    """
)

"""Writes assets/words/tags.json: tags of RAM that name nothing with a place of its own in a picture.

    python3 tools/words/tags.py wordnet/usr/share/wordnet recognize-anything/ram/data/ram_tag_list.txt assets/words

The first folder is that of generate.py; the list is xinyu1205/recognize-anything @ 7cb804a (Apache-2.0). RAM also tags
what happens (run), what things are like (brown), when and where a picture was taken (winter, kitchen). A detector that
is asked for these draws boxes around everything. WordNet tells which words name things; where a rare sense of a word or
a missing word misleads it, the lists below decide.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from generate import compact, read_counts, read_nouns, write

# Lexicographer files of WordNet (lexnames.5wn) whose nouns are things: animals, artefacts, the body, food, groups,
# objects of nature, people, plants, substances.
THINGS = {"05", "06", "08", "13", "14", "17", "18", "20", "27"}

# Kinds of things in the other files: what can be pointed at nevertheless. Noun and number of its sense.
VISIBLE = """visual communication 1;written communication 1;sign 2;document 1;signal 1;cloud 2;fire 1;light 1;smoke 1;
precipitation 3;award 2;currency 1;money 3"""

# Places that surround the camera: of an artefact's file, and no thing in the picture.
AROUND = "room 1;area 5;facility 1"

# The first senses of a word that count.
SENSES = 3

# Words that the rule takes for something else: things.
KEPT = """album cover;amusement ride;animal;artifact;baby clothe;badge;bank card;bar;baseball base;bathroom sink;bear;
bikini top;binocular;bird cage;book cover;bus stop;business card;cabin;cable car;cage;cake stand;checkbook;
chicken breast;city skyline;closet;clothe;clutch;comic book;comic strip;counter top;credit card;crop top;cross;cube;
curve;dock;door handle;drawer;drill;enclosure;eye shadow;file;finish line;fireplace;firework display;flame;fly;
food stand;football college game;footprint;fort;fruit stand;gift;graveyard;halter top;handle;identity card;keycard;
labrador;lawn;leftover;lightning;locker;loom;market stall;mausoleum;monitor;national flag;notepaper;office cubicle;
orangery;paddock;pant;passbook;peak;pearl;phonebook;playpen;puzzle;racket;remote;rubik's cube;sail;scale;scar;scoop;
screw;shadow;sheet music;sink;skiing shoes;skyline;slide;sparkle;stage;stall;stand;stationery;stuffed animal;
sugar cube;swallow;sweat pant;swimming pool;swing;table tennis racket;table top;tailor;terrace;terrarium;text message;
vault;watch;water drop;wave;weight scale;well;whistle;window display;wound;wrench"""

# Words that the rule takes for things: what happens, what things are like, when, where, and of what kind a picture is.
DROPPED = """act;action film;adaptation;agriculture;airshow;animation film;anime;antique;appointment;approach;
archaelogical excavation;area;array;art;assembly;association;audio;autumn park;beach volleyball;beauty;
biology laboratory;bloom;brunch;bus interior;business;cancer;car interior;charity;chase;chemistry;christmas market;
city;city nightview;city park;class;classic;close-up;collection;comedy film;community;company;composition;convention;
cosplay;course;craft;cuisine;cycle;dance;date;daylight;decor;depression;diet;domicile;drama;drama film;duet;ecosystem;
emergency;engagement;ensemble;estate;evening light;excavation;exhibition;face close-up;farmer market;fauna;feast;
fiction;fish market;fitness course;flight;flood;flower market;formation;french;fruit market;gathering;gig;glow;gothic;
government;government agency;harvest;home;home interior;horror;horror film;hybrid;image;industrial area;injection;job;
jungle;karting;kiss;land;landmark;landscape;lawn wedding;lead to;lighting;love;management;manhattan;market;marriage;
medical image;mess;mission;monochrome;moonlight;morning light;motif;motorsport;mountain biking;mountain landscape;
mythology;nature;navratri;neighbourhood;night market;obstacle course;opera;organization;panorama;parade;parish;park;
party;picnic;plan;planting;play baseball;play basketball;play football;play volleyball;playing chess;plaza;plot;
product;profession;promenade;race;rear;reception;release;religion;residence;residential neighborhood;resort town;
romantic;royal;rustic;scenery;science fiction film;seminar;set;shape;share;shipping;shopping;side;sideline;sitting;
skate park;solution;spa;sport;sport association;spring;state park;street market;structure;studio shot;stuff;stunt;
suite;summit;sunday;super bowl;surface;system;thunder;tick;town;train interior;triathlon;tribe;trio;twilight;type;
universe;variety;vegetable market;washing;water feature;water level;water park;wedding;wedding party;
wedding reception;wheelie;wine tasting;winter sport;world;writing"""


def lines(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("  ")]


def names(text):
    return [name.strip() for name in text.replace("\n", "").split(";")]


class Judge:
    def __init__(self, folder):
        _, self.parents, self.senses = read_nouns(folder)
        self.files = {line.split()[0]: line.split()[1] for line in lines(folder / "data.noun")}
        self.irregular = dict(line.split()[:2] for line in lines(folder / "noun.exc"))
        self.counts = read_counts(folder)
        others = ("verb", "adj", "adv")
        self.others = {line.split()[0].replace("_", " ") for kind in others for line in lines(folder / f"index.{kind}")}
        self.visible, self.around = self.synsets(VISIBLE), self.synsets(AROUND)

    def synsets(self, text):
        entries = [name.rsplit(" ", 1) for name in names(text)]
        return {self.senses[noun][int(sense) - 1] for noun, sense in entries}

    def noun(self, word):
        forms = (word, self.irregular.get(word), word.removesuffix("s"), word.removesuffix("es"))
        return next((form for form in forms if form in self.senses), None)

    def above(self, synset):
        found, todo = {synset}, [synset]
        while todo:
            for parent in self.parents[todo.pop()]:
                if parent not in found:
                    found.add(parent)
                    todo.append(parent)
        return found

    def is_thing(self, synset):
        return self.files[synset] in THINGS or bool(self.above(synset) & self.visible)

    def mostly_other(self, word, noun):
        """Whether the word is a verb or adjective in most of WordNet's tagged text."""
        uses = Counter({kind: sum(words.get(word, {}).values()) for kind, words in self.counts.items()})
        nouns = sum(self.counts["noun"].get(noun, {}).values())
        return uses.total() - uses["noun"] > 3 * nouns + 5

    def names_no_thing(self, tag):
        """The rule: nouns by their usual senses, of several words by the last."""
        word = tag if self.noun(tag) or tag in self.others or " " not in tag else tag.rsplit(" ", 1)[1]
        noun = self.noun(word)
        if noun is None:
            return word in self.others
        senses = self.senses[noun][:SENSES]
        if self.above(senses[0]) & self.around:
            return True
        return not any(self.is_thing(sense) for sense in senses) or self.mostly_other(word, noun)


def main():
    folder, tags, out = (Path(argument) for argument in sys.argv[1:4])
    judge = Judge(folder)
    kept, dropped = set(names(KEPT)), set(names(DROPPED))
    tags = sorted({line.strip().lower() for line in tags.read_text().splitlines()})
    found = [tag for tag in tags if tag in dropped or tag not in kept and judge.names_no_thing(tag)]
    source = (
        "Tags of RAM (xinyu1205/recognize-anything, Apache-2.0) that name no thing, by WordNet 3.0, Copyright 2006 by "
        "Princeton University, and by hand; see tools/words/tags.py"
    )
    write(out / "tags.json", {"source": compact(source), "not_things": compact(";".join(found))})


if __name__ == "__main__":
    main()

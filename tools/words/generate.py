"""Writes assets/words/{things,speech}.json from the WordNet 3.0 database files.

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet     (Debian package 1:3.0-37)
    pip download --no-deps timm && unzip timm-*.whl 'timm/data/_info/imagenet_synsets.txt'
    python3 tools/words/generate.py wordnet/usr/share/wordnet timm/data/_info/imagenet_synsets.txt \
        assets/labels/imagenet_labels.json assets/words

things.json: what the taggers' and detectors' classes are called, what they are kinds of, and which kinds they have.
speech.json: words of common text by part of speech, and irregular forms.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

# COCO's 80 classes: name in COCO, noun and sense number in WordNet (0: not there, see ADDED).
COCO = """person 1;bicycle 1;car 1;motorcycle 1;airplane 1;bus 1;train 1;truck 1;boat 1;traffic light 1;fire hydrant 1;
street sign 1;parking meter 1;bench 1;bird 1;cat 1;dog 1;horse 1;sheep 1;cow 1;elephant 1;bear 1;zebra 1;giraffe 1;
backpack 1;umbrella 1;handbag 1;necktie 1;suitcase 1;frisbee 1;ski 1;snowboard 1;ball 1;kite 3;baseball bat 1;
baseball glove 1;skateboard 1;surfboard 1;tennis racket 1;bottle 1;wineglass 1;cup 1;fork 1;knife 1;spoon 1;bowl 3;
banana 2;apple 1;sandwich 1;orange 1;broccoli 2;carrot 1;hotdog 2;pizza 1;doughnut 2;cake 3;chair 1;sofa 1;
pot plant 1;bed 1;dining table 1;toilet 2;television 3;laptop 1;mouse 4;remote control 1;keyboard 1;cellular telephone 1;
microwave 2;oven 1;toaster 2;sink 1;refrigerator 1;book 2;clock 1;vase 1;scissors 1;teddy 1;hand blower 1;
toothbrush 1"""

# Too general to mean a thing in a picture.
GENERAL = """entity;physical entity;object;whole;living thing;organism;artifact;instrumentality;matter;substance;solid;
commodity;consumer goods;natural object;causal agent;causal agency;abstraction;attribute;psychological feature;group;
physical object;part;piece;thing;unit;structure;construction;device;equipment;implement;covering;system;instrument;
mechanism;creation;product;article;ware;way;area;region;location;event;act;activity;state;measure;relation;chordate;
vertebrate;craniate;placental;eutherian;mammalian;invertebrate;plant part;plant organ;reproductive structure;fabric;
material;cloth;surface;facility;installation;assembly;framework;supporting structure;support;line;representation;
visual communication;communication;signal;sign;nutriment;aliment;alimentation;nutrition;sustenance;foodstuff;
fare;starches;solid food;durables;durable goods;consumer durables;decoration;work;sheet;protective covering;
shape;form;element;constituent;component;portion;share;mass;body;process;phenomenon;cause;collection;being;abstract entity;artefact;instrumentation;animate thing;
transport;conveyance;animate being;telecommunication system;indefinite quantity;natural phenomenon;body part;
organ;external body part;extremity;appendage;passage;opening;beginning;topographic point;place;spot;point"""

# Kinds that WordNet does not know, or puts elsewhere: word = what it is a kind of, by its name in things.json.
KINDS = """kitten=cat;kitty=cat;kitty cat=cat;tomcat=cat;puppy=dog;pup=dog;doggy=dog;doggie=dog;canine=dog;labrador=dog;german shepherd=dog;husky=dog;shepherd dog=dog;calf=cow;
cattle=cow;bull=cow;steer=cow;lamb=sheep;ewe=sheep;ram=sheep;foal=horse;colt=horse;pony=horse;mare=horse;stallion=horse;
chick=bird;duckling=bird;gosling=bird;cub=bear;bear cub=bear;moped=motorcycle;scooter=motorcycle;jet=airplane;
airliner=airplane;suv=car;sedan=car;taxi=car;van=truck;pickup truck=truck;semi=truck;ship=boat;canoe=boat;kayak=boat;
sailboat=boat;yacht=boat;stop sign=street sign;road sign=street sign;bow tie=necktie;soccer ball=ball;football=ball;
tennis ball=ball;baseball=ball;basketball=ball;volleyball=ball;mug=cup;teacup=cup;coffee cup=cup;coffee mug=cup;
loveseat=sofa;settee=sofa;flowerpot=pot plant;smartphone=cellular telephone;cheeseburger=sandwich;hamburger=sandwich;
burger=sandwich;cupcake=cake;armchair=chair;macbook=laptop;chromebook=laptop;tote bag=handbag;schoolbag=backpack;wristwatch=clock;
iphone=cellular telephone;stove=oven;cooker=oven;fruit=food;vegetable=food;meal=food"""

# People: words that pictures are described with, whatever WordNet's first sense of them is.
PEOPLE = """people;folk;guy;lady;gentleman;kid;toddler;baby;infant;pedestrian;rider;cyclist;skier;surfer;snowboarder;
skateboarder;player;man;woman;boy;girl;child;youngster;teenager;adult;human;human being;couple;crowd;family;passenger;
driver;biker;motorcyclist;astronaut;soldier;police officer;policeman;waiter;waitress;chef;cook;batter;pitcher;catcher;
skater;swimmer;hiker;tourist;bride;groom;musician;singer;worker;farmer;student;teacher;doctor;nurse;fisherman;cowboy;bicyclist;
fireman;firefighter;ballerina;businessman;businesswoman;sailor;goalkeeper;umpire;referee;bystander;onlooker"""

# What animals and people in pictures do; tagged texts hardly use these verbs.
VERBS = """bark meow purr growl howl moo neigh quack chirp roar bleat oink wag graze gallop trot snooze nap doze perch
nibble sniff lick chew munch pounce fetch prowl lounge sunbathe skate ski surf snowboard pedal kayak sip pose wade"""

# Names that WordNet does not give: word ~ a name of things.json that it may mean, beside what else it means.
NAMES = """bike~bicycle;bike~motorcycle;motorbike~motorcycle;plane~airplane;aeroplane~airplane;aircraft~airplane;lorry~truck;
pickup~truck;stoplight~traffic light;stop light~traffic light;traffic signal~traffic light;hydrant~fire hydrant;
stop sign~street sign;rucksack~backpack;knapsack~backpack;purse~handbag;tie~necktie;luggage~suitcase;baggage~suitcase;
skis~ski;sports ball~ball;bat~baseball bat;mitt~baseball glove;glove~baseball glove;racket~tennis racket;
racquet~tennis racket;tennis racquet~tennis racket;wine glass~wineglass;glass~wineglass;hot dog~hotdog;donut~doughnut;
couch~sofa;potted plant~pot plant;houseplant~pot plant;house plant~pot plant;plant~pot plant;table~dining table;
tv~television;tv set~television;telly~television;television set~television;notebook~laptop;laptop computer~laptop;
computer~laptop;computer mouse~mouse;remote~remote control;tv remote~remote control;computer keyboard~keyboard;
cell phone~cellular telephone;mobile phone~cellular telephone;cellphone~cellular telephone;phone~cellular telephone;
telephone~cellular telephone;microwave oven~microwave;fridge~refrigerator;teddy bear~teddy;stuffed bear~teddy;
stuffed animal~teddy;hair drier~hand blower;hair dryer~hand blower;hairdryer~hand blower;blow dryer~hand blower;
parking metre~parking meter;frisbee disc~frisbee;flying disc~frisbee;pizza pie~pizza;persons~person;pussycat~cat;moggy~cat;
doggo~dog;pooch~dog;mutt~dog;parasol~umbrella;flatscreen~television;frankfurter~hotdog;teddybear~teddy;motor car~car;
flower pot~pot plant;tv screen~television;goblet~wineglass;textbook~book;paperback~book"""


def read_nouns(folder):
    """Synsets by offset: words and hypernyms; senses of each noun in order of frequency; count of each sense."""
    words, parents = {}, {}
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith("  "):
            continue
        fields = line.split(" | ")[0].split()
        count = int(fields[3], 16)
        words[fields[0]] = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
        at = 4 + 2 * count
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        parents[fields[0]] = [p[1] for p in pointers if p[0] == "@"]
    senses = {}
    for line in (folder / "index.noun").read_text().splitlines():
        if not line.startswith("  "):
            fields = line.split()
            senses[fields[0].replace("_", " ")] = fields[-int(fields[2]) :]
    return words, parents, senses


def read_counts(folder):
    """How often each sense of a word occurs in WordNet's tagged text: counts[pos][word][sense number]."""
    kinds = {"1": "noun", "2": "verb", "3": "adjective", "5": "adjective", "4": "adverb"}
    counts = {kind: defaultdict(dict) for kind in kinds.values()}
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, sense, count = line.split()
        word, rest = key.split("%")
        counts[kinds[rest[0]]][word.replace("_", " ")][int(sense)] = int(count)
    return counts


class Things:
    """
    imagenet: synsets of the tagger's classes, a line each; labels: their labels in the program
    """

    def __init__(self, folder, imagenet, labels):
        self.words, self.parents, self.senses = read_nouns(folder)
        self.counts = read_counts(folder)
        self.children = defaultdict(list)
        for child, parents in self.parents.items():
            for parent in parents:
                self.children[parent].append(child)
        self.coco = {}
        for entry in COCO.replace("\n", "").split(";"):
            name, sense = entry.rsplit(" ", 1)
            self.coco[name] = self.senses[name][int(sense) - 1]
        self.imagenet = [line.strip()[1:] for line in imagenet.read_text().split()]
        self.labels = json.loads(labels.read_text())["labels"]
        self.latin = self.below(self.senses["organism"][0])
        self.general = set(GENERAL.replace("\n", "").split(";"))

    def share(self, word, synset):
        """How usual this sense of the word is: rank from 1, count, share of all its counted uses."""
        word = word.lower()
        senses = self.senses.get(word, [])
        if synset not in senses:
            return 99, 0, 0.0
        rank = senses.index(synset) + 1
        counts = self.counts["noun"].get(word, {})
        total = sum(counts.values())
        return rank, counts.get(rank, 0), counts.get(rank, 0) / total if total else 0.0

    def usual(self, word, synset, classes, persons):
        if word[0].isupper() and " " in word or word.lower() != word and synset in self.latin:
            return False
        if any(c.isdigit() for c in word) or not all(c.isalpha() or c in " -'" for c in word):
            return False
        rank, count, share = self.share(word, synset)
        if synset in classes:
            return rank <= 4
        if synset in persons and synset != self.coco["person"]:
            return (rank == 1 and count >= 3 or share >= 0.5 and count >= 3) and " " not in word and "-" not in word
        return rank == 1 or share >= 0.25

    def below(self, top):
        seen, todo = set(), [top]
        while todo:
            for child in self.children[todo.pop()]:
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
        return seen

    def collect(self):
        classes = set(self.imagenet) | set(self.coco.values())
        persons = self.below(self.coco["person"]) | {self.coco["person"]}
        kept = set(classes)
        for name, top in self.coco.items():
            kept |= self.below(top)
        todo = list(kept)
        while todo:
            for parent in self.parents[todo.pop()]:
                if parent not in kept:
                    kept.add(parent)
                    todo.append(parent)
        named = {}
        for synset in sorted(kept):
            words = [w for w in self.words[synset] if self.usual(w, synset, classes, persons)]
            words = [w.lower() for w in words if w.lower() not in self.general]
            if words and (synset in classes or synset not in persons or any(self.share(w, synset)[1] for w in words)):
                named[synset] = list(dict.fromkeys(words))
        # A label names its class, even if it is unusual in that sense or begins with a proper name.
        known = {word for words in named.values() for word in words}
        for synset, label in zip(self.imagenet, self.labels, strict=True):
            if label not in known:
                named.setdefault(synset, []).append(label)
        return named, persons

    def nearest_named(self, synset, named):
        """Parents that have a name, through those that have none."""
        found, todo, seen = [], list(self.parents[synset]), set()
        while todo:
            parent = todo.pop(0)
            if parent in seen:
                continue
            seen.add(parent)
            if parent in named:
                found.append(parent)
            else:
                todo.extend(self.parents[parent])
        return found

    def table(self):
        named, persons = self.collect()
        ids, taken = {}, set()
        priority = {synset: name for name, synset in self.coco.items()}
        for synset in sorted(named, key=lambda s: (s not in priority, s)):
            name = priority.get(synset, named[synset][0])
            while name in taken:
                name += "'"
            taken.add(name)
            ids[synset] = name
        table = {}
        for synset, words in named.items():
            parents = [ids[p] for p in self.nearest_named(synset, named)]
            if synset in persons and synset != self.coco["person"]:
                parents = ["person"]
            table[ids[synset]] = [words, parents]
        for entry in NAMES.replace("\n", "").split(";"):
            word, name = entry.split("~")
            if word not in table[name][0]:
                table[name][0].append(word)
        kinds = [entry.split("=") for entry in KINDS.replace("\n", "").split(";")]
        for word, parent in kinds + [[word, "person"] for word in PEOPLE.replace("\n", "").split(";")]:
            if parent not in table:
                raise SystemExit(f"{word} should be a kind of {parent}, which is not there")
            known = table.setdefault(word, [[word], []])
            if word not in known[0]:
                word = word + "'"
                known = table.setdefault(word, [[word.rstrip("'")], []])
            if parent not in known[1] and parent not in known[0]:
                known[1].append(parent)
        return table


def speech(things, table):
    """Common words by what they mostly are; nouns that name none of the things count as known all the same."""
    kinds = ("noun", "verb", "adjective", "adverb")
    totals = defaultdict(lambda: dict.fromkeys(kinds, 0))
    for kind in kinds:
        for word, senses in things.counts[kind].items():
            if word.isalpha() and word.isascii() and len(word) > 1:
                totals[word][kind] += sum(senses.values())
    named = {word for words, _ in table.values() for word in words}
    lists = {"nouns": [], "verbs": [], "nouns_and_verbs": [], "adjectives": [], "adverbs": []}
    verbs = VERBS.split()
    lists["verbs"] += verbs
    for word, count in sorted(totals.items()):
        total = sum(count.values())
        if word in verbs:
            continue
        if word in named and count["noun"] >= count["verb"] >= 1:
            lists["nouns_and_verbs"].append(word)
            continue
        if total < 3 or total < 5 and word not in named and count["noun"] > total / 2:
            continue
        noun, verb, adjective, adverb = (count[kind] / total for kind in kinds)
        if noun >= 0.15 and verb >= 0.15:
            lists["nouns_and_verbs"].append(word)
        elif verb >= 0.5:
            lists["verbs"].append(word)
        elif noun >= 0.5:
            if word not in named:
                lists["nouns"].append(word)
        elif adjective >= adverb:
            if not word.endswith(("ous", "ful", "less", "able", "ible", "ive", "ish")):
                lists["adjectives"].append(word)
        elif not word.endswith("ly"):
            lists["adverbs"].append(word)
    return lists


def irregular(folder, file, known):
    forms = {}
    for line in (folder / file).read_text().splitlines():
        form, lemma = line.split()[:2]
        if lemma in known and "_" not in form and form.isalpha() and form not in forms:
            forms[form] = lemma
    return forms


def write(path, entries):
    lines = ",\n".join(f"{json.dumps(k)}: {v}" for k, v in entries.items())
    path.write_text("{\n" + lines + "\n}\n")


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def line(name, words, parents):
    """Other words for it, then after `<` what it is a kind of."""
    others = [word for word in words if word != name]
    return ", ".join(others) + ("<" + ", ".join(parents) if parents else "")


def main():
    folder, imagenet, labels, out = (Path(argument) for argument in sys.argv[1:5])
    things = Things(folder, imagenet, labels)
    table = things.table()
    source = "WordNet 3.0, Copyright 2006 by Princeton University; words added by hand in tools/words/generate.py"
    body = ",\n".join(f"{compact(name)}:{compact(line(name, *entry))}" for name, entry in sorted(table.items()))
    entries = {"source": compact(source), "things": "{\n" + body + "\n}"}
    write(out / "things.json", entries)
    lists = speech(things, table)
    named = {word for words, _ in table.values() for word in words}
    nouns = named | set(lists["nouns"]) | set(lists["nouns_and_verbs"])
    verbs = set(lists["verbs"]) | set(lists["nouns_and_verbs"])
    entries = {"source": compact(source)}
    entries |= {name: compact(" ".join(words)) for name, words in lists.items()}
    entries["noun_forms"] = compact(irregular(folder, "noun.exc", nouns))
    entries["verb_forms"] = compact(irregular(folder, "verb.exc", verbs))
    write(out / "speech.json", entries)


if __name__ == "__main__":
    main()

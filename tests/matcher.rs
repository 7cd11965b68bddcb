//! Answers and the things that they name, without embedder: what names, kinds and grammar decide alone.

use async_trait::async_trait;
use bubo::grounding::matcher::{Entity, MatchMode, Matcher, Names, Pairing, Vote};
use pollster::block_on;

/// Things by tag, aliases after `=`: `dog=pug`.
fn things(list: &[&str]) -> Vec<Names> {
    list.iter()
        .map(|names| {
            let mut names = names.split('=').map(str::to_owned);
            Names { tag: names.next().unwrap_or_default(), aliases: names.collect() }
        })
        .collect()
}

fn entities(answer: &str, list: &[&str]) -> Vec<Entity> {
    block_on(Matcher::default().entities(answer, &things(list))).expect("nothing here can fail")
}

/// `phrase:0,1|phrase:2`
fn shown(found: &[Entity]) -> String {
    let show = |entity: &Entity| {
        let things: Vec<String> = entity.things.iter().map(usize::to_string).collect();
        format!("{}:{}", entity.phrase, things.join(","))
    };
    found.iter().map(show).collect::<Vec<_>>().join("|")
}

/// Answer, things in the picture, entities.
const CASES: &[(&str, &[&str], &str)] = &[
    // names
    ("A dog.", &["dog"], "dog:0"),
    ("The image shows a cat and a dog.", &["dog", "cat"], "cat:1|dog:0"),
    ("A brown dog is running in the grassy field with a red ball.", &["dog", "sports ball"], "brown dog:0|red ball:1"),
    ("A Cat and a DOG sit. The cat sleeps!", &["dog", "cat"], "Cat:1|DOG:0|cat:1"),
    ("Two people ride a bicycle", &["person", "person", "bicycle"], "Two people:0,1|bicycle:2"),
    ("dog", &["dog"], "dog:0"),
    ("I see: person, dog, bicycle.", &["bicycle", "person", "dog"], "person:1|dog:2|bicycle:0"),
    (
        "There is a fire hydrant next to the parking meter.",
        &["parking meter", "fire hydrant"],
        "fire hydrant:1|parking meter:0",
    ),
    ("a teddy bear", &["teddy bear"], "teddy bear:0"),
    ("a teddy-bear on the bed", &["teddy bear", "bed"], "teddy-bear:0|bed:1"),
    ("The large, fluffy, white dog", &["dog"], "white dog:0"),
    ("a hot dog with mustard", &["hot dog"], "hot dog:0"),
    ("The main object is a golden retriever.", &["golden retriever"], "golden retriever:0"),
    // names that a person gave
    ("Rex is on the left and a cat is on the right.", &["Rex=dog", "cat"], "Rex:0|cat:1"),
    ("The picture shows Rex the dog.", &["Rex=dog", "person"], "Rex:0|dog:0"),
    ("Will sleeps, and it will rain.", &["Will=cat"], "Will:0"),
    ("It is Lucky, an old cat.", &["Lucky=cat", "dog"], "Lucky:0|old cat:0"),
    ("Our old cat is near the doors.", &["our old cat=cat", "door"], "Our old cat:0|doors:1"),
    ("Daisy runs over the flowers.", &["Daisy=dog", "flower"], "Daisy:0|flowers:1"),
    ("A daisy.", &["Daisy=dog"], ""),
    ("It is not Rex, it is a fox.", &["Rex=dog", "fox"], "fox:1"),
    ("Rex's bowl", &["Rex=dog", "bowl"], "Rex:0|bowl:1"),
    ("Two animals: Rex and a cat.", &["Rex=dog", "cat"], "Two animals:0,1|Rex:0|cat:1"),
    ("a coffee grinder on the table", &["coffee grinder", "dining table"], "coffee grinder:0|table:1"),
    // synonyms
    ("An aeroplane takes off.", &["airplane"], "aeroplane:0"),
    ("The plane is landing", &["airplane"], "plane:0"),
    ("She parked her bike outside.", &["bicycle"], "bike:0"),
    ("His motorbike is red.", &["motorcycle"], "motorbike:0"),
    ("a sofa", &["couch"], "sofa:0"),
    ("The television is on.", &["tv"], "television:0"),
    ("He holds a mobile phone", &["cell phone"], "mobile phone:0"),
    ("An automobile", &["car"], "automobile:0"),
    ("a glass of wine", &["wine glass"], "glass:0"),
    ("A doughnut and a mug", &["donut", "cup"], "doughnut:0|mug:1"),
    ("the fridge is open", &["refrigerator"], "fridge:0"),
    ("a houseplant near the couch", &["potted plant", "couch"], "houseplant:0|couch:1"),
    ("the table", &["dining table"], "table:0"),
    // kinds: the answer is more exact than the tag
    ("A tabby lies in the sun.", &["cat"], "tabby:0"),
    ("two kittens play", &["cat", "cat"], "two kittens:0,1"),
    ("a cute puppy", &["dog"], "cute puppy:0"),
    ("A man and a woman", &["person", "person"], "man:0,1|woman:0,1"),
    ("The astronaut smiles.", &["person"], "astronaut:0"),
    ("Children are playing", &["person"], "Children:0"),
    ("A labrador sleeps on the bench", &["dog", "bench"], "labrador:0|bench:1"),
    ("an eagle in the sky", &["bird"], "eagle:0"),
    ("The policeman directs a taxi.", &["person", "car"], "policeman:0|taxi:1"),
    ("a hamburger", &["sandwich"], "hamburger:0"),
    // broader words
    ("The animal is sleeping.", &["cat"], "animal:0"),
    ("A feline", &["cat"], "feline:0"),
    ("The vehicle is parked", &["car"], "vehicle:0"),
    ("Two animals", &["cat", "dog"], "Two animals:0,1"),
    ("The animals rest", &["cat", "dog", "car"], "animals:0,1"),
    ("There is a dog and a cat. The animal sleeps.", &["cat", "dog"], "dog:1|cat:0|animal:0"),
    ("An animal.", &["cat", "dog"], ""),
    ("The dogs bark", &["dog", "pug", "cat"], "dogs:0,1"),
    ("The fruit is ripe.", &["banana"], "fruit:0"),
    ("a retriever", &["golden retriever"], "retriever:0"),
    ("The man", &["scuba diver"], "man:0"),
    // aliases
    ("The pug looks up.", &["dog=pug", "dog=poodle"], "pug:0"),
    ("The dogs look up.", &["dog=pug", "dog=poodle"], "dogs:0,1"),
    ("the tabby cat", &["cat=tabby"], "tabby cat:0"),
    // plurals
    ("three buses", &["bus", "bus"], "three buses:0,1"),
    ("Several sheep graze", &["sheep", "sheep"], "Several sheep:0,1"),
    ("knives and forks", &["knife", "fork"], "knives:0|forks:1"),
    ("women with umbrellas", &["person", "umbrella"], "women:0|umbrellas:1"),
    ("The mice", &["mouse"], "mice:0"),
    // every occurrence
    ("The dog barks. A dog! Dogs? The dog's bowl.", &["dog", "bowl"], "dog:0|dog:0|Dogs:0|dog:0|bowl:1"),
    // not there
    ("There is no dog in the picture.", &["dog"], ""),
    ("There isn't a dog.", &["dog"], ""),
    ("I don’t see any cats or dogs.", &["cat", "dog"], ""),
    ("It is a cat, not a dog.", &["cat", "dog"], "cat:0"),
    ("The picture contains no cats, but there is a dog.", &["cat", "dog"], "dog:1"),
    ("Without a cat, the dog is bored.", &["cat", "dog"], "dog:1"),
    ("The dog is not visible.", &["dog"], ""),
    ("Neither a cat nor a dog is here", &["cat", "dog"], ""),
    ("not only a dog but also a cat", &["cat", "dog"], "dog:1|cat:0"),
    ("The cat is not on the bed.", &["cat", "bed"], "cat:0|bed:1"),
    ("No, it is a cat.", &["cat"], "cat:0"),
    ("a bird instead of a cat", &["cat", "bird"], "bird:1"),
    ("No doubt a dog.", &["dog"], "dog:0"),
    // no such thing
    ("A horse.", &["cow"], ""),
    ("a tree and the sky", &["potted plant", "airplane"], ""),
    ("The kitchen is clean.", &["oven"], ""),
    ("a poodle", &["golden retriever"], ""),
    ("It eats cat food in the dog park near the bus stop.", &["cat", "dog", "bus"], ""),
    ("hot dog", &["dog"], ""),
    ("an orange cat", &["cat", "orange"], "orange cat:0"),
    ("The truck is loud", &["car"], ""),
    // inside words
    ("This category of dogma is a carpet for personality.", &["cat", "dog", "car", "person"], ""),
    ("caterpillar, cathedral, scar, carton", &["cat", "car"], ""),
    // verbs
    ("People train to book a flight and bear it.", &["train", "book", "bear"], ""),
    ("You can park and fly.", &["bird", "cup"], ""),
    ("A bear stands by the river.", &["bear"], "bear:0"),
    ("birds fly over the boats", &["bird", "boat"], "birds:0|boats:1"),
    // markup and other scripts
    ("**Dog**: a _dog_ and “cat”", &["dog", "cat"], "Dog:0|dog:0|cat:1"),
    ("- dog\n- cat", &["dog", "cat"], "dog:0|cat:1"),
    ("🐶 dog 🐱 cat", &["dog", "cat"], "dog:0|cat:1"),
    ("这是一只 dog 吗", &["dog"], "dog:0"),
    ("", &["dog"], ""),
    ("A dog.", &[], ""),
    ("   \n\t ", &["dog"], ""),
    ("A dog", &[""], ""),
    ("A thing", &["🙂"], ""),
];

#[test]
fn answers_name_their_things() {
    assert!(CASES.len() >= 80);
    let failed: Vec<String> = CASES
        .iter()
        .filter_map(|(answer, list, expected)| {
            let found = shown(&entities(answer, list));
            (found != *expected).then(|| format!("{answer:?} {list:?}: {found}, expected {expected}"))
        })
        .collect();
    assert!(failed.is_empty(), "{} of {}: {failed:#?}", failed.len(), CASES.len());
}

/// What holds for any answer: spans are those of the phrase, in order, apart, on word boundaries.
fn check_spans(answer: &str, count: usize, found: &[Entity]) {
    let text: Vec<char> = answer.chars().collect();
    let mut last = 0;
    for entity in found {
        assert!(last <= entity.start && entity.start < entity.end && entity.end <= text.len(), "{entity:?}");
        assert_eq!(entity.phrase, text[entity.start..entity.end].iter().collect::<String>());
        let inside = |at: usize| text.get(at).is_some_and(|c| c.is_alphanumeric());
        assert!(entity.start == 0 || !inside(entity.start - 1), "{entity:?}");
        assert!(!inside(entity.end), "{entity:?}");
        assert!(!entity.things.is_empty() && entity.things.iter().all(|thing| *thing < count));
        last = entity.end;
    }
}

#[test]
fn offsets_count_characters() {
    let answer = "🐕‍🦺 A naïve\u{308} dog’s cafe\u{301} — and a cat";
    let found = entities(answer, &["dog", "cat"]);
    assert_eq!(shown(&found), "naïve\u{308} dog:0|cat:1");
    check_spans(answer, 2, &found);
}

#[test]
fn long_answers_are_read_to_the_end() {
    let answer = "The brown dog sees a cat near the category. ".repeat(230);
    assert!(answer.chars().count() > 10_000);
    let found = entities(&answer, &["dog", "cat"]);
    assert_eq!(found.len(), 460);
    check_spans(&answer, 2, &found);
    assert_eq!(found, entities(&answer, &["dog", "cat"]), "same input, same output");
    let found = entities(&"dog ".repeat(2_500), &["dog"]);
    check_spans(&"dog ".repeat(2_500), 1, &found);
    assert!(entities(&"a".repeat(10_000), &["dog"]).is_empty());
    assert!(entities(&"-'’s".repeat(2_500), &["dog"]).is_empty());
}

#[test]
fn any_text_gives_spans_of_words() {
    proptest::proptest!(|(answer in "([a-c'’s \\-.,🐕\u{301}]|dogs?|cat|no |two |the ){0,60}", tag in ".{0,12}")| {
        let list = ["dog", "cat", tag.as_str()];
        check_spans(&answer, 3, &entities(&answer, &list));
    });
}

/// Picks the last candidate and remembers what it was asked.
struct Voter(std::cell::RefCell<Vec<String>>);

#[async_trait(?Send)]
impl Vote for Voter {
    async fn vote(&self, phrase: &str, _: &str, candidates: &[String]) -> bubo::Result<Option<usize>> {
        self.0.borrow_mut().push(format!("{phrase}: {}", candidates.join("/")));
        Ok(candidates.len().checked_sub(1))
    }
}

#[test]
fn a_vote_decides_what_words_leave_open() {
    let voter = Voter(std::cell::RefCell::default());
    let matcher = Matcher { embedder: None, vote: Some(&voter) };
    let answer = "An animal lies on a couch.";
    let found = block_on(matcher.entities(answer, &things(&["cat", "dog", "dog", "couch"]))).expect("no failure");
    assert_eq!(shown(&found), "animal:1,2|couch:3");
    assert_eq!(*voter.0.borrow(), ["animal: cat/dog"]);
}

/// Says what it was made to say.
struct Says(&'static str);

#[async_trait(?Send)]
impl Pairing for Says {
    async fn reply(&self, _: &str, _: &[String]) -> bubo::Result<String> {
        Ok(self.0.to_owned())
    }
}

/// One reply, read with the original's faults and without.
#[test]
fn the_original_colours_the_first_place_even_within_a_word() {
    let answer = "🐕 A category: the cat sees a Dog, the dog sees it. A ball";
    let list = things(&["dog", "cat", "dog", "ball"]);
    let says = Says("cat - cat\ndog - dog\nA ball - ball\nbird - dog\ncat - horse\n - cat\nno pair");
    let read = |mode| {
        let found = block_on(Matcher::default().entities_by(mode, &says, answer, &list)).expect("no failure");
        check_places(answer, &found);
        shown(&found)
    };
    assert_eq!(read(MatchMode::Original), "cat:1|Dog:0,2|A ball:3", "the first cat is that of the category");
    let original = block_on(Matcher::default().entities_by(MatchMode::Original, &says, answer, &list));
    assert_eq!(original.expect("no failure")[0].start, 4);
    assert_eq!(read(MatchMode::Model), "cat:1|Dog:0,2|dog:0,2|A ball:3");
    assert_eq!(read(MatchMode::Lexicon), "cat:1|Dog:0,2|dog:0,2|ball:3");
    // Without things nobody is asked.
    for mode in [MatchMode::Original, MatchMode::Model, MatchMode::Both, MatchMode::Lexicon] {
        assert!(block_on(Matcher::default().entities_by(mode, &Silent, answer, &[])).expect("no failure").is_empty());
    }
}

/// Must not be asked.
struct Silent;

#[async_trait(?Send)]
impl Pairing for Silent {
    async fn reply(&self, _: &str, _: &[String]) -> bubo::Result<String> {
        Err(bubo::Error::Input("nobody should have been asked".into()))
    }
}

fn check_places(answer: &str, found: &[Entity]) {
    let text: Vec<char> = answer.chars().collect();
    for entity in found {
        assert_eq!(entity.phrase, text[entity.start..entity.end].iter().collect::<String>());
    }
}

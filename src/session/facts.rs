//! What was seen and heard, in words: the facts that the language model is given.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::grounding::taught::name::is_proper;
use crate::media::BoxPx;

/// How labels of sounds are said.
#[derive(Debug, Deserialize)]
struct SoundWords {
    named: BTreeMap<String, SoundWord>,
    general: Vec<String>,
    made_by_people: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct SoundWord {
    phrase: String,
    source: String,
}

fn sound_words() -> &'static SoundWords {
    static WORDS: OnceLock<SoundWords> = OnceLock::new();
    WORDS.get_or_init(|| {
        serde_json::from_str(include_str!("../../assets/words/sounds.json"))
            .expect("the file is part of the program and a test reads it")
    })
}

/// The label of a sound as it is said in a sentence: `Crowing, cock-a-doodle-doo` becomes `a rooster crowing`.
pub fn sound_phrase(label: &str) -> String {
    match sound_words().named.get(label) {
        Some(word) => word.phrase.clone(),
        None => label.split(',').next().unwrap_or(label).to_lowercase(),
    }
}

/// What makes the sound, in one or two words that could also name a thing in a picture; empty for silence.
pub fn sound_source(label: &str) -> String {
    match sound_words().named.get(label) {
        Some(word) => word.source.clone(),
        None => label.split([',', '(']).next().unwrap_or(label).trim().to_lowercase(),
    }
}

/// Whether some label of sounds has this source.
pub fn is_sound_source(noun: &str) -> bool {
    sound_words().named.values().any(|word| word.source == noun)
}

/// Whether it takes people to make the sound of a source: they play, work with it, or are it, as a choir.
pub fn is_made_by_people(source: &str) -> bool {
    sound_words().made_by_people.iter().any(|used| used == source)
}

/// Whether a label says so little that a narrower one is better: `Animal`.
pub fn is_general_sound(label: &str) -> bool {
    sound_words().general.iter().any(|general| general == label)
}

/// The labels worth saying, most confident first: the too general ones only where nothing narrower was heard, and one
/// phrase for labels with the same source.
///
/// - `heard`: label and mean confidence over the sound (0..1), in any order
/// - `most`: how many at the most
pub fn sounds_worth_saying<'a>(heard: &[(&'a str, f32)], most: usize) -> Vec<&'a str> {
    let mut heard: Vec<_> = heard.to_vec();
    heard.sort_by(|a, b| b.1.total_cmp(&a.1));
    let general = is_general_sound;
    let Some(best) = heard.iter().find(|(label, _)| !general(label)).or(heard.first()).copied() else {
        return Vec::new();
    };
    let mut said = vec![best.0];
    // A phrase that is a verb ("a dog barking") says more than the bare source ("a dog").
    let bare = |label: &str| sound_phrase(label).split(' ').count() <= 2;
    for (label, score) in heard.iter().copied() {
        match said.iter().position(|other| sound_source(other) == sound_source(label)) {
            Some(same) if bare(said[same]) && !bare(label) && score > 0.3 * best.1 => said[same] = label,
            Some(_) => {}
            None if !general(label) && score > 0.3 * best.1 && said.len() < most => said.push(label),
            None => {}
        }
    }
    said
}

/// A list in words: `a`, `a and b`, `a, b and c`.
pub fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// What cannot be counted, or has no singular.
const UNCOUNTED: &str = "bagpipes breaking broccoli chopping clicking creaking crushing fireworks flapping \
    grunting gurgling music panting paper rain rolling rubbing rustling sandpaper scraping \
    scratching squishing steam tapping water whirring wind wood";
/// What is always more than one.
const PAIRS: [&str; 5] = ["skis", "scissors", "sunglasses", "jeans", "binoculars"];

fn is_uncounted(noun: &str) -> bool {
    UNCOUNTED.split(' ').any(|word| word == noun)
}

/// The noun with `a` or `an` in front: `a dog`, `an owl`, `a unicorn`. A proper name goes without.
pub fn with_article(noun: &str) -> String {
    if is_proper(noun) {
        return noun.to_owned();
    }
    const VOWEL_SOUND: [&str; 3] = ["hour", "honest", "heir"];
    const CONSONANT_SOUND: [&str; 5] = ["uni", "use", "eu", "one", "ukulele"];
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| noun.starts_with(prefix));
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    let an = (vowel && !starts(&CONSONANT_SOUND)) || starts(&VOWEL_SOUND);
    let bare = is_uncounted(noun) || PAIRS.contains(&noun);
    if bare { noun.to_string() } else { format!("{} {noun}", if an { "an" } else { "a" }) }
}

/// The noun with `the` in front; a proper name goes without.
pub fn with_the(noun: &str) -> String {
    if is_proper(noun) { noun.to_owned() } else { format!("the {noun}") }
}

/// The text with a capital letter at its start.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A thing that a person named, with what it is: `Rex the dog`, `our owl`, `a thermos`.
///
/// - `aliases`: its other names, the nearest first
pub fn introduced(name: &str, aliases: &[String]) -> String {
    let kind = aliases.iter().find(|alias| !is_proper(alias));
    match kind.filter(|kind| is_proper(name) && !name.to_lowercase().ends_with(kind.as_str())) {
        Some(kind) => format!("{name} the {kind}"),
        None => with_article(name),
    }
}

/// That something is not there, as a sentence: `I see no dog in the picture.`, `I do not see Rex in the picture.`
pub fn not_seen(noun: &str) -> String {
    if is_proper(noun) {
        format!("I do not see {noun} in the picture.")
    } else {
        format!("I see no {noun} in the picture.")
    }
}

/// The plural of an English noun, whose last word changes: `hot dog` becomes `hot dogs`.
pub fn plural(noun: &str) -> String {
    let (front, last) = noun.rsplit_once(' ').map_or(("", noun), |(front, last)| (front, last));
    const IRREGULAR: [(&str, &str); 14] = [
        ("person", "people"),
        ("man", "men"),
        ("woman", "women"),
        ("child", "children"),
        ("mouse", "mice"),
        ("goose", "geese"),
        ("sheep", "sheep"),
        ("fish", "fish"),
        ("knife", "knives"),
        ("wolf", "wolves"),
        ("skis", "skis"),
        ("scissors", "scissors"),
        ("broccoli", "broccoli"),
        ("aircraft", "aircraft"),
    ];
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| last.ends_with(suffix));
    let changed = match IRREGULAR.iter().find(|(one, _)| *one == last) {
        Some((_, many)) => (*many).to_string(),
        None if ends(&["s", "x", "z", "ch", "sh"]) => format!("{last}es"),
        None if last.ends_with('y') && !ends(&["ay", "ey", "oy", "uy"]) => format!("{}ies", &last[..last.len() - 1]),
        None => format!("{last}s"),
    };
    if front.is_empty() { changed } else { format!("{front} {changed}") }
}

/// A count and its noun: `a dog`, `two dogs`, `15 dogs`, `two pairs of scissors`, `broccoli`.
pub fn counted(count: usize, noun: &str) -> String {
    const WORDS: [&str; 11] = ["no", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    if count == 1 || is_uncounted(noun) {
        return with_article(noun);
    }
    let number = WORDS.get(count).map_or_else(|| count.to_string(), |word| (*word).to_owned());
    let pairs = if PAIRS.contains(&noun) { "pairs of " } else { "" };
    format!("{number} {pairs}{}", plural(noun))
}

/// Where boxes lie in a picture `width` pixels wide: `on the left`, `in the middle`, `on the right`; none if they are
/// spread over it.
///
/// - `boxes_px`: pixels of the picture
pub fn place(boxes_px: &[BoxPx], width: usize) -> Option<&'static str> {
    let third = |b: &BoxPx| {
        let centre = (b.x0 + b.x1) / 2.0 / width.max(1) as f32;
        if centre < 0.36 {
            "on the left"
        } else if centre > 0.64 {
            "on the right"
        } else {
            "in the middle"
        }
    };
    let first = third(boxes_px.first()?);
    boxes_px.iter().all(|b| third(b) == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_said_as_people_say_them() {
        type Case<'a> = (&'a [(&'a str, f32)], &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&[("Animal", 0.98), ("Dog", 0.95), ("Bark", 0.8), ("Domestic animals, pets", 0.9)], &["Bark"]),
            (&[("Cattle, bovinae", 0.99), ("Moo", 0.99), ("Animal", 0.99)], &["Moo"]),
            (&[("Music", 0.9)], &["Music"]),
            (&[("Rain", 0.9), ("Speech", 0.6), ("Raindrop", 0.8)], &["Rain", "Speech"]),
            (&[("Guitar", 0.5), ("Silence", 0.4)], &["Guitar"]),
            (&[], &[]),
        ];
        for (heard, expected) in cases {
            assert_eq!(sounds_worth_saying(heard, 2), expected, "{heard:?}");
        }
        assert_eq!(sound_phrase("Moo"), "a cow mooing");
        let unknown = "Fizz (a drink), bubbling";
        assert_eq!((sound_phrase(unknown), sound_source(unknown)), ("fizz (a drink)".into(), "fizz".into()));
        assert_eq!(sound_source("Whimper (dog)"), "dog");
        assert!(is_made_by_people("violin") && !is_made_by_people("train"));
        let labels: Vec<String> =
            serde_json::from_str(include_str!("../../assets/labels/audioset_labels.json")).expect("a list of names");
        let without_words: Vec<&String> =
            labels.iter().filter(|label| !sound_words().named.contains_key(*label)).collect();
        assert!(without_words.is_empty(), "{without_words:?}");
        let is_source = |used: &&String| sound_words().named.values().any(|word| word.source == **used);
        assert_eq!(sound_words().made_by_people.iter().find(|used| !is_source(used)), None, "no sound comes from it");
    }

    #[test]
    fn nouns_are_counted() {
        let cases = [
            (1, "owl", "an owl"),
            (2, "person", "two people"),
            (3, "bus", "three buses"),
            (12, "hot dog", "12 hot dogs"),
            (2, "scissors", "two pairs of scissors"),
            (3, "broccoli", "broccoli"),
        ];
        for (count, noun, expected) in cases {
            assert_eq!(counted(count, noun), expected);
        }
        assert_eq!(with_article("unicycle"), "a unicycle");
        assert_eq!([with_article("rain"), with_article("training")], ["rain", "a training"]);
        assert_eq!(plural("teddy bear"), "teddy bears");
        assert_eq!(listed(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }

    #[test]
    fn names_take_no_articles() {
        assert_eq!((with_article("Rex"), with_article("our owl")), ("Rex".into(), "our owl".into()));
        assert_eq!(
            (counted(1, "Élodie"), with_the("Rex"), with_the("dog")),
            ("Élodie".into(), "Rex".into(), "the dog".into())
        );
        assert_eq!(introduced("Rex", &["dog".into()]), "Rex the dog");
        assert_eq!(introduced("our owl", &["owl".into()]), "our owl");
        assert_eq!(introduced("thermos", &["bottle".into()]), "a thermos");
        assert_eq!(sentence("our owl is on the left."), "Our owl is on the left.");
        assert_eq!(not_seen("Rex"), "I do not see Rex in the picture.");
    }

    #[test]
    fn places_are_thirds_of_the_width() {
        let at = |x: f32| BoxPx { x0: x, y0: 0.0, x1: x + 10.0, y1: 10.0 };
        assert_eq!(place(&[at(5.0)], 100), Some("on the left"));
        assert_eq!(place(&[at(45.0)], 100), Some("in the middle"));
        assert_eq!(place(&[at(80.0), at(85.0)], 100), Some("on the right"));
        assert_eq!(place(&[at(5.0), at(80.0)], 100), None);
        assert_eq!(place(&[], 100), None);
    }
}

//! What files show or what is heard in them, by their names, where a package has no labels of its own.

use std::path::Path;

use crate::vocabulary::{Noun, Vocabulary};

/// Folders of clip art that show things rather than signs.
const CLIPART_FOLDERS: [&str; 7] = ["animals", "food", "transportation", "plants", "tools", "recreation", "household"];

/// What a piece of clip art shows, by its folder and the words of its file's name, if they are in the vocabulary.
///
/// - `file`: within the package
pub fn clipart(file: &Path, vocabulary: &Vocabulary) -> Option<Noun> {
    let inside = file.strip_prefix("usr/share/openclipart/png").ok()?;
    let folder = inside.iter().next()?.to_str()?;
    if !CLIPART_FOLDERS.contains(&folder) || inside.iter().any(|part| part == "roadsigns" || part == "cards") {
        return None;
    }
    let stem = inside.file_stem()?.to_str()?.to_lowercase();
    let words: Vec<&str> = stem.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()).collect();
    // The name stands in front; who drew it comes after.
    let starts = 0..words.len().min(2);
    let candidates = starts.flat_map(|start| (1..=3).rev().map(move |count| (start, start + count)));
    let found = candidates.filter_map(|(start, end)| vocabulary.known(&words.get(start..end)?.join(" ")));
    found.into_iter().next()
}

/// Words that mean another thing in names of characters, or in labels of drawings, than in the vocabulary: a computer's
/// mouse, a Komodo dragon, an ear of maize, a guitar's pick, a fish, an electric fan.
const OTHER_MEANINGS: [&str; 7] = ["mouse", "dragon", "ear", "pick", "cricket", "ray", "fan"];
/// Last words of names of characters that are no things by themselves: `sign`, `rice ball`, `railway car`.
const NO_THINGS: [&str; 27] = [
    "sign", "suit", "ball", "machine", "bar", "bars", "hook", "monster", "balloon", "box", "disc", "pad", "aid",
    "bubble", "tray", "pole", "store", "person", "cover", "uniform", "slide", "track", "drum", "keyboard", "glass",
    "monkey", "wheel",
];
/// Faces of people and cats that show moods.
const MOODS: std::ops::RangeInclusive<u32> = 0x1F600..=0x1F64F;

/// What an emoji shows, by its file's name (`1f436_dog_face.png`), if it is a thing of the vocabulary.
pub fn emoji(file: &Path, vocabulary: &Vocabulary) -> Option<Noun> {
    let (code, name) = file.file_stem()?.to_str()?.split_once('_')?;
    let words: Vec<&str> = name.split('_').collect();
    let is_scene = words.iter().any(|word| ["and", "with", "of", "railway", "tram"].contains(word));
    if MOODS.contains(&u32::from_str_radix(code, 16).ok()?) || is_scene {
        return None;
    }
    let words = words.strip_suffix(&["face"]).unwrap_or(&words);
    let meant = |noun: &Noun| !OTHER_MEANINGS.contains(&noun.name.as_str());
    let whole = vocabulary.known(&words.join(" ")).filter(|noun| words != ["sign"] && meant(noun));
    let ends = (1..words.len().min(3)).map(|start| &words[start..]);
    let named = ends.filter(|end| !NO_THINGS.contains(&end.join(" ").as_str()));
    let mut named = named.filter_map(|end| vocabulary.known(&end.join(" ")).filter(meant));
    whole.or_else(|| named.next())
}

/// Folders of GCompris with pictures named by what they show, and whether names outside the vocabulary count too.
const PICTURES: [(&str, bool); 5] = [
    ("lang/resource/words_sample", false),
    ("erase/resource", true),
    ("categorization/resource/images/tools", false),
    ("categorization/resource/images/fishes", false),
    ("categorization/resource/images/renewable", false),
];
/// The same of folders with sounds.
const SOUNDS: [(&str, bool); 2] = [("instruments/resource", true), ("memory-sound/resource", false)];
/// What files of GCompris are called, and what that means.
const MEANINGS: [(&str, &str); 14] = [
    ("calf", "cow"),
    ("chamaeleon", "chameleon"),
    ("chicken", "hen"),
    ("flute traversiere", "flute"),
    ("flying fox", "bat"),
    ("gosling", "goose"),
    ("heron", "bird"),
    ("kingfisher", "bird"),
    ("long nosed monkey", "proboscis monkey"),
    ("lrbark", "dog"),
    ("lrbuddhist gong", "gong"),
    ("northern harrier", "bird"),
    ("nubian ibex", "ibex"),
    ("owl", "bird"),
];

fn gcompris(file: &Path, folder: &str) -> Option<String> {
    let inside = file.strip_prefix(Path::new("resources/gcompris/src/activities").join(folder)).ok()?;
    let mut words = vec![String::new()];
    let stem = inside.file_stem()?.to_str()?;
    for (at, character) in stem.char_indices() {
        // `guitar_son2`, `screwDriver1`, `LRBark_1_LA_cut`: the name ends where a number or a remark starts.
        if character.is_ascii_digit() {
            break;
        }
        let starts_word = stem[..at].ends_with(|before: char| before.is_lowercase()) && character.is_uppercase();
        if starts_word || !character.is_alphabetic() {
            words.push(String::new());
        }
        words.last_mut()?.extend(character.to_lowercase().filter(|character| character.is_alphabetic()));
    }
    words.retain(|word| !word.is_empty() && word != "son");
    let name = words.join(" ");
    let meaning = MEANINGS.iter().find(|(said, _)| *said == name).map(|(_, meaning)| (*meaning).to_owned());
    Some(meaning.unwrap_or(name))
}

fn gcompris_noun(file: &Path, folders: &[(&str, bool)], vocabulary: &Vocabulary) -> Option<Noun> {
    folders.iter().find_map(|(folder, any_name)| {
        let name = gcompris(file, folder)?;
        let singular = name.strip_suffix('s').unwrap_or(&name);
        let joined = name.replace(' ', "");
        let known = [name.as_str(), singular, &joined].into_iter().find_map(|name| vocabulary.known(name));
        known.or_else(|| any_name.then(|| vocabulary.noun(&name)))
    })
}

/// What a picture of GCompris shows.
///
/// - `file`: within the package
pub fn gcompris_picture(file: &Path, vocabulary: &Vocabulary) -> Option<Noun> {
    gcompris_noun(file, &PICTURES, vocabulary).filter(|noun| !OTHER_MEANINGS.contains(&noun.name.as_str()))
}

/// What makes a sound of GCompris.
///
/// - `file`: within the package
pub fn gcompris_sound(file: &Path, vocabulary: &Vocabulary) -> Option<Noun> {
    gcompris_noun(file, &SOUNDS, vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Name = fn(&Path, &Vocabulary) -> Option<Noun>;

    fn check(name: Name, folder: &str, cases: &[(&str, Option<(&str, &str)>)]) {
        let vocabulary = Vocabulary::new().unwrap();
        for (file, expected) in cases {
            let found = name(&Path::new(folder).join(file), &vocabulary);
            let found = found.as_ref().map(|noun| (noun.name.as_str(), noun.kind.as_str()));
            assert_eq!(found, *expected, "{file}");
        }
    }

    #[test]
    fn clip_art_is_named_by_its_file() {
        let cases = [
            ("animals/mammals/cat_01.png", Some(("cat", "cat"))),
            ("transportation/fire_truck_by_someone_01.png", Some(("truck", "truck"))),
            ("shapes/stars/star_30pt07step.png", None),
            ("animals/rana03_architetto_france_01.png", None),
        ];
        check(clipart, "usr/share/openclipart/png", &cases);
    }

    #[test]
    fn emoji_are_named_by_their_characters() {
        let cases = [
            ("1f436_dog_face.png", Some(("dog", "dog"))),
            ("1f692_fire_engine.png", Some(("fire engine", "truck"))),
            ("1f34e_red_apple.png", Some(("apple", "apple"))),
            ("1f366_soft_ice_cream.png", Some(("ice cream", "cream"))),
            ("1f63e_pouting_cat_face.png", None),
            ("1f401_mouse.png", None),
            ("2622_radioactive_sign.png", None),
            ("1f359_rice_ball.png", None),
            ("1f6cb_couch_and_lamp.png", None),
            ("1f600_grinning_face.png", None),
        ];
        check(emoji, "glyphs", &cases);
    }

    #[test]
    fn files_of_gcompris_are_named() {
        let folder = "resources/gcompris/src/activities";
        let pictures = [
            ("erase/resource/camels.webp", Some(("camel", "camel"))),
            ("erase/resource/calf.webp", Some(("cow", "cow"))),
            ("erase/resource/pika.webp", Some(("pika", "pika"))),
            ("lang/resource/words_sample/pika.webp", None),
            ("lang/resource/words_sample/seven.webp", None),
            ("lang/resource/words_sample/ear.webp", None),
            ("categorization/resource/images/tools/screwDriver1.webp", Some(("screwdriver", "screwdriver"))),
            ("categorization/resource/images/others/cup.webp", None),
        ];
        check(gcompris_picture, folder, &pictures);
        let sounds = [
            ("memory-sound/resource/LRBark_3_LA_cut.ogg", Some(("dog", "dog"))),
            ("memory-sound/resource/guitar_son2.ogg", Some(("guitar", "guitar"))),
            ("instruments/resource/snare_drum.ogg", Some(("snare drum", "drum"))),
            ("instruments/resource/maracas.ogg", Some(("maraca", "maraca"))),
            ("memory-sound/resource/LRWeird_1_LA.ogg", None),
        ];
        check(gcompris_sound, folder, &sounds);
    }
}

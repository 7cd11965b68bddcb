//! Tags that name nothing with a place of its own: what happens, what things are like, when and where.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    not_things: String,
}

/// Whether a tag (lower-case) is on the list of those that name no thing, for example `brown`, `run` and `kitchen`. Words
/// that the list does not know are taken for things.
pub fn names_no_thing(tag: &str) -> bool {
    static LIST: OnceLock<HashSet<String>> = OnceLock::new();
    LIST.get_or_init(|| parse(include_str!("../../../assets/words/tags.json"))).contains(tag)
}

/// A list that cannot be read is empty: it is compiled in, and a test reads it.
fn parse(json: &str) -> HashSet<String> {
    let list = serde_json::from_str::<File>(json).map(|file| file.not_things).unwrap_or_default();
    list.split(';').filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_told_from_what_happens_and_how_and_where() {
        let things = [
            "dog",
            "bear",
            "fly",
            "sky",
            "grass",
            "beach",
            "street",
            "person",
            "orange",
            "olive",
            "watch",
            "swing",
            "sink",
            "traffic light",
            "hot dog",
            "stuffed animal",
            "fireplace",
            "swimming pool",
            "zongzi",
            "a word of nobody's",
        ];
        let others = [
            "brown",
            "run",
            "park",
            "kitchen",
            "winter",
            "sit",
            "snowy",
            "play football",
            "wedding",
            "birthday party",
            "beautiful",
            "3d cg rendering",
            "living room",
        ];
        let wrong: Vec<&str> = things.into_iter().filter(|tag| names_no_thing(tag)).collect();
        assert!(wrong.is_empty(), "things, and taken for others: {wrong:?}");
        let wrong: Vec<&str> = others.into_iter().filter(|tag| !names_no_thing(tag)).collect();
        assert!(wrong.is_empty(), "no things, and taken for some: {wrong:?}");
    }
}

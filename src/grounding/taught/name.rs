//! What a taught thing may be called, and which names are proper ones.

use crate::error::{Error, Result};

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 40;
/// Longest name, in words: the longest that the matcher of answers knows.
pub const MAX_NAME_WORDS: usize = 4;

/// Words that make a name one of a single thing: `our doorbell`.
const POSSESSIVE: [&str; 8] = ["my", "our", "your", "his", "her", "its", "their", "the"];

/// Whether a tag is the name of one single thing, which takes no article: it begins with a capital letter (`Rex`) or
/// with a word that says whose it is (`our doorbell`). All other tags are lower-case English nouns.
pub fn is_proper(tag: &str) -> bool {
    let first = tag.split(' ').next().unwrap_or_default();
    first.chars().next().is_some_and(char::is_uppercase) || POSSESSIVE.contains(&first)
}

/// A name as it is kept: outer and double spaces taken off.
///
/// # Errors
/// [`Error::Input`] for one that is empty, too long, or holds anything but letters, digits, spaces, `'`, `’`, `-`, `.`
/// and `&`; the message says which.
pub fn checked_name(what: &str, name: &str) -> Result<String> {
    let characters = name.chars().count();
    if characters > MAX_NAME_CHARS {
        return Err(refused(format!("the {what} has {characters} characters; give one of at most {MAX_NAME_CHARS}")));
    }
    let words: Vec<&str> = name.split_whitespace().collect();
    if words.is_empty() {
        return Err(refused(format!("the {what} is empty; type one")));
    }
    if words.len() > MAX_NAME_WORDS {
        return Err(refused(format!("the {what} {name:?} has {} words; give at most {MAX_NAME_WORDS}", words.len())));
    }
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '-' | '.' | '&');
    if let Some(other) = words.iter().flat_map(|word| word.chars()).find(|c| !plain(*c)) {
        return Err(refused(format!(
            "the {what} {name:?} holds the character {other:?}; use letters, digits, spaces, apostrophes and hyphens"
        )));
    }
    if !words.iter().all(|word| word.chars().any(char::is_alphanumeric)) {
        return Err(refused(format!("the {what} {name:?} has a word without a letter; write it with letters")));
    }
    Ok(words.join(" "))
}

/// A broader kind as it is kept: as a name, in lower case; nothing of an empty one.
///
/// # Errors
/// As [`checked_name`].
pub fn checked_kind(kind: &str) -> Result<Option<String>> {
    if kind.trim().is_empty() {
        return Ok(None);
    }
    Ok(Some(checked_name("kind", kind)?.to_lowercase()))
}

fn refused(reason: String) -> Error {
    Error::Input(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proper_names_are_told_from_nouns() {
        for name in ["Rex", "our doorbell", "Élodie", "The Boss", "my mug"] {
            assert!(is_proper(name), "{name}");
        }
        for noun in ["dog", "coffee mug", "thermos", "otter", "", "3d glasses"] {
            assert!(!is_proper(noun), "{noun}");
        }
    }

    #[test]
    fn names_are_plain_words() {
        let good = [
            ("Rex", "Rex"),
            ("  our   door-bell ", "our door-bell"),
            ("Mr. O’Neil", "Mr. O’Neil"),
            ("Ñandú 2", "Ñandú 2"),
        ];
        for (given, kept) in good {
            assert_eq!(checked_name("name", given).expect("a plain name"), kept);
        }
        let bad = [
            ("", "empty"),
            ("   ", "empty"),
            ("<b>Rex</b>", "'<'"),
            ("Rex\u{202e}", "character"),
            ("Rex, the dog", "','"),
            ("a b c d e", "5 words"),
            ("Rex -", "without a letter"),
            ("re\u{0}x", "character"),
        ];
        for (given, reason) in bad {
            let error = checked_name("name", given).expect_err(given);
            assert!(error.code() == "input" && error.to_string().contains(reason), "{given:?}: {error}");
        }
        let error = checked_name("name", &"x".repeat(10_000)).expect_err("too long").to_string();
        assert!(error.contains("10000 characters") && error.len() < 200, "{error}");
        assert_eq!(checked_kind(" Dog ").expect("a kind"), Some("dog".into()));
        assert_eq!(checked_kind(" ").expect("no kind"), None);
    }
}

//! The words of an answer and where they stand, in Unicode characters.

use unicode_segmentation::UnicodeSegmentation;

/// What lies between a word and the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Spaces, or marks that do not end a phrase (emphasis, quotes).
    Space,
    /// A comma.
    Comma,
    /// Anything else within a sentence.
    Break,
    /// The end of a sentence, or a new line; also before the first word.
    Sentence,
}

/// A word, hyphenated ones taken together.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Lower-case, with straight apostrophes and without a possessive ending.
    pub text: String,
    /// First character.
    pub start: usize,
    /// The character after the last; a possessive ending is outside.
    pub end: usize,
    /// What lies before it.
    pub gap: Gap,
    /// Whether an `'s` or `'` of possession follows.
    pub possessive: bool,
    /// Whether the next word hangs on it by a hyphen.
    hyphen: bool,
}

fn worsen(gap: Gap, mark: &str) -> Gap {
    let found = match mark {
        "," => Gap::Comma,
        "." | "!" | "?" | ";" | "\n" | "\r\n" | "\r" | "…" | "。" => Gap::Sentence,
        "*" | "_" | "`" | "\"" | "'" | "“" | "”" | "‘" | "’" => Gap::Space,
        mark if mark.chars().all(char::is_whitespace) => Gap::Space,
        _ => Gap::Break,
    };
    let rank = |gap| match gap {
        Gap::Space => 0,
        Gap::Comma => 1,
        Gap::Break => 2,
        Gap::Sentence => 3,
    };
    if rank(found) > rank(gap) { found } else { gap }
}

/// Splits a text into words by the Unicode rules (UAX 29), joins hyphenated ones and takes possessive endings off.
pub(super) fn split(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let (mut at, mut gap, mut touching) = (0, Gap::Sentence, false);
    for piece in text.split_word_bounds() {
        let end = at + piece.chars().count();
        if piece.chars().any(char::is_alphanumeric) {
            let word = word(piece, at, end, gap);
            match words.last_mut() {
                Some(last) if touching && last.hyphen && last.end + 1 == at && !last.possessive => {
                    last.text = format!("{}-{}", last.text, word.text);
                    (last.end, last.possessive, last.hyphen) = (word.end, word.possessive, false);
                }
                _ => words.push(word),
            }
            (gap, touching) = (Gap::Space, true);
        } else {
            let hyphen = touching && matches!(piece, "-" | "‐" | "‑");
            if let Some(last) = words.last_mut() {
                last.hyphen = hyphen && last.end == at;
                last.possessive |= piece == "'" && last.end == at && last.text.ends_with('s');
            }
            gap = worsen(gap, piece);
            touching = hyphen;
        }
        at = end;
    }
    words
}

fn word(piece: &str, start: usize, end: usize, gap: Gap) -> Word {
    // Underscores count as letters in UAX 29; here they are marks of emphasis.
    let trimmed = piece.trim_start_matches('_');
    let start = start + piece.len() - trimmed.len();
    let piece = trimmed.trim_end_matches('_');
    let end = end - (trimmed.len() - piece.len());
    let text = piece.to_lowercase().replace('’', "'");
    let (text, possessive) = match text.strip_suffix("'s") {
        // `it's` and the like are a pronoun and a verb.
        Some(stem) if !matches!(stem, "it" | "he" | "she" | "that" | "there" | "what" | "who" | "here" | "let") => {
            (stem.to_owned(), true)
        }
        _ => (text, false),
    };
    Word { text, start, end: if possessive { end - 2 } else { end }, gap, possessive, hyphen: false }
}

/// A text as it is looked up: lower-case words, hyphens as spaces.
pub(super) fn normalize(text: &str) -> String {
    split(text).iter().map(|word| word.text.replace('-', " ")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_where_they_are_in_characters() {
        let found: Vec<(String, usize, usize, bool)> = split("😀 The dog’s black-and-white café, “ok”")
            .into_iter()
            .map(|word| (word.text, word.start, word.end, word.possessive))
            .collect();
        let expected = [
            ("the", 2, 5, false),
            ("dog", 6, 9, true),
            ("black-and-white", 12, 27, false),
            ("café", 28, 32, false),
            ("ok", 35, 37, false),
        ];
        assert_eq!(found, expected.map(|(text, start, end, own)| (text.to_owned(), start, end, own)));
    }

    #[test]
    fn combining_characters_stay_in_their_word() {
        let words = split("cafe\u{301}s");
        assert_eq!((words.len(), words[0].start, words[0].end), (1, 0, 6));
    }
}

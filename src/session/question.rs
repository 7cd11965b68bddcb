//! What a question asks for. A small language model answers "is there a dog?" with yes to nearly everything, while boxes
//! and tags know; so the questions that evidence can answer are told from those that need words.

/// What a question asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// To describe what is seen, heard, or both.
    Describe {
        /// The picture is meant.
        picture: bool,
        /// The sound is meant.
        sound: bool,
    },
    /// What it is that is seen or heard: the kind that is asked for, if one is (`animal`).
    Identity(Option<String>),
    /// What colour something is: the noun, none for `it`.
    Color(Option<String>),
    /// Whether something is there: the noun.
    Presence(String),
    /// Where something is: the noun.
    Place(String),
    /// How many there are: the noun.
    Count(String),
    /// Whether picture and sound belong together.
    Relation,
    /// What makes the sound.
    SoundSource,
    /// Anything else.
    Open,
}

impl Question {
    /// Tells what an English question asks for; whatever is not recognised is [`Question::Open`].
    pub fn parse(text: &str) -> Self {
        let lower = text.trim().to_lowercase();
        let words: Vec<&str> =
            lower.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-').filter(|w| !w.is_empty()).collect();
        let has = |options: &[&str]| words.iter().any(|word| options.contains(word));
        let picture = has(&["picture", "image", "photo", "photograph", "see", "seen", "scene", "look"]);
        let sound = has(&["sound", "audio", "noise", "hear", "heard", "listen", "recording"]);
        let starts = |prefixes: &[&[&str]]| {
            prefixes.iter().find(|prefix| words.starts_with(prefix)).map(|prefix| noun_of(&words[prefix.len()..]))
        };
        if picture && sound && has(&["belong", "match", "related", "relate", "together", "fit", "same", "unrelated"]) {
            return Question::Relation;
        }
        let presence: [&[&str]; 14] = [
            &["is", "there"],
            &["are", "there"],
            &["do", "you", "see"],
            &["can", "you", "see"],
            &["do", "you", "hear"],
            &["can", "you", "hear"],
            &["does", "the", "picture", "show"],
            &["does", "it", "show"],
            &["is", "this", "a"],
            &["is", "this", "an"],
            &["is", "it", "a"],
            &["is", "it", "an"],
            &["are", "these"],
            &["does", "this", "show"],
        ];
        if let Some(Some(noun)) = starts(&presence) {
            return Question::Presence(noun);
        }
        if let Some(Some(noun)) = starts(&[&["where", "is"], &["where", "are"], &["where's"]]) {
            return Question::Place(noun);
        }
        if let Some(Some(noun)) = starts(&[&["how", "many"]]) {
            return Question::Count(noun);
        }
        if let Some(color) = words.iter().position(|word| ["colour", "color", "colours", "colors"].contains(word))
            && has(&["what", "which"])
        {
            return Question::Color(thing_of(&words[color + 1..]));
        }
        if let Some(kind) = identity(&words) {
            return Question::Identity(kind);
        }
        let makes =
            has(&["making", "makes", "make", "source", "causes", "causing", "caused", "comes", "coming", "from"]);
        if sound && makes && has(&["what", "who", "which", "where"]) {
            return Question::SoundSource;
        }
        let describe = has(&["describe", "caption"])
            || [
                "what do you",
                "what can you",
                "what is in",
                "what's in",
                "what does",
                "what is shown",
                "what is the sound",
                "what is that sound",
                "what sound",
                "tell me what",
            ]
            .iter()
            .any(|start| lower.starts_with(start));
        let about_things = has(&["colour", "color", "eat", "mean", "why", "animal", "breed", "think", "feel", "do if"]);
        if describe && !about_things {
            // "Describe it" means whatever there is.
            let both = picture == sound;
            return Question::Describe { picture: picture || both, sound: sound || both };
        }
        Question::Open
    }
}

/// The thing that a question is about, behind its verb: `is the cup`, `has this dog`; none for `is it`.
fn thing_of(words: &[&str]) -> Option<String> {
    const VERBS: [&str; 8] = ["of", "is", "are", "has", "have", "does", "do", "in"];
    const MEANT: [&str; 8] = ["it", "this", "that", "these", "those", "they", "picture", "image"];
    let words = &words[words.iter().take_while(|word| VERBS.contains(*word)).count()..];
    noun_of(words).filter(|noun| !MEANT.contains(&noun.as_str()))
}

/// Whether a question asks what something is, and of which kind: `what is it`, `which animal is this`,
/// `what kind of dog is that`.
fn identity(words: &[&str]) -> Option<Option<String>> {
    const MEANT: [&str; 5] = ["it", "this", "that", "these", "those"];
    let (["what" | "which" | "what's" | "who", rest @ ..], Some(last)) = (words, words.last()) else { return None };
    let rest = match rest {
        ["kind" | "sort" | "type" | "breed" | "species", "of", rest @ ..] => rest,
        _ => rest,
    };
    if !MEANT.contains(last) {
        return None;
    }
    match rest {
        [_] if words[0] == "what's" => Some(None),
        ["is" | "are", _] => Some(None),
        [kind @ .., "is" | "are", _] if kind.len() <= 2 => Some(Some(kind.join(" "))),
        _ => None,
    }
}

/// The noun phrase at the start of what is left of a question: without articles, up to a word that ends it.
fn noun_of(words: &[&str]) -> Option<String> {
    const LEADING: [&str; 11] =
        ["a", "an", "the", "any", "some", "one", "anything", "something", "another", "other", "this"];
    const ENDING: [&str; 22] = [
        "in", "on", "at", "of", "are", "is", "there", "here", "do", "can", "does", "and", "or", "with", "near", "to",
        "you", "visible", "that", "anywhere", "making", "now",
    ];
    let words = &words[words.iter().take_while(|word| LEADING.contains(*word)).count()..];
    let noun: Vec<&str> = words.iter().copied().take_while(|word| !ENDING.contains(word)).collect();
    (!noun.is_empty() && noun.len() <= 4).then(|| noun.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart() {
        let both = Question::Describe { picture: true, sound: true };
        let cases = [
            ("Describe the picture.", Question::Describe { picture: true, sound: false }),
            ("Describe what you see and hear.", both.clone()),
            ("What do you see?", Question::Describe { picture: true, sound: false }),
            ("What is this?", Question::Identity(None)),
            ("What's that?", Question::Identity(None)),
            ("What animal is it?", Question::Identity(Some("animal".into()))),
            ("What kind of dog is this?", Question::Identity(Some("dog".into()))),
            ("What is it doing?", Question::Open),
            ("What colour is the dog?", Question::Color(Some("dog".into()))),
            ("What is the color of the coffee cup?", Question::Color(Some("coffee cup".into()))),
            ("What colour is it?", Question::Color(None)),
            ("Describe it", both),
            ("What do you hear?", Question::Describe { picture: false, sound: true }),
            ("Is there a dog in the picture?", Question::Presence("dog".into())),
            ("Are there any hot dogs?", Question::Presence("hot dogs".into())),
            ("Do you see a cat or a dog?", Question::Presence("cat".into())),
            ("Where is the coffee cup?", Question::Place("coffee cup".into())),
            ("How many people are there?", Question::Count("people".into())),
            ("Do the picture and the sound belong together?", Question::Relation),
            ("What is making this sound?", Question::SoundSource),
            ("Where does the sound come from?", Question::SoundSource),
            ("Why is the cat there?", Question::Open),
            ("Is there?", Question::Open),
            ("", Question::Open),
        ];
        let failures: Vec<_> = cases.iter().filter(|(text, expected)| Question::parse(text) != *expected).collect();
        assert!(
            failures.is_empty(),
            "{failures:?}, first parsed as {:?}",
            failures.first().map(|(t, _)| Question::parse(t))
        );
    }
}

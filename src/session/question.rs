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
    /// What is in one part of the picture.
    Part {
        /// Which, as [`facts::place`](super::facts::place) says it: `on the left`.
        place: &'static str,
        /// The kind that is asked for, if one is (`animal`).
        kind: Option<String>,
    },
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
        Self::parse_with(text, &[])
    }

    /// As [`parse`](Self::parse), where things may have names that a person gave them. Nouns of the result are written as
    /// those are; they are found whatever their words, and in lower case too.
    pub fn parse_with(text: &str, names: &[String]) -> Self {
        let lower = text.trim().to_lowercase();
        let lowered: Vec<String> = names.iter().map(|name| words_of(&name.to_lowercase()).join(" ")).collect();
        let words = with_names_joined(&words_of(&lower), &lowered);
        let is_name = |word: &str| lowered.iter().any(|name| name == word);
        let written = |noun: String| {
            let named = |name: &String| {
                noun.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
            };
            lowered.iter().position(named).map_or_else(|| noun.clone(), |at| names[at].clone())
        };
        const THERE: [&str; 7] = ["there", "here", "in", "on", "visible", "shown", "around"];
        match words.as_slice() {
            ["is", "this" | "that" | "it", name] if is_name(name) => {
                return Question::Presence(written((*name).into()));
            }
            ["is", name, rest @ ..] if is_name(name) && rest.first().is_none_or(|word| THERE.contains(word)) => {
                return Question::Presence(written((*name).into()));
            }
            ["who" | "which", "is", name] if is_name(name) => return Question::Place(written((*name).into())),
            ["which", kind, "is", name] if is_name(name) && !kind.starts_with("colo") => {
                return Question::Place(written((*name).into()));
            }
            _ => {}
        }
        match Self::parse_words(&lower, &words) {
            Question::Color(Some(noun)) => Question::Color(Some(written(noun))),
            Question::Presence(noun) => Question::Presence(written(noun)),
            Question::Place(noun) => Question::Place(written(noun)),
            Question::Count(noun) => Question::Count(written(noun)),
            Question::Part { place, kind } => Question::Part { place, kind: kind.map(written) },
            other => other,
        }
    }

    fn parse_words(lower: &str, words: &[&str]) -> Self {
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
        if let Some(kind) = identity(words) {
            return Question::Identity(kind);
        }
        if let Some((place, kind)) = part(words).filter(|_| !sound) {
            return Question::Part { place, kind };
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

/// The words of a text in lower case.
fn words_of(lower: &str) -> Vec<&str> {
    lower.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-').filter(|word| !word.is_empty()).collect()
}

/// Words with each name taken together as one; of names that begin alike the longest.
fn with_names_joined<'a>(words: &[&'a str], names: &'a [String]) -> Vec<&'a str> {
    let (mut joined, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let starts_here = |name: &&String| {
            let name: Vec<&str> = name.split(' ').collect();
            words[at..].starts_with(&name)
        };
        match names.iter().filter(|name| !name.is_empty()).filter(starts_here).max_by_key(|name| name.len()) {
            Some(name) => {
                joined.push(name.as_str());
                at += name.split(' ').count();
            }
            None => {
                joined.push(words[at]);
                at += 1;
            }
        }
    }
    joined
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

/// Which part of the picture a question asks for, and for which kind of thing in it: `what is on the left`,
/// `which animals do you see in the middle of the picture`, `who is the person on the right`.
fn part(words: &[&str]) -> Option<(&'static str, Option<String>)> {
    const BEHIND: [&str; 9] = ["side", "hand", "part", "half", "of", "the", "this", "picture", "image"];
    const ANYTHING: [&str; 7] = ["thing", "things", "object", "objects", "one", "else", "there"];
    let at = words.windows(2).position(|pair| matches!(pair, ["on" | "at" | "in" | "to", "the"]))?;
    let (place, behind) = match &words[at + 2..] {
        ["left", behind @ ..] => ("on the left", behind),
        ["right", behind @ ..] => ("on the right", behind),
        ["middle" | "center" | "centre", behind @ ..] => ("in the middle", behind),
        _ => return None,
    };
    let kind = match &words[..at] {
        ["what's" | "who's"] | ["what" | "who", "is" | "are"] | ["what" | "who", "do" | "can", "you", "see"] => &[],
        ["what's" | "who's", "the" | "that", kind @ ..] => kind,
        ["what" | "who" | "which", "is" | "are", "the" | "that" | "those", kind @ ..] => kind,
        ["what" | "which", kind @ .., "is" | "are"] => kind,
        ["what" | "which", kind @ .., "do" | "can", "you", "see"] => kind,
        _ => return None,
    };
    let is_known = kind.len() <= 2 && behind.iter().all(|word| BEHIND.contains(word));
    let kind = Some(kind.join(" ")).filter(|kind| !kind.is_empty() && !ANYTHING.contains(&kind.as_str()));
    is_known.then_some((place, kind))
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
    // What there is a pair or a group of is what is asked for.
    let words = match words {
        ["pair" | "pairs" | "group" | "couple" | "piece" | "kind" | "bunch", "of", rest @ ..] if !rest.is_empty() => {
            rest
        }
        _ => words,
    };
    let noun: Vec<&str> = words.iter().copied().take_while(|word| !ENDING.contains(word)).collect();
    (!noun.is_empty() && noun.len() <= 4).then(|| noun.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_told_apart() {
        let both = Question::Describe { picture: true, sound: true };
        let part = |place, kind: Option<&str>| Question::Part { place, kind: kind.map(str::to_owned) };
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
            ("Is there a pair of scissors in the picture?", Question::Presence("scissors".into())),
            ("Do you see a cat or a dog?", Question::Presence("cat".into())),
            ("Where is the coffee cup?", Question::Place("coffee cup".into())),
            ("How many people are there?", Question::Count("people".into())),
            ("What is on the left?", part("on the left", None)),
            ("What's in the centre of the picture?", part("in the middle", None)),
            ("What do you see on the right hand side?", part("on the right", None)),
            ("Which animals are on the left?", part("on the left", Some("animals"))),
            ("What is the thing on the left?", part("on the left", None)),
            ("Who is the old man on the right?", part("on the right", Some("old man"))),
            ("What is on the left of the dog?", Question::Open),
            ("What sound is in the middle?", Question::Describe { picture: false, sound: true }),
            ("What is the dog on the left doing?", Question::Open),
            ("What colour is the cup on the left?", Question::Color(Some("cup".into()))),
            ("Is there a dog on the left?", Question::Presence("dog".into())),
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

    #[test]
    fn names_that_were_given_are_found_in_questions() {
        let names = ["Rex".to_owned(), "our old door bell".to_owned(), "Will".to_owned()];
        let cases = [
            ("Is Rex there?", Question::Presence("Rex".into())),
            ("is rex in the picture", Question::Presence("Rex".into())),
            ("Is this Rex?", Question::Presence("Rex".into())),
            ("Is there Rex?", Question::Presence("Rex".into())),
            ("Do you hear our old door bell ringing?", Question::Presence("our old door bell".into())),
            ("Where is Will?", Question::Place("Will".into())),
            ("Which dog is Rex?", Question::Place("Rex".into())),
            ("What colour is Rex?", Question::Color(Some("Rex".into()))),
            ("Is Rex a dog?", Question::Open),
            ("Is there a wrecked car?", Question::Presence("wrecked car".into())),
            ("What is it?", Question::Identity(None)),
        ];
        for (text, expected) in cases {
            assert_eq!(Question::parse_with(text, &names), expected, "{text}");
        }
    }
}

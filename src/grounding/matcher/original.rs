//! How BuboGPT reads the reply of its matching language model: lines `phrase in the answer - list item`.
//!
//! Kept exactly, quirks included, as the `original` mode; [`super::Matcher`] mends them. Source:
//! magic-research/bubogpt, match.py @ 17c72b5.

/// A list item and the name of its colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Lower-case.
    pub name: String,
    /// A name of the palette.
    pub color: String,
}

/// What the reply says about the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// The answer in pieces, with a label where a piece is highlighted.
    pub highlight: Vec<(String, Option<String>)>,
    /// Phrase and list item, in the order in which phrases first came; a later line replaces the item.
    pub match_state: Vec<(String, String)>,
    /// Label and colour of each highlight, in the order of the text.
    pub color_map: Vec<(String, String)>,
}

/// What the original asks its language model: the list as Python prints it, then the answer. The closing tag of the
/// list lacks its slash there, too.
pub fn query(names: &[&str], answer: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| python_repr(name)).collect();
    format!("<List>dict_keys([{}])<List><Text>{answer}</Text>", quoted.join(", "))
}

/// How the original asks in its examples: a plain list, and its tag closed.
pub fn shot(names: &[&str], text: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| python_repr(name)).collect();
    format!("<List>[{}]</List><Text>{text}</Text>", quoted.join(", "))
}

/// A string as Python's `repr` shows it, as far as names need it.
fn python_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    let escaped = if quote == '\'' { escaped.replace('\'', "\\'") } else { escaped };
    format!("{quote}{escaped}{quote}")
}

/// A phrase found in the text.
struct Span<'a> {
    start: usize,
    end: usize,
    color: &'a str,
}

/// Reads a reply.
///
/// Offsets count characters. Only the first occurrence of a phrase is used, and it may lie inside a word; labels are
/// ranks before overlapping spans are dropped, so they can skip numbers; the last character is lost where a highlight
/// ends one before it, and an empty piece is added where a highlight reaches the end.
pub fn parse(answer: &str, items: &[Item], reply: &str) -> Reply {
    let text: Vec<char> = answer.chars().collect();
    let lower = lower(answer);
    let mut result = Reply::default();
    let mut spans: Vec<Span<'_>> = Vec::new();
    for line in reply.split('\n') {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (left, right) = (left.to_lowercase(), right.to_lowercase());
        let Some(item) = items.iter().find(|item| item.name == right) else { continue };
        match result.match_state.iter_mut().find(|(phrase, _)| *phrase == left) {
            Some((_, name)) => *name = right,
            None => result.match_state.push((left.clone(), right)),
        }
        let phrase: Vec<char> = left.chars().collect();
        if let Some(start) = find(&lower, &phrase) {
            spans.push(Span { start, end: start + phrase.len(), color: &item.color });
        }
    }
    spans.sort_by_key(|span| span.start);
    let piece = |start: usize, end: usize| text.get(start..end.min(text.len())).unwrap_or(&[]).iter().collect();
    let mut last = 0;
    for (rank, span) in spans.iter().enumerate().filter(|(_, span)| span.end <= text.len()) {
        if span.start < last {
            continue;
        }
        if span.start > last {
            result.highlight.push((piece(last, span.start), None));
        }
        let label = (rank + 1).to_string();
        result.highlight.push((piece(span.start, span.end), Some(label.clone())));
        result.color_map.push((label, span.color.to_owned()));
        last = span.end;
    }
    if last + 1 != text.len() {
        result.highlight.push((piece(last, text.len()), None));
    }
    result
}

/// Lower-case, one character for one, so that offsets stay those of the answer.
fn lower(text: &str) -> Vec<char> {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

fn find(text: &[char], phrase: &[char]) -> Option<usize> {
    if phrase.is_empty() {
        return Some(0);
    }
    text.windows(phrase.len()).position(|window| window == phrase)
}

//! The bytes of every token, as a tree: which tokens a text may go on with is found without looking at all of them.

use super::tokenizer::Tokenizer;

/// A node of the tree: what tokens start with.
#[derive(Debug, Default)]
struct Node {
    /// Next byte and node, ascending by byte.
    next: Vec<(u8, u32)>,
    /// Tokens that end here.
    ids: Vec<u32>,
}

/// Tokens by their bytes. Special tokens, and such as stand for nothing, are not in it.
#[derive(Debug)]
pub struct Vocabulary {
    nodes: Vec<Node>,
    bytes: Vec<Option<Box<[u8]>>>,
}

impl Vocabulary {
    /// Reads all tokens of a tokeniser.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let ids = 0..u32::try_from(tokenizer.vocabulary_size()).unwrap_or(u32::MAX);
        Self::from_bytes(ids.map(|id| tokenizer.bytes_of(id)).collect())
    }

    /// Takes the bytes of every token, by id.
    fn from_bytes(bytes: Vec<Option<Vec<u8>>>) -> Self {
        let mut nodes = vec![Node::default()];
        for (id, bytes) in bytes.iter().enumerate() {
            let Some(bytes) = bytes.as_deref().filter(|bytes| !bytes.is_empty()) else { continue };
            let mut at = 0;
            for byte in bytes {
                let found = nodes[at].next.binary_search_by_key(byte, |(byte, _)| *byte);
                at = match found {
                    Ok(place) => nodes[at].next[place].1 as usize,
                    Err(place) => {
                        nodes.push(Node::default());
                        let new = nodes.len() - 1;
                        nodes[at].next.insert(place, (*byte, new as u32));
                        new
                    }
                };
            }
            nodes[at].ids.push(id as u32);
        }
        Self { nodes, bytes: bytes.into_iter().map(|bytes| bytes.map(Vec::into_boxed_slice)).collect() }
    }

    /// Bytes that a token stands for; `None` for special tokens.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)?.as_deref()
    }

    /// Tokens all of whose bytes `step` can take one after the other, ascending. Whole branches are left out as soon as
    /// a byte cannot be taken.
    pub fn tokens_from<S>(&self, state: S, step: impl Fn(&S, u8) -> Option<S>) -> Vec<u32> {
        let mut found = Vec::new();
        let mut open = vec![(0usize, state)];
        while let Some((at, state)) = open.pop() {
            for (byte, next) in &self.nodes[at].next {
                if let Some(state) = step(&state, *byte) {
                    found.extend(&self.nodes[*next as usize].ids);
                    open.push((*next as usize, state));
                }
            }
        }
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_by_what_can_be_taken() {
        let tokens = ["a", "ab", "abc", "b", "", "abd", "a"].map(|token| Some(token.as_bytes().to_vec()));
        let vocabulary = Vocabulary::from_bytes(tokens.into_iter().chain([None]).collect());
        let step = |left: &&'static str, byte: u8| left.as_bytes().first().filter(|x| **x == byte).map(|_| &left[1..]);
        assert_eq!(vocabulary.tokens_from("abd", step), [0, 1, 5, 6]);
        assert_eq!(vocabulary.tokens_from("b", step), [3]);
        assert!(vocabulary.tokens_from("x", step).is_empty());
        assert_eq!((vocabulary.bytes(5), vocabulary.bytes(7), vocabulary.bytes(99)), (Some(&b"abd"[..]), None, None));
    }
}

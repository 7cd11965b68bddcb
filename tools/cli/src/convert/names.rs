//! From the names of a checkpoint to the names that the models load: one table a model, one row a checkpoint here.
//!
//! At run time a tensor bears the name that the *original* checkpoint gives it, without wrapping keys and `module.`;
//! Hugging Face's conversions are translated when they are read. A naming table is a plain function
//! `fn(&str) -> Option<Target>` in the model's own file beside this one. `original` reads the original's names and
//! `hugging_face` those of the conversion; both answer
//!
//! - `Some(Target::Whole(..))`, `Some(Target::Rows { .. })` or `Some(Target::Split(..))` for what the model loads,
//! - `Some(Target::Unused)` for what is known and not needed: index buffers, text streams, heads of other tasks,
//! - `None` for a name that this checkpoint should not hold.
//!
//! Two names may lead to the same target where a checkpoint stores one tensor under two names; either alone will do.

/// What one tensor of a checkpoint becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The tensor of that name.
    Whole(String),
    /// Number `part` of `parts` equal groups of rows (places of the first axis) of a tensor that the original keeps
    /// fused: query, key and value in one matrix.
    Rows {
        /// The fused tensor's name.
        of: String,
        /// Which group, from 0.
        part: usize,
        /// How many groups there are.
        parts: usize,
    },
    /// The reverse: its equal groups of rows are tensors of these names. Where there is no name the numbers must be 0
    /// and are left out (EVA's keys have no bias; Hugging Face stores zeros).
    Split(Vec<Option<String>>),
    /// Known, and not needed by the model.
    Unused,
}

impl Target {
    /// The tensor `name`, whole.
    pub fn whole(name: impl Into<String>) -> Option<Self> {
        Some(Self::Whole(name.into()))
    }

    /// Group `part` of `parts` of the rows of `of`.
    pub fn rows(of: impl Into<String>, part: usize, parts: usize) -> Option<Self> {
        Some(Self::Rows { of: of.into(), part, parts })
    }
}

/// A naming table, see the module's description.
pub type Naming = fn(&str) -> Option<Target>;

/// One model's share of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The part of the bundle that the model is: `tagger`, `detector`, `segmenter`, `image_encoder`, `image_qformer`,
    /// `audio_encoder`, `audio_qformer`, `language`.
    pub part: &'static str,
    /// Which tensors it takes, and under which names.
    pub naming: Naming,
}

/// A public checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    /// Its name on the command line.
    pub kind: &'static str,
    /// File or folder as published, for people.
    pub published: &'static str,
    /// What may stand before its names: keys of dictionaries around the tensors, and the `module.` of parallel training.
    /// Each is taken off once, in this order, if it is there.
    pub wrapping: &'static [&'static str],
    /// Names of which one at least is in this checkpoint and in no other of the table, wrapping taken off.
    pub marks: &'static [&'static str],
    /// The models that take their tensors from it.
    pub shares: &'static [Share],
}

impl Checkpoint {
    /// A name without what is wrapped around it.
    pub fn unwrapped<'a>(&self, name: &'a str) -> &'a str {
        self.wrapping.iter().fold(name, |name, prefix| name.strip_prefix(prefix).unwrap_or(name))
    }
}

/// The first number in a dotted name behind `prefix`, and what follows its dot: `blocks.7.norm1.weight` behind
/// `blocks.` is 7 and `norm1.weight`.
pub fn numbered<'a>(name: &'a str, prefix: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = name.strip_prefix(prefix)?.split_once('.')?;
    // Only digits as they are written: neither a sign nor zeros in front.
    let plain = number.bytes().all(|digit| digit.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
    Some((number.parse().ok().filter(|_| plain)?, rest))
}

/// The checkpoints that `bubo convert` knows.
pub const CHECKPOINTS: &[Checkpoint] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_where_they_are_expected() {
        assert_eq!(numbered("blocks.17.norm1.weight", "blocks."), Some((17, "norm1.weight")));
        assert_eq!(numbered("blocks.0.attn", "blocks."), Some((0, "attn")));
        for name in ["blocks.x.attn", "blocks.01.attn", "blocks.+1.attn", "blocks.1", "block.1.attn", "blocks..attn"] {
            assert_eq!(numbered(name, "blocks."), None, "{name}");
        }
    }

    #[test]
    fn wrapping_comes_off_once() {
        let checkpoint =
            Checkpoint { kind: "", published: "", wrapping: &["model.", "module."], marks: &[], shares: &[] };
        assert_eq!(checkpoint.unwrapped("model.module.a"), "a");
        assert_eq!(checkpoint.unwrapped("module.a"), "a");
        assert_eq!(checkpoint.unwrapped("model.model.a"), "model.a");
        assert_eq!(checkpoint.unwrapped("a.model."), "a.model.");
    }
}

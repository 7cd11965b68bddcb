//! A checkpoint's tensors sorted by what the naming tables say, and held against what the models ask for.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Result, bail, ensure};
use bubo::nn::Asked;
use serde_json::Value as Json;

use super::models::{Model, Shapes};
use super::names::{CHECKPOINTS, Checkpoint, Share, Target};

/// How a tensor of a model is made of a checkpoint's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is this one.
    Whole(String),
    /// The rows of these, in this order.
    Fused(Vec<String>),
    /// One of `parts` equal groups of rows of this one.
    Group {
        /// The checkpoint's name.
        of: String,
        /// Which group, from 0.
        part: usize,
        /// How many groups there are.
        parts: usize,
    },
}

/// A tensor of a model that the checkpoint has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its shape.
    pub dims: Vec<usize>,
    /// What it is made of.
    pub origin: Origin,
}

/// One model's share of a checkpoint, sorted.
#[derive(Debug)]
pub struct MappedShare {
    /// The row of the table.
    pub share: &'static Share,
    /// By the model's name.
    pub found: BTreeMap<String, Found>,
    /// Rows that must be 0 and are left out.
    pub zeros: Vec<Origin>,
}

/// A checkpoint, sorted by its naming tables.
#[derive(Debug)]
pub struct Mapping {
    /// The row of the table.
    pub checkpoint: &'static Checkpoint,
    /// What each model finds in it.
    pub shares: Vec<MappedShare>,
    /// Known and needed by no model.
    pub unused: Shapes,
    /// Unknown: not of this checkpoint.
    pub unknown: Shapes,
    /// Beside the dictionary of weights: the optimiser's state.
    pub outside: usize,
    /// Tensors that do not go together, in words.
    pub problems: Vec<String>,
}

/// The kind of checkpoint that has tensors of these names.
///
/// # Errors
/// If it is none of the table; the message lists what is known.
pub fn recognise(shapes: &Shapes) -> Result<&'static Checkpoint> {
    let has = |checkpoint: &Checkpoint, mark: &str| shapes.keys().any(|name| checkpoint.unwrapped(name) == mark);
    let mut fitting = CHECKPOINTS.iter().filter(|row| row.marks.iter().all(|mark| has(row, mark)));
    if let Some(row) = fitting.next() {
        return Ok(row);
    }
    let known: String = CHECKPOINTS.iter().map(|row| format!("\n  {}: {}", row.kind, row.published)).collect();
    let first = shapes.keys().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    bail!("these {} tensors ({first}, …) are of no known checkpoint; known are:{known}", shapes.len())
}

/// The checkpoint of that name.
///
/// # Errors
/// If there is none; the message lists what is known.
pub fn checkpoint(kind: &str) -> Result<&'static Checkpoint> {
    let found = CHECKPOINTS.iter().find(|row| row.kind == kind);
    let known = || CHECKPOINTS.iter().map(|row| row.kind).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| anyhow::anyhow!("there is no checkpoint {kind:?}; known are {}", known()))
}

/// Rows of a tensor that the checkpoint keeps apart: name and shape of each group that is there.
type Groups = Vec<Option<(String, Vec<usize>)>>;

/// Groups by share and by the fused tensor's name.
type Fused = BTreeMap<(usize, String), Groups>;

/// Sorts the tensors of a checkpoint.
pub fn map(checkpoint: &'static Checkpoint, shapes: &Shapes) -> Mapping {
    let shares = checkpoint.shares.iter();
    let mut mapping = Mapping {
        checkpoint,
        shares: shares.map(|share| MappedShare { share, found: BTreeMap::new(), zeros: Vec::new() }).collect(),
        unused: Shapes::new(),
        unknown: Shapes::new(),
        outside: 0,
        problems: Vec::new(),
    };
    let wrapped = checkpoint.wrapping.first().filter(|first| shapes.keys().any(|name| name.starts_with(**first)));
    let mut fused = Fused::new();
    for (name, dims) in shapes {
        // A dictionary around the weights has other things beside it; `module.` has not.
        if wrapped.is_some_and(|first| *first != "module." && !name.starts_with(first)) {
            mapping.outside += 1;
        } else {
            mapping.sort(name, dims, &mut fused);
        }
    }
    for ((index, to), groups) in fused {
        match join(&to, groups) {
            Ok((dims, origin)) => mapping.problems.extend(mapping.shares[index].put(to, dims, origin)),
            Err(error) => mapping.problems.push(error.to_string()),
        }
    }
    mapping
}

impl Mapping {
    /// Asks every share's naming table about one tensor.
    fn sort(&mut self, name: &str, dims: &[usize], fused: &mut Fused) {
        let (mut known, mut used) = (true, false);
        for (index, share) in self.shares.iter_mut().enumerate() {
            let Some(target) = (share.share.naming)(self.checkpoint.unwrapped(name)) else {
                known = false;
                continue;
            };
            used |= target != Target::Unused;
            let problem = match target {
                Target::Unused => None,
                Target::Whole(to) => share.put(to, dims.to_vec(), Origin::Whole(name.to_owned())),
                Target::Split(names) => share.split(name, dims, names),
                Target::Rows { of, part, parts } => {
                    let groups = fused.entry((index, of)).or_insert_with(|| vec![None; parts]);
                    let group = groups.get_mut(part).map(|group| *group = Some((name.to_owned(), dims.to_vec())));
                    group.is_none().then(|| format!("{name} is part {part} of {parts}"))
                }
            };
            self.problems.extend(problem);
        }
        match (known, used) {
            (false, _) => drop(self.unknown.insert(name.to_owned(), dims.to_vec())),
            (true, false) => drop(self.unused.insert(name.to_owned(), dims.to_vec())),
            (true, true) => {}
        }
    }
}

/// Shape and origin of a tensor whose rows the checkpoint keeps apart.
fn join(to: &str, slots: Groups) -> Result<(Vec<usize>, Origin)> {
    let count = slots.len();
    let present: Vec<_> = slots.into_iter().flatten().collect();
    ensure!(present.len() == count, "of the {count} groups of rows of {to}, {} are there", present.len());
    let mut names = Vec::with_capacity(count);
    let mut dims = present[0].1.clone();
    ensure!(!dims.is_empty(), "{to} has no rows");
    for (name, other) in present {
        ensure!(other == dims, "{name} {other:?} does not go with {dims:?} into {to}");
        names.push(name);
    }
    dims[0] *= count;
    Ok((dims, Origin::Fused(names)))
}

impl MappedShare {
    /// Takes a tensor; says what is wrong if another one of that name is there already.
    fn put(&mut self, to: String, dims: Vec<usize>, origin: Origin) -> Option<String> {
        match self.found.get(&to) {
            // The same tensor under two names.
            Some(there) if there.dims == dims => None,
            Some(there) => Some(format!("{to} is there twice, as {:?} and {dims:?}", there.dims)),
            None => {
                self.found.insert(to, Found { dims, origin });
                None
            }
        }
    }

    fn split(&mut self, name: &str, dims: &[usize], names: Vec<Option<String>>) -> Option<String> {
        let parts = names.len();
        let Some(rows) = dims.first().filter(|rows| rows.is_multiple_of(parts.max(1))) else {
            return Some(format!("{name} {dims:?} does not divide into {parts}"));
        };
        let mut dims = dims.to_vec();
        dims[0] = rows / parts;
        let mut problem = None;
        for (part, to) in names.into_iter().enumerate() {
            let origin = Origin::Group { of: name.to_owned(), part, parts };
            match to {
                Some(to) => problem = problem.or(self.put(to, dims.clone(), origin)),
                None => self.zeros.push(origin),
            }
        }
        problem
    }
}

/// What a model asks for, held against what is there.
#[derive(Debug)]
pub struct Checked {
    /// The model.
    pub model: &'static Model,
    /// Its configuration.
    pub config: Json,
    /// All that it asks for.
    pub asked: BTreeMap<String, Asked>,
    /// Asked for and not there.
    pub missing: Shapes,
    /// There in another shape: found, expected.
    pub mis_shaped: BTreeMap<String, [Vec<usize>; 2]>,
    /// There and not asked for.
    pub left_over: Shapes,
}

impl Checked {
    /// Whether the model finds all that it needs and nothing else.
    pub fn passes(&self) -> bool {
        self.missing.is_empty() && self.mis_shaped.is_empty() && self.left_over.is_empty()
    }

    /// A line for every tensor that is missing, of another shape or left over.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (name, dims) in &self.missing {
            let _ = writeln!(text, "    missing: {name} {dims:?}");
        }
        for (name, [found, expected]) in &self.mis_shaped {
            let _ = writeln!(text, "    of another shape: {name} is {found:?}, expected is {expected:?}");
        }
        for (name, dims) in &self.left_over {
            let _ = writeln!(text, "    left over, the model does not ask for it: {name} {dims:?}");
        }
        text
    }
}

/// Asks `model` what it needs, in the given configuration or in the one that the shapes tell, and compares. What `brings`
/// does not accept is expected from elsewhere.
///
/// # Errors
/// If the model cannot make sense of its configuration.
pub fn check(
    model: &'static Model,
    config: Option<Json>,
    present: &Shapes,
    brings: impl Fn(&str) -> bool,
) -> Result<Checked> {
    let config = config.unwrap_or_else(|| (model.config)(present));
    let asked = model.expected(&config, present)?;
    let mut checked = Checked {
        model,
        config,
        missing: Shapes::new(),
        mis_shaped: BTreeMap::new(),
        left_over: Shapes::new(),
        asked: BTreeMap::new(),
    };
    for (name, dims) in present {
        match asked.get(name) {
            Some(asked) if asked.dims == *dims => {}
            Some(asked) => drop(checked.mis_shaped.insert(name.clone(), [dims.clone(), asked.dims.clone()])),
            None => drop(checked.left_over.insert(name.clone(), dims.clone())),
        }
    }
    for (name, asked) in &asked {
        if brings(name) && !present.contains_key(name) {
            checked.missing.insert(name.clone(), asked.dims.clone());
        }
    }
    checked.asked = asked;
    Ok(checked)
}

impl Mapping {
    /// Holds every share against its model.
    ///
    /// # Errors
    /// If a model cannot make sense of its configuration.
    pub fn check(&self) -> Result<Vec<Checked>> {
        let shares = self.shares.iter();
        shares.map(|mapped| check(mapped.share.model, None, &mapped.shapes(), mapped.share.brings)).collect()
    }

    /// Whether nothing is unknown or contradictory.
    pub fn passes(&self) -> bool {
        self.unknown.is_empty() && self.problems.is_empty()
    }

    /// What was used, left over and missing, in words; every tensor that gives cause for concern by name and shape.
    pub fn report(&self, checked: &[Checked]) -> String {
        let mut text = format!("{}: {}\n", self.checkpoint.kind, self.checkpoint.published);
        for (mapped, checked) in self.shares.iter().zip(checked) {
            let _ = writeln!(
                text,
                "  {} ({}): {} tensors used, {} missing, {} of another shape",
                checked.model.part,
                checked.model.model,
                mapped.found.len() - checked.mis_shaped.len() - checked.left_over.len(),
                checked.missing.len(),
                checked.mis_shaped.len()
            );
            text += &checked.report();
        }
        let elements = self.unused.values().flat_map(|dims| super::checkpoint::element_count(dims)).sum::<usize>();
        let _ = writeln!(
            text,
            "  known and not needed: {} tensors, {elements} elements; outside the weights: {}; unknown: {}",
            self.unused.len(),
            self.outside,
            self.unknown.len()
        );
        for (name, dims) in &self.unknown {
            let _ = writeln!(text, "    unknown: {name} {dims:?}");
        }
        for problem in &self.problems {
            let _ = writeln!(text, "    wrong: {problem}");
        }
        text
    }
}

impl MappedShare {
    /// Names and shapes of what the model finds.
    pub fn shapes(&self) -> Shapes {
        self.found.iter().map(|(name, found)| (name.clone(), found.dims.clone())).collect()
    }
}

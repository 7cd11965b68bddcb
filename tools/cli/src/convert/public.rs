//! Public checkpoints of the paper's system to parts of a bundle, several at once: some parts take two.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use half::f16;

use super::checkpoint::{CheckpointTensor, Numbers};
use super::mapping::{self, Checked, Found, Mapping, Origin};
use super::models::{MODELS, Model, Shapes};
use super::names::CHECKPOINTS;
use super::quantize::{Target, quantize, quantized_part};
use super::source::Source;
use super::{Licence, Part, PartTensor, StoredTensor, gguf_llama};

/// A checkpoint of which only the header was read.
struct Opened {
    source: Rc<Source>,
    mapping: Mapping,
}

/// What was made of checkpoints, and what was not, in words.
pub struct Converted {
    /// Parts, in the order in which a bundle loads them. Their numbers are read when they are written.
    pub parts: Vec<Part>,
    /// What was used, left over and unknown.
    pub report: String,
}

/// Reads the headers of checkpoints, sorts their tensors, and makes parts of those that are complete.
///
/// # Errors
/// If a checkpoint is of no known kind or damaged, has unknown or mis-shaped tensors, or a part lacks some; the message
/// lists all of them and says which checkpoint brings what is missing.
pub fn convert(paths: &[PathBuf], target: Option<Target>) -> Result<Converted> {
    let mut report = String::new();
    let mut opened = Vec::new();
    let is_gguf = |path: &&PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    for path in paths.iter().filter(|path| !is_gguf(path)) {
        let source = Rc::new(Source::open(path)?);
        let shapes: Shapes = source.tensors().map(|(name, info)| (name.to_owned(), info.dims.clone())).collect();
        let checkpoint = mapping::recognise(&shapes).with_context(|| path.display().to_string())?;
        let mapping = mapping::map(checkpoint, &shapes);
        report += &mapping.report(&mapping.check()?);
        ensure!(mapping.passes(), "{} does not look like {}:\n{report}", path.display(), checkpoint.published);
        opened.push(Opened { source, mapping });
    }
    let mut parts = Vec::new();
    for path in paths.iter().filter(is_gguf) {
        let part = gguf_llama::convert(path).with_context(|| path.display().to_string())?;
        report += &format!("{}: {} tensors used\n", path.display(), part.tensors.len());
        parts.push(match target {
            Some(target) => quantized_part(part, target),
            None => part,
        });
    }
    for model in MODELS {
        let of_model = |opened: &Opened| opened.mapping.shares.iter().any(|mapped| mapped.share.model.is(model));
        if opened.iter().any(of_model) {
            parts.push(part(model, &opened, target)?);
        }
    }
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    for (at, name) in names.iter().enumerate() {
        ensure!(!names[..at].contains(name), "two of the checkpoints make the part {name}; give one of them");
    }
    Ok(Converted { parts, report })
}

/// One part of all the checkpoints that bring some of it.
fn part(model: &'static Model, opened: &[Opened], target: Option<Target>) -> Result<Part> {
    let mut found: BTreeMap<&str, (&Opened, &Found)> = BTreeMap::new();
    for opened in opened {
        for share in opened.mapping.shares.iter().filter(|mapped| mapped.share.model.is(model)) {
            for zeros in &share.zeros {
                check_zero(&opened.source, zeros)?;
            }
            for (name, tensor) in &share.found {
                let twice = found.insert(name, (opened, tensor));
                ensure!(twice.is_none(), "two of the checkpoints bring {}.{name}; give one of them", model.part);
            }
        }
    }
    let shapes: Shapes = found.iter().map(|(name, (_, tensor))| ((*name).to_owned(), tensor.dims.clone())).collect();
    let folders: Vec<&Path> = found.values().map(|(opened, _)| opened.source.path()).collect();
    let first = *folders.first().with_context(|| format!("there is nothing for the part {}", model.part))?;
    let config = (model.config_beside)(first, (model.config)(&shapes))?;
    let checked = mapping::check(model, Some(config), &shapes, |_| true)?;
    ensure!(checked.passes(), "{}", incomplete(&checked));
    let tensors = found.into_iter().map(|(name, (opened, tensor))| {
        let asked = &checked.asked[name];
        // Offsets say where to look: rounding them moves the look-up.
        let may_shrink = asked.as_matrix && !name.contains("sampling_offsets");
        let (source, tensor, target) = (Rc::clone(&opened.source), tensor.clone(), target.filter(|_| may_shrink));
        let full = format!("{}.{name}", model.part);
        let shown = full.clone();
        PartTensor { name: full, load: Box::new(move || stored(&source, &tensor, target, &shown)) }
    });
    Ok(Part {
        name: model.part,
        model: model.model,
        tensors: tensors.collect(),
        files: (model.files)(first)?,
        licence: Licence { spdx: model.spdx.into(), source: model.origin.into() },
        config: checked.config,
    })
}

/// What a part lacks, and where it comes from.
fn incomplete(checked: &Checked) -> String {
    let model = checked.model;
    let mut text = format!("the part {} is not complete:", model.part);
    for (name, dims) in checked.missing.iter().take(20) {
        let brings = CHECKPOINTS
            .iter()
            .filter(|row| row.shares.iter().any(|share| share.model.is(model) && (share.brings)(name)));
        let brings = brings.map(|row| row.kind).collect::<Vec<_>>().join(" or ");
        text += &format!("\n  missing: {name} {dims:?}, which {brings} brings");
    }
    if checked.missing.len() > 20 {
        text += &format!("\n  and {} more", checked.missing.len() - 20);
    }
    for (name, [found, expected]) in &checked.mis_shaped {
        text += &format!("\n  of another shape: {name} is {found:?}, expected is {expected:?}");
    }
    for (name, dims) in &checked.left_over {
        text += &format!("\n  left over: {name} {dims:?}");
    }
    text
}

/// Reads a tensor and brings it into the form in which it is stored.
fn stored(source: &Source, tensor: &Found, target: Option<Target>, name: &str) -> Result<StoredTensor> {
    let read = match &tensor.origin {
        Origin::Whole(from) => source.weight(from)?,
        Origin::Fused(names) => fused(&tensor.dims, names.iter().map(|name| source.weight(name)))?,
        Origin::Group { of, part, parts } => group(&source.weight(of)?, *part, *parts)?,
    };
    let (dims, numbers) = read.into_parts();
    if let (Some(target), &[rows, cols]) = (target, dims.as_slice()) {
        let data = match numbers {
            Numbers::F32(data) => data,
            Numbers::F16(data) => data.into_iter().map(f16::to_f32).collect(),
            _ => bail!("weights are floats"),
        };
        return Ok(match quantize(&data, rows, cols, target) {
            Some(blocks) => StoredTensor::Quantized(blocks),
            None => {
                eprintln!("{name} [{rows}, {cols}] stays f16: its columns are not a multiple of 32");
                StoredTensor::F16 { dims, data: data.into_iter().map(f16::from_f32).collect() }
            }
        });
    }
    Ok(match numbers {
        Numbers::F32(data) => StoredTensor::F32 { dims, data },
        Numbers::F16(data) => StoredTensor::F16 { dims, data },
        _ => bail!("weights are floats"),
    })
}

/// Tensors of the same shape below each other.
fn fused(dims: &[usize], tensors: impl Iterator<Item = Result<CheckpointTensor>>) -> Result<CheckpointTensor> {
    let mut rows = Vec::new();
    for tensor in tensors {
        rows.extend(tensor?.to_f32());
    }
    CheckpointTensor::new(dims.to_vec(), Numbers::F32(rows))
}

/// Group `part` of `parts` of a tensor's rows.
fn group(tensor: &CheckpointTensor, part: usize, parts: usize) -> Result<CheckpointTensor> {
    let mut dims = tensor.dims().to_vec();
    let first = dims.first_mut().filter(|rows| parts > 0 && part < parts && rows.is_multiple_of(parts));
    *first.context("the rows do not divide")? /= parts;
    let count = super::checkpoint::element_count(&dims)?;
    let span = part * count..(part + 1) * count;
    let numbers = match tensor.numbers() {
        Numbers::F32(data) => Numbers::F32(data[span].to_vec()),
        Numbers::F16(data) => Numbers::F16(data[span].to_vec()),
        _ => bail!("weights are floats"),
    };
    CheckpointTensor::new(dims, numbers)
}

/// Checks rows that the model does not have because they are 0.
fn check_zero(source: &Source, origin: &Origin) -> Result<()> {
    let Origin::Group { of, part, parts } = origin else { return Ok(()) };
    let rows = group(&source.weight(of)?, *part, *parts)?;
    let wrong = rows.to_f32().into_iter().find(|number| *number != 0.0);
    ensure!(
        wrong.is_none(),
        "{of}: part {part} of {parts} of its rows should be 0 (the model has none there), found {}",
        wrong.unwrap_or_default()
    );
    Ok(())
}

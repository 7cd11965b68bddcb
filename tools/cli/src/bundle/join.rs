//! Joins bundles: parts of several become one bundle, bit by bit, but for what was trained.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bubo::bundle::{Format, Licence, MANIFEST_FILE, Manifest, PartEntry, QuantizedBlocks, Section, TensorEntry};
use half::f16;

use super::BundleWriter;
use crate::convert::models::MODELS;
use crate::convert::trained::{self, Tensors};
use crate::convert::{Part, PartTensor, StoredTensor};

/// The order in which a session loads parts: what explores a picture first, the language model last.
const ORDER: [&str; 9] = [
    "tagger",
    "detector",
    "segmenter",
    "image_encoder",
    "image_qformer",
    "audio_encoder",
    "audio_qformer",
    "text_embedder",
    "language",
];

/// Writes the parts of `bundles` into one bundle in `out`.
///
/// - `trained`: folder in which `bubo train` left Q-Formers of the paper's system: their tensors take the place of the
///   bundles', in 16 bits, and a Q-Former that no bundle has is added
///
/// # Errors
/// If a bundle cannot be read or is damaged, two of them have a part of the same name, what was trained is not of these
/// bundles, or the disk is full.
pub fn join(
    bundles: &[PathBuf],
    trained: Option<&Path>,
    out: &Path,
    name: &str,
    description: &str,
) -> Result<Manifest> {
    let mut learnt = trained.map(trained::qformers).transpose()?.unwrap_or_default();
    let mut parts: Vec<(&Path, Manifest, usize)> = Vec::new();
    for folder in bundles {
        let path = folder.join(MANIFEST_FILE);
        let text = std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?;
        let manifest = Manifest::parse(&text).with_context(|| path.display().to_string())?;
        ensure!(
            folder.canonicalize()? != out.canonicalize().unwrap_or_default(),
            "{} would overwrite itself",
            out.display()
        );
        for part in 0..manifest.parts.len() {
            let entry = &manifest.parts[part];
            let there = parts.iter().find(|(_, other, at)| other.parts[*at].name == entry.name);
            if let Some((other, ..)) = there {
                anyhow::bail!("both {} and {} have a part {}", other.display(), folder.display(), entry.name);
            }
            parts.push((folder, manifest.clone(), part));
        }
    }
    // What no bundle has becomes a part of its own, in its place.
    let is_new = |name: &str| !parts.iter().any(|(_, manifest, part)| manifest.parts[*part].name == name);
    let (mut added, mut replaced) = (Vec::new(), Vec::new());
    for qformer in learnt.drain(..) {
        if is_new(qformer.part) { added.push(qformer) } else { replaced.push(qformer) }
    }
    let place = |name: &str| ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len());
    parts.sort_by_key(|(_, manifest, part)| place(&manifest.parts[*part].name));
    let mut writer = BundleWriter::new(out, name, env!("CARGO_PKG_VERSION"), description)?;
    for (folder, manifest, part) in parts {
        let name = manifest.parts[part].name.clone();
        let earlier = added.extract_if(.., |qformer| place(qformer.part) < place(&name)).collect::<Vec<_>>();
        earlier.into_iter().try_for_each(|qformer| add(&mut writer, qformer))?;
        let own = replaced.iter().position(|qformer| qformer.part == name).map(|at| replaced.swap_remove(at));
        copy(&mut writer, folder, &manifest, part, own).with_context(|| name)?;
    }
    added.into_iter().try_for_each(|qformer| add(&mut writer, qformer))?;
    writer.finish()
}

/// Adds a Q-Former that was trained from a random start.
fn add(writer: &mut BundleWriter, qformer: trained::QFormer) -> Result<()> {
    let trained::QFormer { part, config, tensors } = qformer;
    let model = MODELS.iter().find(|model| model.part == part).with_context(|| format!("no model is {part}"))?;
    let expected = model.expected(&config, &Default::default())?;
    for name in expected.keys() {
        let full = format!("{part}.{name}");
        ensure!(tensors.contains_key(&full), "no bundle has a part {part}, and of what was trained, {name} is missing");
    }
    let tensors = tensors.into_iter().map(|(name, tensor)| PartTensor::ready(name, tensor)).collect();
    let licence = trained::licence();
    let part = Part { name: part, model: model.model, config, tensors, files: Vec::new(), licence };
    writer.add(part).with_context(|| model.part)
}

/// The tensors of a part that were trained, checked against the part.
fn fitting(qformer: trained::QFormer, entry: &PartEntry, manifest: &Manifest, part: usize) -> Result<Tensors> {
    let there = |key: &str| [&entry.config, &qformer.config].map(|config| config.get(key).cloned());
    for key in ["hidden_size", "num_hidden_layers", "encoder_width", "num_query_token", "projector_width"] {
        let [bundle, trained] = there(key);
        ensure!(bundle == trained, "{key} is {bundle:?} in the bundle and {trained:?} in what was trained");
    }
    for (name, tensor) in &qformer.tensors {
        let own = manifest.tensors.iter().find(|own| own.part == part && own.name == *name);
        let shape = own.map(|own| own.shape.clone());
        ensure!(shape == Some(tensor.dims()), "{name} is {:?}, in the bundle {shape:?}", tensor.dims());
    }
    Ok(qformer.tensors)
}

fn copy(
    writer: &mut BundleWriter,
    folder: &Path,
    manifest: &Manifest,
    part: usize,
    learnt: Option<trained::QFormer>,
) -> Result<()> {
    let entry: PartEntry = manifest.parts[part].clone();
    let mut learnt = learnt.map(|learnt| fitting(learnt, &entry, manifest, part)).transpose()?.unwrap_or_default();
    let unknown = || Licence { part: entry.name.clone(), spdx: "NOASSERTION".into(), source: manifest.name.clone() };
    let licence = manifest.licences.iter().find(|licence| licence.part == entry.name).cloned().unwrap_or_else(unknown);
    let mut files = Vec::new();
    for name in &entry.files {
        let file = manifest.files.iter().find(|file| file.name == *name).context("the manifest lacks a file")?;
        let path = folder.join(&file.file);
        files.push((name.clone(), std::fs::read(&path).with_context(|| format!("could not read {}", path.display()))?));
    }
    let tensors = manifest.tensors.iter().filter(|tensor| tensor.part == part).map(|tensor| {
        if let Some(learnt) = learnt.remove(&tensor.name) {
            return PartTensor::ready(tensor.name.clone(), learnt);
        }
        let shards: Vec<PathBuf> =
            tensor.pieces.iter().map(|piece| folder.join(&manifest.shards[piece.shard].file)).collect();
        let tensor = tensor.clone();
        PartTensor { name: tensor.name.clone(), load: Box::new(move || read(&tensor, &shards)) }
    });
    let tensors = tensors.collect();
    writer.add_entry(entry, licence, files, tensors)
}

/// Reads a tensor from its shards, of which there is one a piece.
fn read(tensor: &TensorEntry, shards: &[PathBuf]) -> Result<StoredTensor> {
    let mut sections: [Vec<u8>; 3] = Default::default();
    for (piece, shard) in tensor.pieces.iter().zip(shards) {
        let mut shape = tensor.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = piece.rows[1] - piece.rows[0];
        }
        let mut file = File::open(shard).with_context(|| format!("could not read {}", shard.display()))?;
        file.seek(SeekFrom::Start(piece.at[0]))?;
        for (bytes, section) in sections.iter_mut().zip([Section::Values, Section::Scales, Section::Mins]) {
            let Some(length) = tensor.format.section_bytes(&shape, section) else { continue };
            let start = bytes.len();
            bytes.resize(start + length, 0);
            file.read_exact(&mut bytes[start..]).with_context(|| format!("{} is cut short", shard.display()))?;
        }
    }
    let halves =
        |bytes: &[u8]| bytes.as_chunks::<2>().0.iter().map(|half| f16::from_le_bytes(*half)).collect::<Vec<_>>();
    let [values, scales, mins] = &mut sections;
    let dims = tensor.shape.clone();
    Ok(match tensor.format {
        Format::F32 => {
            let data = values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            StoredTensor::F32 { dims, data }
        }
        Format::F16 => StoredTensor::F16 { dims, data: halves(values) },
        Format::Blocks(scheme) => {
            let &[rows, cols] = dims.as_slice() else { anyhow::bail!("a quantised tensor that is no matrix") };
            let (values, scales, mins) = (std::mem::take(values), halves(scales), halves(mins));
            StoredTensor::Quantized(QuantizedBlocks::new(scheme, rows, cols, values, scales, mins)?)
        }
    })
}

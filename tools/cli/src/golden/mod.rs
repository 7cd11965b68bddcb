//! Runs a component on a golden file's inputs and compares all that comes out with what the original gave.

mod audio_preprocess;
mod bert;
mod bert_wordpiece;
mod conversation;
mod efficientnet;
mod eva_vit;
mod file;
mod grounding_dino;
mod image_preprocess;
mod imagebind;
mod llama;
mod mask_cleanup;
mod matcher;
mod matcher_pairs;
mod minilm;
mod named;
mod nanodet;
mod qformer;
mod ram;
mod real_part;
mod sam;
mod smollm2;
mod u2net;
mod yamnet;

use std::path::Path;

use bubo::tensor::Device;

pub use file::Golden;
pub use grounding_dino::small_tokenizer;
pub use named::named_weights;
pub use real_part::{RealPart, parts_folder};

/// How far one output or intermediate is from the original's.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Name in the golden file, for example `out.logits`.
    pub name: String,
    /// Largest absolute difference of one number; infinite where one of the two is no number.
    pub max_abs: f64,
    /// What is allowed.
    pub tolerance: f64,
}

impl Difference {
    /// Whether it is within its tolerance.
    pub fn passes(&self) -> bool {
        self.max_abs <= self.tolerance
    }
}

/// A comparison of things that are equal or not: how many were not.
pub fn count_difference(name: &str, wrong: usize) -> Difference {
    Difference { name: name.to_owned(), max_abs: wrong as f64, tolerance: 0.0 }
}

/// Runs one kind of component: golden, device, folder of the bundle for goldens of real weights.
pub type Run = fn(&Golden, &Device, Option<&Path>) -> anyhow::Result<Vec<Difference>>;

/// A component that goldens can be run on.
pub struct Component {
    /// What the golden's component name starts with.
    pub kind: &'static str,
    /// Runs it.
    pub run: Run,
}

/// All components; the first whose kind starts a golden's name runs it.
pub const COMPONENTS: &[Component] = &[
    Component { kind: "bert_wordpiece", run: bert_wordpiece::run },
    Component { kind: "bert", run: bert::run },
    Component { kind: "qformer", run: qformer::run },
    Component { kind: "llama", run: llama::run },
    Component { kind: "audio_preprocess", run: audio_preprocess::run },
    Component { kind: "imagebind_audio", run: imagebind::run },
    Component { kind: "image_preprocess", run: image_preprocess::run },
    Component { kind: "mask_cleanup", run: mask_cleanup::run },
    Component { kind: "matcher_pairs", run: matcher_pairs::run },
    Component { kind: "minilm", run: minilm::run },
    Component { kind: "smollm2", run: smollm2::run },
    Component { kind: "ram", run: ram::run },
    Component { kind: "grounding_dino", run: grounding_dino::run },
    Component { kind: "effnet_lite0", run: efficientnet::run },
    Component { kind: "nanodet_plus", run: nanodet::run_plus },
    Component { kind: "nanodet", run: nanodet::run },
    Component { kind: "u2netp", run: u2net::run },
    Component { kind: "yamnet", run: yamnet::run },
    Component { kind: "eva_vit", run: eva_vit::run },
    Component { kind: "blip2_vision_hf", run: eva_vit::run_hugging_face },
    Component { kind: "sam_hf", run: sam::run_hugging_face },
    Component { kind: "sam", run: sam::run },
    Component { kind: "mobile_sam", run: sam::run_mobile },
    Component { kind: "text_level", run: text_level },
];

/// The matcher's and the conversation's halves of one golden.
fn text_level(golden: &Golden, device: &Device, _: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let mut differences = conversation::run(golden, device)?;
    differences.extend(matcher::run(golden)?);
    Ok(differences)
}

/// Largest absolute difference allowed on the CPU engine, by the start of the component's name: figures of the
/// goldens' README. The GPU engine is given four times that, since it sums in another order.
const TOLERANCES: &[(&str, f64)] = &[
    ("grounding_dino", 2e-4),
    ("audio_preprocess", 3e-3),
    ("effnet_lite0", 1e-3),
    ("u2netp", 1e-3),
    ("yamnet", 1e-3),
    ("nanodet", 1e-3),
    ("smollm2", 1e-3),
    ("mask_cleanup", 0.0),
    ("text_level", 0.0),
    ("bert_wordpiece", 0.0),
    ("", 1e-4),
];

/// The tolerance of a component's float outputs where its runner knows none of its own.
pub fn tolerance(component: &str, device: &Device) -> f64 {
    let allowed = TOLERANCES.iter().find(|(kind, _)| component.starts_with(kind)).map_or(0.0, |(_, allowed)| *allowed);
    if matches!(device, Device::Cpu) { allowed } else { 4.0 * allowed }
}

/// Runs the component that `golden` names.
///
/// # Errors
/// If no component of that name exists, or it fails.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let name = golden.component();
    let Some(component) = COMPONENTS.iter().find(|component| name.starts_with(component.kind)) else {
        let known = COMPONENTS.iter().map(|component| component.kind).collect::<Vec<_>>().join(", ");
        anyhow::bail!("unknown component {name:?}; known are those that start with: {known}");
    };
    let differences = (component.run)(golden, device, bundle)?;
    anyhow::ensure!(!differences.is_empty(), "{name}: the golden holds nothing that this component computes");
    Ok(differences)
}

/// Every `step`-th row and column of the first picture of `[1, channels, height, width]`: how large intermediates are
/// kept in goldens.
fn sampled(tensor: &bubo::tensor::Tensor, step: usize) -> anyhow::Result<Vec<f32>> {
    let [_, _, height, width] = tensor.dims_of("golden sample")?;
    let numbers = pollster::block_on(tensor.to_f32())?;
    let rows = numbers.chunks_exact(width).enumerate().filter(|(row, _)| (row % height).is_multiple_of(step));
    Ok(rows.flat_map(|(_, row)| row.iter().copied().step_by(step)).collect())
}

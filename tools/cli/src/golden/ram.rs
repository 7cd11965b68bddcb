//! RAM: trunk, head, and which tags are beyond their thresholds.

use std::path::Path;

use bubo::grounding::tagger::ram::{Config, Ram, hits, projected_labels};
use bubo::tensor::{Device, Unary};

use super::{Difference, Golden, count_difference, named_weights, tolerance};
use crate::convert::ram::original;

/// Runs `ram`.
///
/// # Errors
/// If the golden has another form, or the model fails.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let weights = named_weights(golden, device, original)?;
    let ram = Ram::load(&config, &weights)?;
    weights.finish()?;
    let mut found = vec![("mid.wordvec_proj".to_owned(), projected_labels(&config, &weights)?)];
    let image = golden.tensor("in.image", device)?;
    let logits = ram.forward_seen(&image, &mut |name, tensor| found.push((format!("mid.{name}"), tensor.clone())))?;
    let last = found.last().map(|(_, tensor)| tensor.clone());
    found.extend(last.map(|tensor| ("mid.tagging_head".to_owned(), tensor)));
    found.push(("out.logits".to_owned(), logits.clone()));
    let allowed = tolerance(golden.component(), device);
    let compared = found.iter().map(|(name, tensor)| golden.compare(name, tensor, allowed));
    let mut differences = compared.collect::<anyhow::Result<Vec<_>>>()?;
    let scores = pollster::block_on(logits.unary(Unary::Sigmoid)?.to_f32())?;
    let hit = hits(&scores, &golden.f32("in.class_threshold")?);
    let expected = golden.i64("out.tag_hits")?;
    let wrong = expected.iter().enumerate().filter(|(at, hits)| hit.contains(at) != (**hits == 1)).count();
    differences.push(count_difference("out.tag_hits", wrong));
    let compared = differences.iter().filter(|difference| golden.contains(&difference.name)).count();
    let kept = golden.names("mid.").chain(golden.names("out.")).count();
    differences.push(count_difference("names that were not compared", kept - compared));
    Ok(differences)
}

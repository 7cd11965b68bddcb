//! Pictures and sounds as embeddings of the language model, where a bundle has joiners.

use crate::encoders::joiner::{Joiner, detection_hints, picture_hints, sound_hints, spread};
use crate::encoders::yamnet;
use crate::error::{Error, Result};
use crate::grounding::{Detection, Tagger};
use crate::media::RgbImage;
use crate::tensor::Tensor;

/// A picture as embeddings, `[1, queries, hidden_size]`; none with a tagger that has no features to give.
///
/// # Errors
/// [`crate::Error::Shape`] if the joiner was made for another tagger; those of the engine.
pub(super) async fn embed_picture(
    joiner: &Joiner,
    tagger: &dyn Tagger,
    image: &RgbImage,
    detections: &[Detection],
) -> Result<Option<Tensor>> {
    let Some(view) = tagger.view(image)? else { return Ok(None) };
    let config = joiner.config();
    let expected = [config.places, config.tag_classes];
    if view.activations.dims() != expected {
        return Err(Error::shape(
            "image joiner",
            format!("{:?} classes at places, not {expected:?}", view.activations.dims()),
        ));
    }
    let activations = view.activations.to_f32().await?;
    let detections: Vec<_> = detections.iter().map(|d| (d.label.as_str(), d.score, d.box_px)).collect();
    let detections = detection_hints(&detections, config, [image.width(), image.height()]);
    let hints = picture_hints(&activations, config, &detections);
    joiner.forward(&view.features, &[hints]).map(Some)
}

/// A sound as embeddings, `[1, queries, hidden_size]`.
///
/// # Errors
/// [`crate::Error::Shape`] if the joiner was made for another audio encoder; those of the engine.
pub(super) fn embed_sound(joiner: &Joiner, heard: &yamnet::Heard) -> Result<Tensor> {
    let config = joiner.config();
    if heard.logits.len() != heard.starts_s.len() * config.tag_classes {
        let reason = format!("{} logits of {} patches", heard.logits.len(), heard.starts_s.len());
        return Err(Error::shape("audio joiner", format!("{reason}, where there are {} classes", config.tag_classes)));
    }
    let chosen = spread(heard.starts_s.len(), config.places);
    let tokens = &heard.features.tokens;
    let chosen = Tensor::from_u32(&chosen, &[chosen.len()], &tokens.device())?;
    joiner.forward(&tokens.index_select(1, &chosen)?, &[sound_hints(&heard.logits, config.tag_classes)])
}

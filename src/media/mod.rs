//! Pixels and samples, and the way back from a network's frame to the picture that a person sees.

mod audio_clips;
mod color;
#[cfg(not(target_arch = "wasm32"))]
pub mod decode;
mod image;
mod log_mel;
mod mask_cleanup;
mod model_view;
mod region;
mod resample;
mod resize;
mod waveform;

pub use audio_clips::{ClipConfig, ClipMean, ClipMel, LastClip, MelClips};
pub use color::named_colors;
pub use image::RgbImage;
pub use log_mel::{LogMel, MelConfig, MelRecipe};
pub use mask_cleanup::{HOLE_PX, SmallRegions};
pub use model_view::{ChannelScale, Fit, PaddedView};
pub use region::{BoxPx, Mask};
pub use resize::{CropPx, Filter};
pub use waveform::Waveform;

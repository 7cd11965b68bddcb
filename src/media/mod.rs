//! Pixels and samples, and the way back from a network's frame to the picture that a person sees.

mod image;
mod mask_cleanup;
mod region;
mod waveform;

pub use image::RgbImage;
pub use mask_cleanup::{HOLE_PX, SmallRegions};
pub use region::{BoxPx, Mask};
pub use waveform::Waveform;

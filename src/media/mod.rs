//! Pixels and samples, and the way back from a network's frame to the picture that a person sees.

mod image;
mod region;
mod waveform;

pub use image::RgbImage;
pub use region::{BoxPx, Mask};
pub use waveform::Waveform;

//! Layers: what models are made of, each in a file, and trunks that two models share.

pub mod bert;
mod conv;
mod linear;
mod norm;
mod weights;

pub use conv::Conv;
pub use linear::{Embedding, Linear};
pub use norm::{LayerNorm, RmsNorm};
pub use weights::{Weight, WeightLoader, WeightMap, WeightSink, Weights};

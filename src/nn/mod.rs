//! Layers: what models are made of, each in a file, and trunks that two models share.

mod attention;
pub mod bert;
mod conv;
mod kv_cache;
mod linear;
mod norm;
mod rope;
pub mod vit;
mod weights;

pub use attention::MultiHeadAttention;
pub use conv::Conv;
pub use kv_cache::KvCache;
pub use linear::{Embedding, Linear};
pub use norm::{LayerNorm, RmsNorm};
pub use rope::RotaryTable;
pub use weights::{Weight, WeightLoader, WeightMap, WeightSink, Weights};

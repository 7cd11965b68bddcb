//! Layers: what models are made of, each in a file, and trunks that two models share.

mod attention;
pub mod bert;
mod conv;
mod kv_cache;
mod linear;
mod norm;
mod post_norm;
mod rope;
pub mod swin;
pub mod vit;
mod weights;

use crate::tensor::Tensor;

pub use attention::MultiHeadAttention;
pub use conv::Conv;
pub use kv_cache::KvCache;
pub use linear::{Embedding, Linear};
pub use norm::{LayerNorm, RmsNorm};
pub use post_norm::{AttentionBlock, FeedForwardBlock};
pub use rope::RotaryTable;
pub use weights::{Asked, Weight, WeightLoader, WeightMap, WeightSink, Weights};

/// Sees intermediate results of a network by name, on their way: how they are compared with the original's.
pub type Tap<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// A [`Tap`] that looks away.
pub fn unseen(_: &str, _: &Tensor) {}

//! Bytes: what a model bundle holds and how it arrives.

mod quantized;

pub use quantized::{BLOCK, QuantizedBlocks, Scheme};

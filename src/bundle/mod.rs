//! Bytes: what a model bundle holds and how it arrives.
//!
//! A bundle is a folder on any static host: `bundle.json` (the [`Manifest`]), shards in safetensors form and a few small
//! files. A [`Loader`] asks a [`Source`] for them, checks every byte against the manifest's hashes, keeps them in a
//! [`Cache`], and hands the bytes of tensors to a [`Sink`] as they arrive, so that no shard is ever whole in memory.

mod cache;
mod format;
mod loader;
mod manifest;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod quantized;
mod shard;
mod sink;
mod source;
mod stream;

pub use cache::{Cache, Held, NoCache};
pub use format::{Format, Section};
pub use loader::{LoadedPart, Loader, Progress, TAUGHT_KEY};
pub use manifest::{
    FORMAT_VERSION, FileEntry, Licence, MANIFEST_FILE, MAX_SHARD_HEADER_BYTES, Manifest, PartEntry, Piece, ShardEntry,
    TensorEntry,
};
#[cfg(not(target_arch = "wasm32"))]
pub use native::{DirectoryCache, FileSource};
pub use quantized::{BLOCK, QuantizedBlocks, Scheme};
pub use sink::Sink;
pub use source::{Body, Reading, Source, SourceError};

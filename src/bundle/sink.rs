//! Where the bytes of tensors go.

use super::format::{Format, Section};
use crate::error::Result;

/// Takes tensors as their bytes arrive and puts them where they are used.
///
/// For every tensor: [`begin`](Self::begin), then [`bytes`](Self::bytes) for all of its sections, then
/// [`end`](Self::end). If a shard turns out to be damaged its tensors begin again; what was there is replaced.
pub trait Sink {
    /// What all tensors together become.
    type Output;

    /// The tensor `name` comes next; it replaces one of the same name.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if there is no room.
    fn begin(&mut self, name: &str, format: Format, shape: &[usize]) -> Result<()>;

    /// Bytes of a section of a tensor that has begun, from byte `at` of the section on; they lie within it.
    ///
    /// # Errors
    /// If the sink cannot take them.
    fn bytes(&mut self, name: &str, section: Section, at: usize, bytes: &[u8]) -> Result<()>;

    /// All bytes of the tensor have come.
    ///
    /// # Errors
    /// If it cannot be put on its device.
    fn end(&mut self, name: &str) -> Result<()>;

    /// All tensors of the part are there; their names start with `prefix`, which models do not want to see.
    ///
    /// # Errors
    /// If something is missing.
    fn finish(self, prefix: &str) -> Result<Self::Output>;
}

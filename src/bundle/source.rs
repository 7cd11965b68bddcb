//! Where a bundle's files come from.

use async_trait::async_trait;

/// A place that holds a bundle's files: an HTTP address, a folder, or, in tests, one that fails on purpose.
#[async_trait(?Send)]
pub trait Source {
    /// Address of the bundle's folder, for messages; the cached manifest is kept under it.
    fn address(&self) -> String;

    /// Opens the file `name` from byte `start` on. A source that cannot start there starts at 0 and says so in
    /// [`Reading::start`].
    ///
    /// # Errors
    /// [`SourceError`], by whether it is worth trying again.
    async fn open(&self, name: &str, start: u64) -> Result<Reading, SourceError>;
}

/// A file that is being read.
pub struct Reading {
    /// The byte with which the body begins: what was asked for, or 0 from a host without byte ranges.
    pub start: u64,
    /// Length of the whole file, where the source knows it.
    pub total_bytes: Option<u64>,
    /// What is in it.
    pub body: Box<dyn Body>,
}

/// The bytes of a file, in chunks of whatever size they arrive in.
#[async_trait(?Send)]
pub trait Body {
    /// The next chunk; `None` at the end. Dropping the body ends the transfer.
    ///
    /// # Errors
    /// [`SourceError`] if the transfer broke off.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, SourceError>;
}

/// Why a source gave no bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceError {
    /// The source answered that it will not (a 4xx status, no such file): trying again does not help.
    Refused(String),
    /// The network broke, or the host is busy (5xx, 429): worth trying again.
    Temporary {
        /// What happened, in words.
        reason: String,
        /// How long the host asked to wait (`Retry-After`).
        retry_after_ms: Option<u32>,
    },
}

impl SourceError {
    /// A break in the network.
    pub fn temporary(reason: impl Into<String>) -> Self {
        SourceError::Temporary { reason: reason.into(), retry_after_ms: None }
    }
}

//! Where files stay that arrived once.

use async_trait::async_trait;

use crate::error::{Error, Result};

/// How much of a file a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Bytes from the file's start on, without gaps.
    pub bytes: u64,
    /// Whether the file was finished: all there, and its hash was right.
    pub complete: bool,
}

/// Keeps files by the hash of what they hold. A file grows from its start; what a broken or cancelled load leaves behind
/// is where the next one goes on.
///
/// Keys are lower-case letters, digits and hyphens, at most 80. A cache that is full or broken gives errors, and the load
/// goes on without it.
#[async_trait(?Send)]
pub trait Cache {
    /// What is there of the file `key`; nothing is no error.
    ///
    /// # Errors
    /// [`Error::Fetch`] if the cache cannot be asked.
    async fn held(&self, key: &str) -> Result<Held>;

    /// Reads up to `len` bytes from `start` on; fewer only at the end of what is held.
    ///
    /// # Errors
    /// [`Error::Fetch`] if they cannot be read.
    async fn read(&self, key: &str, start: u64, len: usize) -> Result<Vec<u8>>;

    /// Adds bytes to the end of the file `key`, which holds `at` bytes so far; `at` 0 begins it anew.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no room, with how much is missing; [`Error::Fetch`] if it cannot be written.
    async fn append(&self, key: &str, at: u64, bytes: &[u8]) -> Result<()>;

    /// Marks the file `key` as complete and right; it has been written to its end.
    ///
    /// # Errors
    /// [`Error::Fetch`] if it cannot be written.
    async fn finish(&self, key: &str) -> Result<()>;

    /// Forgets the file `key`; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Fetch`] if it cannot be removed.
    async fn remove(&self, key: &str) -> Result<()>;

    /// Keys of all files, complete or not.
    ///
    /// # Errors
    /// [`Error::Fetch`] if the cache cannot be asked.
    async fn keys(&self) -> Result<Vec<String>>;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

#[async_trait(?Send)]
impl Cache for NoCache {
    async fn held(&self, _key: &str) -> Result<Held> {
        Ok(Held::default())
    }

    async fn read(&self, key: &str, _start: u64, _len: usize) -> Result<Vec<u8>> {
        Err(Error::Fetch { name: key.to_owned(), reason: "there is no cache".into() })
    }

    async fn append(&self, _key: &str, _at: u64, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }

    async fn finish(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    async fn remove(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

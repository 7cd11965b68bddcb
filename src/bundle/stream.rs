//! One file on its way: from the cache or the source to its hash, the cache, and whoever wants its bytes.

use std::pin::pin;

use futures_util::future::{Either, select};
use sha2::{Digest, Sha256};

use super::cache::{Cache, Held};
use super::source::{Body, Reading, Source, SourceError};
use crate::error::{Error, Result};
use crate::host::Host;

/// Tries of one file without a byte of progress before the load gives up.
const MAX_TRIES: u32 = 5;
/// The first wait; each further one is twice as long.
const FIRST_WAIT_MS: u32 = 500;
/// Longest wait that a host may ask for.
const MAX_WAIT_MS: u32 = 60_000;
/// A transfer that gives nothing for so long is taken for broken.
const STALL_MS: u32 = 30_000;
/// How much is read from the cache at once.
const CACHE_CHUNK_BYTES: usize = 1 << 20;

/// Takes a file's bytes in order.
pub(super) trait Consumer {
    /// The file comes again from its first byte on.
    fn restart(&mut self) -> Result<()>;
    /// The next bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;
    /// All bytes came and their hash is right.
    fn finish(&mut self) -> Result<()>;
}

/// Keeps a small file whole.
#[derive(Debug, Default)]
pub(super) struct Whole(pub(super) Vec<u8>);

impl Consumer for Whole {
    fn restart(&mut self) -> Result<()> {
        self.0.clear();
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Called with the bytes of the file that are there so far, and whether they came from the cache.
pub(super) type OnBytes<'a> = dyn FnMut(u64, bool) + 'a;

/// A file that shall be streamed.
pub(super) struct FileStream<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) cache: &'a dyn Cache,
    pub(super) host: &'a dyn Host,
    /// Name in the bundle's folder.
    pub(super) name: &'a str,
    /// Length that the manifest states.
    pub(super) bytes: u64,
    /// Hash that the manifest states; also the key in the cache.
    pub(super) sha256: &'a str,
}

/// How far a pass over the file has come.
struct Pass {
    hash: Sha256,
    position: u64,
    /// Whether what arrives is kept; a cache that failed is left alone.
    keep: bool,
}

impl FileStream<'_> {
    /// Brings the whole file to `consumer`, checked.
    ///
    /// # Errors
    /// [`Error::Fetch`] if the source refuses or stays broken; [`Error::Corrupt`] if the file is not what the manifest
    /// says, even when fetched a second time; [`Error::Cancelled`], after which the cache holds what came so far; and
    /// what the consumer says.
    pub(super) async fn run(&self, consumer: &mut dyn Consumer, on_bytes: &mut OnBytes<'_>) -> Result<()> {
        match self.pass(consumer, on_bytes).await {
            Err(Error::Corrupt { reason, .. }) => {
                tracing::warn!(file = self.name, reason, "damaged; fetching it once more");
                self.forget().await;
                on_bytes(0, false);
                match self.pass(consumer, on_bytes).await {
                    Err(error @ Error::Corrupt { .. }) => {
                        self.forget().await;
                        Err(error)
                    }
                    other => other,
                }
            }
            other => other,
        }
    }

    async fn forget(&self) {
        if let Err(error) = self.cache.remove(self.sha256).await {
            tracing::warn!(file = self.name, %error, "could not remove a damaged file from the cache");
        }
    }

    async fn pass(&self, consumer: &mut dyn Consumer, on_bytes: &mut OnBytes<'_>) -> Result<()> {
        consumer.restart()?;
        let mut pass = Pass { hash: Sha256::new(), position: 0, keep: true };
        let complete = self.take_cached(&mut pass, consumer, on_bytes).await?;
        if pass.position < self.bytes || self.bytes == 0 {
            self.fetch_rest(&mut pass, consumer, on_bytes).await?;
        }
        let found = hex(&pass.hash.finalize());
        if found != self.sha256 {
            return Err(self.damaged(format!("its SHA-256 is {found}, the manifest says {}", self.sha256)));
        }
        consumer.finish()?;
        if pass.keep
            && !complete
            && let Err(error) = self.cache.finish(self.sha256).await
        {
            tracing::warn!(file = self.name, %error, "could not keep it in the cache");
        }
        Ok(())
    }

    fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::corrupt(self.name, reason)
    }

    /// Takes what the cache holds; returns whether that is the complete file. A cache that fails is left alone.
    async fn take_cached(
        &self,
        pass: &mut Pass,
        consumer: &mut dyn Consumer,
        on_bytes: &mut OnBytes<'_>,
    ) -> Result<bool> {
        let held = self.cache.held(self.sha256).await.unwrap_or_else(|error| {
            tracing::warn!(file = self.name, %error, "could not ask the cache");
            pass.keep = false;
            Held::default()
        });
        if held.bytes > self.bytes {
            return Err(self.damaged(format!("the cache holds {} bytes, the manifest says {}", held.bytes, self.bytes)));
        }
        while pass.position < held.bytes {
            let wanted = usize::try_from(held.bytes - pass.position).unwrap_or(usize::MAX).min(CACHE_CHUNK_BYTES);
            match self.cache.read(self.sha256, pass.position, wanted).await {
                Ok(bytes) if !bytes.is_empty() && bytes.len() <= wanted => {
                    pass.hash.update(&bytes);
                    consumer.take(&bytes)?;
                    pass.position += bytes.len() as u64;
                    on_bytes(pass.position, true);
                    self.host.breathe().await?;
                }
                other => {
                    tracing::warn!(file = self.name, ?other, "could not read the cache; fetching the rest");
                    pass.keep = false;
                    return Ok(false);
                }
            }
        }
        Ok(held.complete && held.bytes == self.bytes)
    }

    /// Fetches the rest, going on after breaks.
    async fn fetch_rest(&self, pass: &mut Pass, consumer: &mut dyn Consumer, on_bytes: &mut OnBytes<'_>) -> Result<()> {
        let mut tries = Tries::new(self.name, self.source);
        loop {
            let before = pass.position;
            let error = match self.source.open(self.name, pass.position).await {
                Ok(reading) => match self.take_reading(reading, pass, consumer, on_bytes).await? {
                    None => return Ok(()),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            tries.wait(error, pass.position > before, self.host).await?;
        }
    }

    /// Takes one transfer; returns how it broke off, or `None` when the file is whole.
    async fn take_reading(
        &self,
        mut reading: Reading,
        pass: &mut Pass,
        consumer: &mut dyn Consumer,
        on_bytes: &mut OnBytes<'_>,
    ) -> Result<Option<SourceError>> {
        if let Some(total) = reading.total_bytes.filter(|total| *total != self.bytes) {
            return Err(self.damaged(format!("it has {total} bytes, the manifest says {}", self.bytes)));
        }
        if reading.start > pass.position {
            return Err(self.damaged("the host sent another range than it was asked for"));
        }
        // A host without byte ranges sends again what is there already.
        let mut skip = pass.position - reading.start;
        loop {
            let chunk = match next_chunk(reading.body.as_mut(), self.host).await? {
                Ok(Some(chunk)) => chunk,
                Ok(None) if pass.position == self.bytes => return Ok(None),
                Ok(None) => return Ok(Some(SourceError::temporary("the transfer ended too early"))),
                Err(error) => return Ok(Some(error)),
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= skipped as u64;
            let fresh = &chunk[skipped..];
            if fresh.len() as u64 > self.bytes - pass.position {
                return Err(self.damaged(format!("it has more than the {} bytes of the manifest", self.bytes)));
            }
            if !fresh.is_empty() {
                pass.hash.update(fresh);
                self.keep(pass, fresh).await;
                pass.position += fresh.len() as u64;
                consumer.take(fresh)?;
                on_bytes(pass.position, false);
            }
            self.host.breathe().await?;
            if pass.position == self.bytes && reading.total_bytes.is_some() {
                return Ok(None);
            }
        }
    }

    async fn keep(&self, pass: &mut Pass, bytes: &[u8]) {
        if pass.keep
            && let Err(error) = self.cache.append(self.sha256, pass.position, bytes).await
        {
            tracing::warn!(file = self.name, %error, "the rest of it is not kept in the cache");
            pass.keep = false;
        }
    }
}

/// The next chunk, unless the transfer stalls or the person stops it meanwhile.
async fn next_chunk(body: &mut dyn Body, host: &dyn Host) -> Result<Result<Option<Vec<u8>>, SourceError>> {
    let stalled = pin!(host.sleep_ms(STALL_MS));
    match select(body.next(), stalled).await {
        Either::Left((chunk, _)) => Ok(chunk),
        Either::Right((slept, _)) => {
            slept?;
            Ok(Err(SourceError::temporary(format!("nothing came for {} s", STALL_MS / 1000))))
        }
    }
}

/// Counts failures of one file and waits ever longer between them.
pub(super) struct Tries<'a> {
    name: &'a str,
    source: &'a dyn Source,
    failed: u32,
}

impl<'a> Tries<'a> {
    pub(super) fn new(name: &'a str, source: &'a dyn Source) -> Self {
        Self { name, source, failed: 0 }
    }

    /// Waits after a temporary error; `progress` says whether bytes came since the last one.
    ///
    /// # Errors
    /// [`Error::Fetch`] if trying again is of no use, or it has been tried too often.
    pub(super) async fn wait(&mut self, error: SourceError, progress: bool, host: &dyn Host) -> Result<()> {
        let fetch = |reason| Error::Fetch { name: format!("{} of {}", self.name, self.source.address()), reason };
        let (reason, asked_ms) = match error {
            SourceError::Refused(reason) => return Err(fetch(reason)),
            SourceError::Temporary { reason, retry_after_ms } => (reason, retry_after_ms),
        };
        self.failed = if progress { 1 } else { self.failed + 1 };
        if self.failed >= MAX_TRIES {
            return Err(fetch(format!("{reason} (tried {MAX_TRIES} times)")));
        }
        let wait_ms = asked_ms.unwrap_or(FIRST_WAIT_MS << (self.failed - 1)).min(MAX_WAIT_MS);
        tracing::info!(file = self.name, reason, wait_ms, "trying again");
        host.sleep_ms(wait_ms).await
    }
}

/// Hexadecimal digits of a hash.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a file of unknown length whole, at most `max_bytes`, without cache and hash: the manifest itself.
pub(super) async fn read_whole(source: &dyn Source, host: &dyn Host, name: &str, max_bytes: usize) -> Result<Vec<u8>> {
    let mut tries = Tries::new(name, source);
    loop {
        let error = match source.open(name, 0).await {
            Ok(mut reading) => {
                let mut bytes = Vec::new();
                loop {
                    match next_chunk(reading.body.as_mut(), host).await? {
                        Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                        Ok(None) if reading.total_bytes.is_none_or(|total| total == bytes.len() as u64) => {
                            return Ok(bytes);
                        }
                        Ok(None) => break SourceError::temporary("the transfer ended too early"),
                        Err(error) => break error,
                    }
                    if bytes.len() > max_bytes {
                        return Err(Error::corrupt(name, format!("it has more than {max_bytes} bytes")));
                    }
                    host.breathe().await?;
                }
            }
            Err(error) => error,
        };
        tries.wait(error, false, host).await?;
    }
}

//! What the program asks of the place where it runs: a clock, a moment for others, a way to say what happens.

use async_trait::async_trait;

use crate::error::Result;

/// The surroundings of a running stage: a browser worker, the command line, or a test.
#[async_trait(?Send)]
pub trait Host {
    /// Lets others run for a moment, so that a page stays alive and a stop is heard. Called between networks, tokens
    /// and chunks; cheap enough for each of them.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] if the person asked to stop: the stage gives up and leaves everything usable.
    async fn breathe(&self) -> Result<()>;

    /// Waits, for example before the next try of a download.
    ///
    /// # Errors
    /// [`crate::Error::Cancelled`] as for [`breathe`](Self::breathe).
    async fn sleep_ms(&self, duration_ms: u32) -> Result<()>;

    /// Milliseconds since an arbitrary moment; never goes back.
    fn now_ms(&self) -> f64;
}

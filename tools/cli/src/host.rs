//! The command line as the place where the program runs.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bubo::host::Host;

/// A thread of its own, which may sleep.
#[derive(Debug, Clone, Copy)]
pub struct CommandLine {
    start: Instant,
}

impl Default for CommandLine {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

#[async_trait(?Send)]
impl Host for CommandLine {
    async fn breathe(&self) -> bubo::Result<()> {
        Ok(())
    }

    async fn sleep_ms(&self, duration_ms: u32) -> bubo::Result<()> {
        std::thread::sleep(Duration::from_millis(u64::from(duration_ms)));
        Ok(())
    }

    fn now_ms(&self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1e3
    }
}

//! What the kernels need of the crate's errors.

/// As the crate's, without what candle adds.
#[derive(Debug)]
pub(crate) struct Error;

/// As the crate's.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Damaged data.
    pub(crate) fn corrupt(_what: impl Into<String>, _reason: impl Into<String>) -> Self {
        Self
    }
}

//! One error type, its variants named by what the caller can do about them.

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by what the caller can do about it.
///
/// [`Error::code`] gives the stable name that JavaScript sees; messages are for people and may change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address or a file could not be read: check the address, the network, or try again.
    #[error("could not read {name}: {reason}")]
    Fetch {
        /// Address or path that was asked for.
        name: String,
        /// What the host or the file system answered.
        reason: String,
    },
    /// Bytes arrived but are not what they claim to be: get the file again, or a good copy of it.
    #[error("{name} is damaged or of an unknown form: {reason}")]
    Corrupt {
        /// File, tensor or section.
        name: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A model part lacks a tensor, has one too many, or one of another shape: convert the checkpoint again.
    #[error("weights do not fit the model: {name}: expected {expected}, found {found}")]
    Weights {
        /// Full name of the tensor.
        name: String,
        /// Expected shape, type or presence.
        expected: String,
        /// What the bundle or checkpoint holds.
        found: String,
    },
    /// Tensor shapes that do not go together: a fault of the calling code or of a model's configuration.
    #[error("{operation}: {reason}")]
    Shape {
        /// The operation that refused.
        operation: &'static str,
        /// The shapes and the rule that they break.
        reason: String,
    },
    /// What the person gave cannot be used: the message says what to give instead.
    #[error("{0}")]
    Input(String),
    /// Known, but not supported here: the message says what is.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// There is no usable GPU: go on with the CPU engine.
    #[error("no usable GPU: {0}")]
    NoWebGpu(String),
    /// Memory does not suffice: use a smaller bundle or close other programs.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The GPU failed while working: load again, or go on with the CPU engine.
    #[error("GPU error: {0}")]
    Gpu(String),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Another error, with the place where it happened in front.
    #[error("{place}: {source}")]
    Context {
        /// Stage or file, for example `masks/u2net`.
        place: String,
        /// The error itself.
        source: Box<Error>,
    },
}

impl Error {
    /// Stable code of this error for other languages; never changes once released.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Fetch { .. } => "fetch",
            Error::Corrupt { .. } => "corrupt",
            Error::Weights { .. } => "weights",
            Error::Shape { .. } => "shape",
            Error::Input(_) => "input",
            Error::Unsupported(_) => "unsupported",
            Error::NoWebGpu(_) => "no-webgpu",
            Error::OutOfMemory(_) => "out-of-memory",
            Error::Gpu(_) => "gpu",
            Error::Cancelled => "cancelled",
            Error::Context { source, .. } => source.code(),
        }
    }

    /// Makes a [`Error::Corrupt`].
    pub fn corrupt(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Error::Corrupt { name: name.into(), reason: reason.into() }
    }

    /// Makes a [`Error::Shape`].
    pub fn shape(operation: &'static str, reason: impl Into<String>) -> Self {
        Error::Shape { operation, reason: reason.into() }
    }
}

impl From<candle_core::Error> for Error {
    /// The public tensor functions check shapes first, so what candle still refuses is a fault in our own code or a
    /// lack of memory; it is reported with candle's words.
    fn from(error: candle_core::Error) -> Self {
        Error::Shape { operation: "cpu engine", reason: error.to_string() }
    }
}

/// Adds the place to an error on its way up.
pub trait Context<T> {
    /// Puts `place` in front of the error's message; its code stays.
    ///
    /// # Errors
    /// The error that was there.
    fn context(self, place: impl Into<String>) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, place: impl Into<String>) -> Result<T> {
        self.map_err(|source| match source {
            Error::Cancelled => Error::Cancelled,
            source => Error::Context { place: place.into(), source: Box::new(source) },
        })
    }
}

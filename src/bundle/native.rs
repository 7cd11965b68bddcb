//! Folders of the local disk as source and cache.

use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use async_trait::async_trait;

use super::cache::{Cache, Held};
use super::source::{Body, Reading, Source, SourceError};
use crate::error::{Error, Result};

const CHUNK_BYTES: usize = 1 << 20;

/// A bundle in a folder.
#[derive(Debug, Clone)]
pub struct FileSource {
    folder: PathBuf,
}

impl FileSource {
    /// The bundle in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

struct FileBody(fs::File);

#[async_trait(?Send)]
impl Source for FileSource {
    fn address(&self) -> String {
        self.folder.display().to_string()
    }

    async fn open(&self, name: &str, start: u64) -> Result<Reading, SourceError> {
        let refused = |error: std::io::Error| SourceError::Refused(error.to_string());
        let mut file = fs::File::open(self.folder.join(name)).map_err(refused)?;
        let total = file.metadata().map_err(refused)?.len();
        file.seek(SeekFrom::Start(start)).map_err(refused)?;
        Ok(Reading { start, total_bytes: Some(total), body: Box::new(FileBody(file)) })
    }
}

#[async_trait(?Send)]
impl Body for FileBody {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut self.0).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let read = read.map_err(|error| SourceError::Refused(error.to_string()))?;
        Ok((read > 0).then_some(chunk))
    }
}

/// A cache in a folder: a file a key, `.part` behind its name until it is complete.
#[derive(Debug, Clone)]
pub struct DirectoryCache {
    folder: PathBuf,
}

impl DirectoryCache {
    /// The cache in `folder`, which is made when something is first written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn complete(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    fn partial(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.part"))
    }
}

fn failed(key: &str) -> impl Fn(std::io::Error) -> Error {
    move |error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::OutOfMemory(format!("the cache is full: {error}")),
        _ => Error::Fetch { name: format!("cached {key}"), reason: error.to_string() },
    }
}

#[async_trait(?Send)]
impl Cache for DirectoryCache {
    async fn held(&self, key: &str) -> Result<Held> {
        for (path, complete) in [(self.complete(key), true), (self.partial(key), false)] {
            match fs::metadata(path) {
                Ok(metadata) => return Ok(Held { bytes: metadata.len(), complete }),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(key)(error)),
            }
        }
        Ok(Held::default())
    }

    async fn read(&self, key: &str, start: u64, len: usize) -> Result<Vec<u8>> {
        let file = fs::File::open(self.complete(key)).or_else(|_| fs::File::open(self.partial(key)));
        let mut file = file.map_err(failed(key))?;
        file.seek(SeekFrom::Start(start)).map_err(failed(key))?;
        let mut bytes = Vec::with_capacity(len.min(CHUNK_BYTES));
        file.take(len as u64).read_to_end(&mut bytes).map_err(failed(key))?;
        Ok(bytes)
    }

    async fn append(&self, key: &str, at: u64, bytes: &[u8]) -> Result<()> {
        fs::create_dir_all(&self.folder).map_err(failed(key))?;
        let open = fs::OpenOptions::new().create(true).write(true).truncate(false).open(self.partial(key));
        let mut file = open.map_err(failed(key))?;
        file.set_len(at).map_err(failed(key))?;
        file.seek(SeekFrom::Start(at)).map_err(failed(key))?;
        file.write_all(bytes).map_err(failed(key))
    }

    async fn finish(&self, key: &str) -> Result<()> {
        match fs::rename(self.partial(key), self.complete(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound && self.complete(key).exists() => Ok(()),
            other => other.map_err(failed(key)),
        }
    }

    async fn remove(&self, key: &str) -> Result<()> {
        for path in [self.complete(key), self.partial(key)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(key)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    async fn keys(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("folder"))?,
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("folder"))?.file_name().to_string_lossy().into_owned();
            keys.push(name.strip_suffix(".part").unwrap_or(&name).to_owned());
        }
        Ok(keys)
    }
}

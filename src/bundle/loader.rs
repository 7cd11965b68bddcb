//! Loads a bundle part by part.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::manifest::{MANIFEST_FILE, Manifest, PartEntry};
use super::shard::ShardReader;
use super::sink::Sink;
use super::source::Source;
use super::stream::{Consumer, FileStream, Whole, hex, read_whole};
use crate::error::{Context, Error, Result};
use crate::host::Host;

/// Longest manifest that is accepted.
const MAX_MANIFEST_BYTES: usize = 64 << 20;

/// What the keys of cached manifests start with; keys of files of a bundle are their hashes.
const MANIFEST_KEY: &str = "manifest-";

/// What the keys of documents of taught classes start with: a person's own, which no clearing away may touch.
pub const TAUGHT_KEY: &str = "taught-";

/// How far loading has come, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The part that is being loaded.
    pub part: String,
    /// Bytes of the bundle that were read so far.
    pub loaded: u64,
    /// Bytes of the whole bundle.
    pub total: u64,
    /// Bytes read for this part.
    pub part_loaded: u64,
    /// Bytes that this part needs; those that came along with an earlier part are not counted again.
    pub part_total: u64,
    /// Whether the latest bytes came from the cache.
    pub from_cache: bool,
}

/// A part that is ready for its model.
#[derive(Debug)]
pub struct LoadedPart<W> {
    /// Which model reads it.
    pub model: String,
    /// The model's configuration.
    pub config: Value,
    /// What the sink made of its tensors, under the checkpoint's own names.
    pub weights: W,
    /// Its small files by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl<W> LoadedPart<W> {
    /// The model's configuration in its own type.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it does not have that form; the message names the key.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.config.clone())
            .map_err(|error| Error::corrupt(format!("the configuration of {}", self.model), error.to_string()))
    }

    /// The bytes of a small file.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the part has none of that name.
    pub fn file(&self, name: &str) -> Result<&[u8]> {
        let missing =
            || Error::corrupt(name, format!("the part with the model {} does not have this file", self.model));
        self.files.get(name).map(Vec::as_slice).ok_or_else(missing)
    }

    /// A small JSON file in a type of its own.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is none, or it does not have that form.
    pub fn json_file<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        serde_json::from_slice(self.file(name)?).map_err(|error| Error::corrupt(name, error.to_string()))
    }
}

/// A bundle that is being loaded. Tensors go to sinks of the type `S`, one a part.
pub struct Loader<S> {
    source: Rc<dyn Source>,
    cache: Rc<dyn Cache>,
    host: Rc<dyn Host>,
    make_sink: Box<dyn Fn() -> S>,
    manifest: Rc<Manifest>,
    /// Parts that were not handed out yet, by index. Shards that hold several parts fill all of them.
    waiting: BTreeMap<usize, Waiting<S>>,
    loaded: u64,
}

struct Waiting<S> {
    sink: S,
    missing_shards: BTreeSet<usize>,
}

impl<S: Sink> Loader<S> {
    /// Fetches the manifest of the bundle at `source`; without a network the cached one serves.
    ///
    /// # Errors
    /// [`Error::Fetch`] if there is none to be had, and those of [`Manifest::parse`].
    pub async fn open(
        source: Rc<dyn Source>,
        cache: Rc<dyn Cache>,
        host: Rc<dyn Host>,
        make_sink: impl Fn() -> S + 'static,
    ) -> Result<Self> {
        let key = manifest_key(source.as_ref());
        let manifest = match read_whole(source.as_ref(), host.as_ref(), MANIFEST_FILE, MAX_MANIFEST_BYTES).await {
            Ok(text) => {
                let manifest = Manifest::parse(&text).context(source.address())?;
                keep_manifest(cache.as_ref(), &key, &text).await;
                manifest
            }
            Err(error @ Error::Fetch { .. }) => match cached_manifest(cache.as_ref(), &key).await {
                Some(manifest) => manifest,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        Ok(Self::with_manifest(manifest, source, cache, host, make_sink))
    }

    /// Uses the manifest that an earlier [`open`](Self::open) left in the cache, without any request; `None` if there is
    /// none.
    pub async fn open_cached(
        source: Rc<dyn Source>,
        cache: Rc<dyn Cache>,
        host: Rc<dyn Host>,
        make_sink: impl Fn() -> S + 'static,
    ) -> Option<Self> {
        let manifest = cached_manifest(cache.as_ref(), &manifest_key(source.as_ref())).await?;
        Some(Self::with_manifest(manifest, source, cache, host, make_sink))
    }

    fn with_manifest(
        manifest: Manifest,
        source: Rc<dyn Source>,
        cache: Rc<dyn Cache>,
        host: Rc<dyn Host>,
        make_sink: impl Fn() -> S + 'static,
    ) -> Self {
        let make_sink = Box::new(make_sink);
        let waiting = (0..manifest.parts.len())
            .map(|part| (part, Waiting { sink: make_sink(), missing_shards: shards_of(&manifest, part) }))
            .collect();
        Self { source, cache, host, make_sink, manifest: Rc::new(manifest), waiting, loaded: 0 }
    }

    /// What the bundle holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Loads the part `name`. Asked a second time, it loads it again (from the cache, if there is one).
    ///
    /// An error leaves the loader usable: asked again it goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::Weights`] if the bundle has no such part; [`Error::Fetch`], [`Error::Corrupt`], [`Error::OutOfMemory`],
    /// [`Error::Cancelled`] as they say.
    pub async fn load_part(
        &mut self,
        name: &str,
        on_progress: &mut dyn FnMut(&Progress),
    ) -> Result<LoadedPart<S::Output>> {
        let manifest = Rc::clone(&self.manifest);
        let Some(part) = manifest.parts.iter().position(|part| part.name == name) else {
            let known = manifest.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
            let expected = format!("one of the bundle's parts: {known}");
            return Err(Error::Weights { name: name.to_owned(), expected, found: "no such part".into() });
        };
        let entry = &manifest.parts[part];
        self.waiting
            .entry(part)
            .or_insert_with(|| Waiting { sink: (self.make_sink)(), missing_shards: shards_of(&manifest, part) });
        let mut meter = self.meter(part, entry, on_progress);
        while let Some(shard) = self.waiting.get(&part).and_then(|waiting| waiting.missing_shards.first().copied()) {
            self.load_shard(shard, &mut meter).await?;
        }
        let mut files = BTreeMap::new();
        for file in &entry.files {
            // The manifest was checked: every file that a part names has an entry.
            let Some(file) = manifest.files.iter().find(|entry| entry.name == *file) else { continue };
            let mut whole = Whole::default();
            self.stream(&file.file, file.bytes, &file.sha256, &mut whole, &mut meter).await?;
            files.insert(file.name.clone(), whole.0);
        }
        self.loaded = meter.loaded;
        let sink = self.waiting.remove(&part).map_or_else(|| (self.make_sink)(), |waiting| waiting.sink);
        let weights = sink.finish(&entry.prefix).context(name)?;
        Ok(LoadedPart { model: entry.model.clone(), config: entry.config.clone(), weights, files })
    }

    fn meter<'p>(&self, part: usize, entry: &PartEntry, report: &'p mut dyn FnMut(&Progress)) -> Meter<'p> {
        let missing = self.waiting.get(&part).map(|waiting| &waiting.missing_shards);
        let shards = missing.into_iter().flatten().map(|shard| self.manifest.shards[*shard].bytes).sum::<u64>();
        let files = self.manifest.files.iter().filter(|file| entry.files.contains(&file.name));
        let progress = Progress {
            part: entry.name.clone(),
            loaded: self.loaded,
            total: self.manifest.total_bytes(),
            part_loaded: 0,
            part_total: shards + files.map(|file| file.bytes).sum::<u64>(),
            from_cache: false,
        };
        Meter { loaded: self.loaded, part_loaded: 0, progress, report }
    }

    /// Streams a shard into all waiting parts that miss it.
    async fn load_shard(&mut self, shard: usize, meter: &mut Meter<'_>) -> Result<()> {
        let manifest = Rc::clone(&self.manifest);
        let entry = &manifest.shards[shard];
        let mut waiting = std::mem::take(&mut self.waiting);
        let missing = waiting.iter_mut().filter(|(_, waiting)| waiting.missing_shards.contains(&shard));
        let sinks = missing.map(|(part, waiting)| (*part, &mut waiting.sink)).collect();
        let mut reader = ShardReader::new(&manifest, shard, sinks);
        let streamed = self.stream(&entry.file, entry.bytes, &entry.sha256, &mut reader, meter).await;
        if streamed.is_ok() {
            for waiting in waiting.values_mut() {
                waiting.missing_shards.remove(&shard);
            }
            self.loaded = meter.loaded;
        }
        self.waiting = waiting;
        streamed
    }

    async fn stream(
        &self,
        name: &str,
        bytes: u64,
        sha256: &str,
        consumer: &mut dyn Consumer,
        meter: &mut Meter<'_>,
    ) -> Result<()> {
        let (source, cache, host) = (self.source.as_ref(), self.cache.as_ref(), self.host.as_ref());
        let file = FileStream { source, cache, host, name, bytes, sha256 };
        file.run(consumer, &mut |there, from_cache| meter.show(there, from_cache)).await?;
        meter.loaded += bytes;
        meter.part_loaded += bytes;
        Ok(())
    }

    /// Removes from the cache what no cached manifest names any more: older versions. Returns how many files went.
    ///
    /// # Errors
    /// [`Error::Fetch`] if the cache cannot be asked or changed.
    pub async fn evict_unnamed(&self) -> Result<usize> {
        let keys = self.cache.keys().await?;
        let mut named = hashes_of(&self.manifest);
        for key in keys.iter().filter(|key| key.starts_with(MANIFEST_KEY)) {
            if let Some(manifest) = cached_manifest(self.cache.as_ref(), key).await {
                named.extend(hashes_of(&manifest));
            }
        }
        let mut removed = 0;
        let stays = |key: &String| key.starts_with(MANIFEST_KEY) || key.starts_with(TAUGHT_KEY) || named.contains(key);
        for key in keys.iter().filter(|key| !stays(key)) {
            self.cache.remove(key).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// Adds up what was read, and reports it.
struct Meter<'p> {
    /// Bytes of files that are done.
    loaded: u64,
    part_loaded: u64,
    progress: Progress,
    report: &'p mut dyn FnMut(&Progress),
}

impl Meter<'_> {
    fn show(&mut self, there: u64, from_cache: bool) {
        self.progress.loaded = (self.loaded + there).min(self.progress.total);
        self.progress.part_loaded = self.part_loaded + there;
        self.progress.from_cache = from_cache;
        (self.report)(&self.progress);
    }
}

fn shards_of(manifest: &Manifest, part: usize) -> BTreeSet<usize> {
    let tensors = manifest.tensors.iter().filter(|tensor| tensor.part == part);
    tensors.flat_map(|tensor| tensor.pieces.iter().map(|piece| piece.shard)).collect()
}

fn hashes_of(manifest: &Manifest) -> BTreeSet<String> {
    let shards = manifest.shards.iter().map(|shard| &shard.sha256);
    shards.chain(manifest.files.iter().map(|file| &file.sha256)).cloned().collect()
}

fn manifest_key(source: &dyn Source) -> String {
    format!("{MANIFEST_KEY}{}", &hex(&Sha256::digest(source.address()))[..32])
}

/// Keeps a manifest for offline use; a cache that fails only costs that.
async fn keep_manifest(cache: &dyn Cache, key: &str, text: &[u8]) {
    let kept = async {
        cache.remove(key).await?;
        cache.append(key, 0, text).await?;
        cache.finish(key).await
    };
    if let Err(error) = kept.await {
        tracing::warn!(%error, "the manifest is not kept in the cache");
    }
}

async fn cached_manifest(cache: &dyn Cache, key: &str) -> Option<Manifest> {
    let held = cache.held(key).await.ok().filter(|held| held.complete)?;
    let length = usize::try_from(held.bytes).ok().filter(|length| *length <= MAX_MANIFEST_BYTES)?;
    Manifest::parse(&cache.read(key, 0, length).await.ok()?).ok()
}

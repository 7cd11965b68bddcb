//! A real small bundle, written by the writer and loaded through sources, caches and hosts that fail on purpose.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use async_trait::async_trait;
use bubo::bundle::{
    Body, Cache, DirectoryCache, FileSource, Held, LoadedPart, Manifest, NoCache, Reading, Scheme, Source, SourceError,
};
use bubo::host::Host;
use bubo::nn::{WeightLoader, WeightSink, Weights};
use bubo::tensor::{Device, Tensor};
use bubo::{Error, Result};
use bubo_cli::bundle::BundleWriter;
use bubo_cli::convert::quantize::{Fit, Target, quantize};
use bubo_cli::convert::{Licence, Part, PartTensor, StoredTensor};
use half::f16;
use pollster::block_on;

// ---- the bundle ----

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect()
}

fn quantized(rows: usize, cols: usize, scheme: Scheme) -> StoredTensor {
    let target = Target { scheme, fit: Fit::Range };
    StoredTensor::Quantized(quantize(&numbers(rows * cols), rows, cols, target).expect("the columns fit"))
}

/// All tensors, by full name.
fn tensors() -> Vec<(&'static str, StoredTensor)> {
    let f32 = |dims: &[usize]| StoredTensor::F32 { dims: dims.to_vec(), data: numbers(dims.iter().product()) };
    let f16 = |dims: &[usize]| StoredTensor::F16 {
        dims: dims.to_vec(),
        data: numbers(dims.iter().product()).into_iter().map(f16::from_f32).collect(),
    };
    vec![
        ("tagger.stem.weight", f32(&[3, 5])),
        ("tagger.stem.bias", f16(&[7])),
        ("tagger.nothing", f32(&[0, 4])),
        ("tagger.one", f32(&[])),
        ("detector.weight", f16(&[2, 3, 3, 3])),
        ("language.embed.weight", quantized(40, 64, Scheme::Q8_0)),
        ("language.layer.weight", quantized(37, 96, Scheme::Q4_1)),
        ("language.head.weight", quantized(5, 32, Scheme::Q4_0)),
        ("language.table", f32(&[50, 13])),
        ("language.norm.weight", f16(&[64])),
    ]
}

fn part(name: &'static str) -> Part {
    let mine = tensors().into_iter().filter(|(full, _)| full.starts_with(&format!("{name}.")));
    Part {
        name,
        model: "test",
        config: serde_json::json!({ "size": 3 }),
        tensors: mine.map(|(name, tensor)| PartTensor::ready(name, tensor)).collect(),
        files: vec![
            (format!("{name}_labels.json"), format!(r#"["owl","{name}"]"#).into_bytes()),
            ("shared.txt".into(), vec![b'x'; 99]),
        ],
        licence: Licence { spdx: "CC0-1.0".into(), source: "made here".into() },
    }
}

const PARTS: [&str; 3] = ["tagger", "detector", "language"];

/// Writes the bundle; shards of 900 bytes put several parts into one shard and one matrix into several.
fn write(folder: &Path) -> Manifest {
    let mut writer =
        BundleWriter::new(folder, "test", "1", "").expect("the folder can be made").with_max_shard_bytes(900);
    for name in PARTS {
        writer.add(part(name)).expect("the part can be written");
    }
    writer.finish().expect("the manifest is right")
}

fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| {
            let path = entry.expect("it can be listed").path();
            (path.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(path).expect("a file"))
        })
        .collect()
}

fn small_bundle() -> (Manifest, BTreeMap<String, Vec<u8>>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = write(folder.path());
    (manifest, files_of(folder.path()))
}

/// Compares every number of every part with what was written.
fn check(part: &str, loaded: &LoadedPart<Weights>) {
    assert_eq!(loaded.model, "test");
    assert_eq!(loaded.config["size"], 3);
    assert_eq!(loaded.files["shared.txt"], vec![b'x'; 99]);
    assert!(loaded.files[&format!("{part}_labels.json")].starts_with(b"[\"owl\""));
    let read = |tensor: &Tensor| block_on(tensor.to_f32()).expect("the numbers can be read");
    for (full, stored) in tensors() {
        let Some(name) = full.strip_prefix(&format!("{part}.")) else { continue };
        match stored {
            StoredTensor::F32 { dims, data } => {
                assert_eq!(read(&loaded.weights.tensor(name, &dims).expect(full)), data, "{full}");
            }
            StoredTensor::F16 { dims, data } => {
                let data: Vec<f32> = data.into_iter().map(f16::to_f32).collect();
                assert_eq!(read(&loaded.weights.tensor(name, &dims).expect(full)), data, "{full}");
            }
            StoredTensor::Quantized(blocks) => {
                let matrix = loaded.weights.matrix(name, blocks.rows(), blocks.cols()).expect(full);
                let ids: Vec<u32> = (0..blocks.rows() as u32).collect();
                let ids = Tensor::from_u32(&ids, &[blocks.rows()], &Device::Cpu).expect("ids");
                let rows = Tensor::embedding(&matrix, &ids).expect("rows");
                assert_eq!(read(&rows), blocks.dequantize(), "{full}");
            }
        }
    }
    loaded.weights.finish().expect("nothing else is there");
}

// ---- a source that fails as it is told ----

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The transfer breaks off at this byte of the file.
    Drop(usize),
    /// One bit of this byte of the file is wrong.
    Flip(usize),
    /// The file ends at this byte, and no length is told.
    EndAt(usize),
    /// The length is told wrong.
    WrongLength,
    /// Bytes follow behind the end, and no length is told.
    TooLong,
    /// The host knows no byte ranges.
    NoRanges,
    /// Status 503, with or without a wish to wait.
    Busy(Option<u32>),
    /// Status 404.
    Missing,
    /// Nothing comes, ever.
    Stall,
}

struct Faulty {
    files: BTreeMap<String, Vec<u8>>,
    /// File and fault of the next requests for it; one that lasts is never used up.
    faults: RefCell<Vec<(String, Fault)>>,
    lasting: bool,
    requests: RefCell<Vec<(String, u64)>>,
    sent: Cell<usize>,
}

impl Faulty {
    fn new(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let files = files.clone();
        Self { files, faults: RefCell::default(), lasting: false, requests: RefCell::default(), sent: Cell::new(0) }
    }

    fn once(files: &BTreeMap<String, Vec<u8>>, file: &str, faults: &[Fault]) -> Self {
        let faults = faults.iter().map(|fault| (file.to_owned(), *fault)).collect();
        Self { faults: RefCell::new(faults), ..Self::new(files) }
    }

    fn always(files: &BTreeMap<String, Vec<u8>>, file: &str, fault: Fault) -> Self {
        Self { lasting: true, ..Self::once(files, file, &[fault]) }
    }

    fn requests_for(&self, file: &str) -> usize {
        self.requests.borrow().iter().filter(|(name, _)| name == file).count()
    }
}

struct FaultyBody {
    bytes: Vec<u8>,
    position: usize,
    drop: bool,
    stall: bool,
}

#[async_trait(?Send)]
impl Source for Faulty {
    fn address(&self) -> String {
        "https://test.invalid/bundle".into()
    }

    async fn open(&self, name: &str, start: u64) -> Result<Reading, SourceError> {
        self.requests.borrow_mut().push((name.to_owned(), start));
        let fault = {
            let mut faults = self.faults.borrow_mut();
            let found = faults.iter().position(|(file, _)| file == name);
            found.map(|i| if self.lasting { faults[i].1 } else { faults.remove(i).1 })
        };
        let Some(file) = self.files.get(name) else { return Err(SourceError::Refused("404 Not Found".into())) };
        let start = if fault == Some(Fault::NoRanges) { 0 } else { start as usize };
        let (mut bytes, mut total) = (file.clone(), Some(file.len() as u64));
        let mut end = bytes.len();
        match fault {
            Some(Fault::Busy(retry_after_ms)) => {
                return Err(SourceError::Temporary { reason: "503 Service Unavailable".into(), retry_after_ms });
            }
            Some(Fault::Missing) => return Err(SourceError::Refused("404 Not Found".into())),
            Some(Fault::Flip(at)) => bytes[at] ^= 4,
            Some(Fault::WrongLength) => total = Some(file.len() as u64 + 1),
            Some(Fault::Drop(at)) => end = at.max(start),
            Some(Fault::EndAt(at)) => (end, total) = (at.max(start), None),
            Some(Fault::TooLong) => {
                bytes.push(0);
                (end, total) = (bytes.len(), None);
            }
            Some(Fault::NoRanges | Fault::Stall) | None => {}
        }
        self.sent.set(self.sent.get() + end - start);
        let body = FaultyBody {
            bytes: bytes[start..end].to_vec(),
            position: 0,
            drop: matches!(fault, Some(Fault::Drop(_))),
            stall: fault == Some(Fault::Stall),
        };
        Ok(Reading { start: start as u64, total_bytes: total, body: Box::new(body) })
    }
}

#[async_trait(?Send)]
impl Body for FaultyBody {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, SourceError> {
        if self.stall {
            std::future::pending::<()>().await;
        }
        if self.position == self.bytes.len() {
            return if self.drop { Err(SourceError::temporary("connection reset")) } else { Ok(None) };
        }
        // Chunks of 1, 2, 3, … bytes cut numbers and the header's length in two.
        let end = (self.position * 2 + 1).min(self.position + 257).min(self.bytes.len());
        let chunk = self.bytes[self.position..end].to_vec();
        self.position = end;
        Ok(Some(chunk))
    }
}

/// Sleeps at once, remembers for how long, and stops when it is told to.
#[derive(Default)]
struct TestHost {
    slept_ms: RefCell<Vec<u32>>,
    breaths: Cell<usize>,
    stop_at_breath: Cell<Option<usize>>,
}

#[async_trait(?Send)]
impl Host for TestHost {
    async fn breathe(&self) -> Result<()> {
        self.breaths.set(self.breaths.get() + 1);
        if self.stop_at_breath.get().is_some_and(|stop| self.breaths.get() >= stop) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    async fn sleep_ms(&self, duration_ms: u32) -> Result<()> {
        self.slept_ms.borrow_mut().push(duration_ms);
        Ok(())
    }

    fn now_ms(&self) -> f64 {
        0.0
    }
}

async fn open(source: Rc<dyn Source>, cache: Rc<dyn Cache>, host: Rc<dyn Host>) -> Result<WeightLoader> {
    WeightLoader::open(source, cache, host, || WeightSink::new(Device::Cpu)).await
}

/// Loads and checks all parts.
fn load_all(source: Rc<dyn Source>, cache: Rc<dyn Cache>, host: Rc<dyn Host>) -> Result<()> {
    let mut loader = block_on(open(source, cache, host))?;
    for part in PARTS {
        let loaded = block_on(loader.load_part(part, &mut |_| {}))?;
        check(part, &loaded);
    }
    Ok(())
}

fn load_from(source: &Rc<Faulty>) -> Result<()> {
    load_all(Rc::<Faulty>::clone(source), Rc::new(NoCache), Rc::new(TestHost::default()))
}

// ---- tests ----

#[test]
fn loads_what_was_written_from_a_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let manifest = write(folder.path());
    load_all(Rc::new(FileSource::new(folder.path())), Rc::new(NoCache), Rc::new(TestHost::default()))
        .expect("it loads");
    assert!(manifest.shards.iter().any(|shard| shard.parts.len() > 1), "no shard holds two parts");
    assert!(manifest.tensors.iter().any(|tensor| tensor.pieces.len() > 2), "no tensor spans three shards");
}

#[test]
fn every_shard_opens_as_safetensors_and_carries_its_hash() {
    let (manifest, files) = small_bundle();
    let mut bytes = 0;
    for shard in &manifest.shards {
        let content = &files[&shard.file];
        let opened = safetensors::SafeTensors::deserialize(content).expect("any reader opens it");
        bytes += opened.tensors().iter().map(|(_, view)| view.data().len()).sum::<usize>();
        assert!(shard.file.contains(&shard.sha256[..8]), "{}", shard.file);
    }
    let expected = manifest.tensors.iter().map(|tensor| tensor.format.stored_bytes(&tensor.shape).expect("a shape"));
    assert_eq!(bytes, expected.sum::<usize>());
}

#[test]
fn writing_again_replaces_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = write(folder.path());
    let before = files_of(folder.path());
    assert_eq!(write(folder.path()), first);
    assert_eq!(files_of(folder.path()), before);
    let mut writer = BundleWriter::new(folder.path(), "test", "2", "").expect("the folder is there");
    writer.add(part("detector")).expect("the part can be written");
    let second = writer.finish().expect("the manifest is right");
    let expected = second.shards.len() + second.files.len() + 1;
    assert_eq!(files_of(folder.path()).len(), expected);
}

#[test]
fn a_dropped_transfer_goes_on_where_it_broke() {
    let (manifest, files) = small_bundle();
    for shard in &manifest.shards {
        for at in (0..shard.bytes as usize).step_by(61) {
            let source = Rc::new(Faulty::once(&files, &shard.file, &[Fault::Drop(at)]));
            load_from(&source).unwrap_or_else(|error| panic!("{} broken at {at}: {error}", shard.file));
            assert!(source.requests.borrow().contains(&(shard.file.clone(), at as u64)), "{} at {at}", shard.file);
            assert_eq!(source.requests_for(&shard.file), 2);
        }
    }
}

#[test]
fn a_host_without_ranges_sends_again() {
    let (manifest, files) = small_bundle();
    let file = &manifest.shards[0].file;
    let source = Rc::new(Faulty::once(&files, file, &[Fault::Drop(300), Fault::NoRanges]));
    load_from(&source).expect("it loads");
    assert_eq!(source.requests_for(file), 2);
}

#[test]
fn a_wrong_byte_is_fetched_once_more_and_then_named() {
    let (manifest, files) = small_bundle();
    for shard in &manifest.shards {
        for at in (0..shard.bytes as usize).step_by(53).chain(0..9) {
            let source = Rc::new(Faulty::once(&files, &shard.file, &[Fault::Flip(at)]));
            load_from(&source).unwrap_or_else(|error| panic!("{} flipped at {at}: {error}", shard.file));
            assert_eq!(source.requests_for(&shard.file), 2, "{} flipped at {at}", shard.file);
            let source = Rc::new(Faulty::always(&files, &shard.file, Fault::Flip(at)));
            let error = load_from(&source).expect_err("the byte stays wrong");
            assert_eq!(error.code(), "corrupt");
            assert!(error.to_string().contains(&shard.file), "{error}");
            assert_eq!(source.requests_for(&shard.file), 2);
        }
    }
}

#[test]
fn faults_that_stay_end_in_an_error_that_names_them() {
    struct Case {
        fault: Fault,
        code: &'static str,
        says: &'static str,
        requests: usize,
    }
    let (manifest, files) = small_bundle();
    let cases = [
        Case { fault: Fault::EndAt(100), code: "fetch", says: "ended too early", requests: 5 },
        Case { fault: Fault::WrongLength, code: "corrupt", says: "the manifest says", requests: 2 },
        Case { fault: Fault::TooLong, code: "corrupt", says: "more than", requests: 2 },
        Case { fault: Fault::Missing, code: "fetch", says: "404", requests: 1 },
        Case { fault: Fault::Busy(None), code: "fetch", says: "503", requests: 5 },
        Case { fault: Fault::Stall, code: "fetch", says: "nothing came", requests: 5 },
    ];
    let file = &manifest.shards[1].file;
    for Case { fault, code, says, requests } in cases {
        let source = Rc::new(Faulty::always(&files, file, fault));
        let error = load_from(&source).expect_err("the fault stays");
        assert_eq!(error.code(), code, "{fault:?}: {error}");
        assert!(error.to_string().contains(says) && error.to_string().contains(file.as_str()), "{fault:?}: {error}");
        assert_eq!(source.requests_for(file), requests, "{fault:?}");
    }
}

#[test]
fn waits_grow_and_the_host_s_wish_is_obeyed() {
    let (manifest, files) = small_bundle();
    let faults = [Fault::Busy(None), Fault::Busy(None), Fault::Busy(Some(7_000)), Fault::Busy(None)];
    let source = Rc::new(Faulty::once(&files, &manifest.shards[0].file, &faults));
    let host = Rc::new(TestHost::default());
    load_all(source, Rc::new(NoCache), Rc::<TestHost>::clone(&host)).expect("the fifth try succeeds");
    assert_eq!(*host.slept_ms.borrow(), [500, 1000, 7000, 4000]);
}

#[test]
fn an_error_leaves_the_loader_usable() {
    let (manifest, files) = small_bundle();
    let source = Rc::new(Faulty::once(&files, &manifest.shards[2].file, &[Fault::Missing]));
    let host = Rc::new(TestHost::default());
    let mut loader = block_on(open(source, Rc::new(NoCache), host)).expect("the manifest is there");
    assert!(block_on(loader.load_part("language", &mut |_| {})).is_err());
    check("language", &block_on(loader.load_part("language", &mut |_| {})).expect("now it is there"));
    check("language", &block_on(loader.load_part("language", &mut |_| {})).expect("and once more"));
    check("tagger", &block_on(loader.load_part("tagger", &mut |_| {})).expect("its shard came along"));
    let error = block_on(loader.load_part("cook", &mut |_| {})).expect_err("there is no such part");
    assert!(error.to_string().contains("tagger, detector, language"), "{error}");
}

#[test]
fn a_stop_at_any_moment_leaves_a_cache_that_the_next_load_goes_on_with() {
    let (_, files) = small_bundle();
    let whole: usize = files.values().map(Vec::len).sum();
    let host = Rc::new(TestHost::default());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Rc::new(DirectoryCache::new(folder.path()));
    load_all(Rc::new(Faulty::new(&files)), cache, Rc::<TestHost>::clone(&host)).expect("it loads");
    for stop in (1..host.breaths.get()).step_by(7) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Rc::new(DirectoryCache::new(folder.path().join("cache")));
        let host = Rc::new(TestHost { stop_at_breath: Cell::new(Some(stop)), ..TestHost::default() });
        let stopped = load_all(Rc::new(Faulty::new(&files)), Rc::<DirectoryCache>::clone(&cache), host);
        assert!(matches!(stopped, Err(Error::Cancelled)), "stopped at {stop}: {stopped:?}");
        let kept: usize = if folder.path().join("cache").exists() {
            files_of(&folder.path().join("cache"))
                .iter()
                .filter(|(key, _)| !key.starts_with("manifest"))
                .map(|f| f.1.len())
                .sum()
        } else {
            0
        };
        let source = Rc::new(Faulty::new(&files));
        load_all(Rc::<Faulty>::clone(&source), cache, Rc::new(TestHost::default())).expect("it loads");
        assert_eq!(source.sent.get() + kept, whole, "stopped at {stop}: something was fetched twice");
    }
}

#[test]
fn a_full_cache_needs_no_requests_and_a_damaged_one_is_mended() {
    let (manifest, files) = small_bundle();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Rc::new(DirectoryCache::new(folder.path()));
    let host = || Rc::new(TestHost::default());
    load_all(Rc::new(Faulty::new(&files)), Rc::<DirectoryCache>::clone(&cache), host()).expect("it loads");

    let offline = Rc::new(Faulty::new(&BTreeMap::new()));
    load_all(Rc::<Faulty>::clone(&offline), Rc::<DirectoryCache>::clone(&cache), host()).expect("the cache has all");
    assert_eq!(*offline.requests.borrow(), [("bundle.json".to_owned(), 0)]);
    let silent = Rc::new(Faulty::new(&BTreeMap::new()));
    let sink = || WeightSink::new(Device::Cpu);
    let opened =
        WeightLoader::open_cached(Rc::<Faulty>::clone(&silent), Rc::<DirectoryCache>::clone(&cache), host(), sink);
    let mut loader = block_on(opened).expect("the manifest is kept");
    let mut from_cache = true;
    let loaded = block_on(loader.load_part("tagger", &mut |progress| from_cache &= progress.from_cache));
    check("tagger", &loaded.expect("the cache has all"));
    assert!(from_cache && silent.requests.borrow().is_empty());

    for shard in &manifest.shards {
        let path = folder.path().join(&shard.sha256);
        let mut bytes = std::fs::read(&path).expect("the cache has it");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("it can be damaged");
        let source = Rc::new(Faulty::new(&files));
        load_all(Rc::<Faulty>::clone(&source), Rc::<DirectoryCache>::clone(&cache), host()).expect("it is mended");
        assert_eq!(source.requests_for(&shard.file), 1);
        assert_eq!(std::fs::read(&path).expect("it is back"), files[&shard.file]);
    }
}

/// A cache without room: keeps the first bytes of a file, then refuses.
struct Full(DirectoryCache);

#[async_trait(?Send)]
impl Cache for Full {
    async fn held(&self, key: &str) -> Result<Held> {
        self.0.held(key).await
    }
    async fn read(&self, key: &str, _start: u64, _len: usize) -> Result<Vec<u8>> {
        Err(Error::Fetch { name: key.to_owned(), reason: "the disk is broken".into() })
    }
    async fn append(&self, key: &str, at: u64, bytes: &[u8]) -> Result<()> {
        if at > 200 { Err(Error::OutOfMemory("the cache is full".into())) } else { self.0.append(key, at, bytes).await }
    }
    async fn finish(&self, key: &str) -> Result<()> {
        self.0.finish(key).await
    }
    async fn remove(&self, key: &str) -> Result<()> {
        self.0.remove(key).await
    }
    async fn keys(&self) -> Result<Vec<String>> {
        self.0.keys().await
    }
}

#[test]
fn a_cache_that_fails_only_costs_the_cache() {
    let (_, files) = small_bundle();
    let folder = tempfile::tempdir().expect("a temporary folder");
    for _ in 0..2 {
        let cache = Rc::new(Full(DirectoryCache::new(folder.path())));
        load_all(Rc::new(Faulty::new(&files)), cache, Rc::new(TestHost::default())).expect("it loads all the same");
    }
}

#[test]
fn older_versions_leave_the_cache() {
    let (_, files) = small_bundle();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = Rc::new(DirectoryCache::new(folder.path()));
    block_on(cache.append(&"0".repeat(64), 0, b"old")).expect("it can be written");
    let source = Rc::new(Faulty::new(&files));
    let opened = open(source, Rc::<DirectoryCache>::clone(&cache), Rc::new(TestHost::default()));
    let mut loader = block_on(opened).expect("it opens");
    for part in PARTS {
        block_on(loader.load_part(part, &mut |_| {})).expect("it loads");
    }
    let before = block_on(cache.keys()).expect("keys").len();
    assert_eq!(block_on(loader.evict_unnamed()).expect("it can be removed"), 1);
    assert_eq!(block_on(cache.keys()).expect("keys").len(), before - 1);
}

#[test]
fn progress_counts_every_byte_once() {
    let (manifest, files) = small_bundle();
    let source = Rc::new(Faulty::new(&files));
    let mut loader = block_on(open(source, Rc::new(NoCache), Rc::new(TestHost::default()))).expect("it opens");
    let mut latest = 0;
    for part in PARTS {
        let mut last = None;
        let report = &mut |progress: &bubo::bundle::Progress| {
            assert!(progress.loaded >= latest && progress.part_loaded <= progress.part_total, "{progress:?}");
            latest = progress.loaded;
            last = Some(progress.clone());
        };
        block_on(loader.load_part(part, report)).expect("it loads");
        let last = last.expect("something was reported");
        assert_eq!((last.part.as_str(), last.part_loaded), (part, last.part_total));
        assert_eq!(last.total, manifest.total_bytes());
    }
    // The file that all parts share is read for each of them.
    assert_eq!(latest, manifest.total_bytes());
}

#[test]
fn manifests_that_are_wrong_say_what_is_wrong() {
    let (_, files) = small_bundle();
    let text = String::from_utf8(files["bundle.json"].clone()).expect("JSON is text");
    let html = "<!doctype html><title>Not here</title>".to_owned();
    let without = |key: &str| text.replacen(&format!("\"{key}\":"), "\"other\":", 1);
    let cases = [
        (html, "web page"),
        ("{".into(), "no JSON"),
        ("[]".into(), "`format` is missing"),
        (text.replacen("\"format\":1", "\"format\":2", 1), "known formats: 1"),
        (text.replacen("\"format\":1", "\"format\":\"one\"", 1), "known formats: 1"),
        (without("shards"), "`shards`"),
        (without("tensors"), "`tensors`"),
        (without("version"), "`version`"),
        (without("model"), "`model`"),
        (without("sha256"), "`sha256`"),
        (without("dtype"), "`dtype`"),
        (text.replacen("\"dtype\":\"f32\"", "\"dtype\":\"q3_9\"", 1), "q4_0, q4_1, q8_0"),
        (text.replacen("\"shape\":[3,5]", "\"shape\":[3,6]", 1), "do not fit"),
        (text.replacen("\"shape\":[3,5]", "\"shape\":[18446744073709551615,5]", 1), "not possible"),
        (text.replacen("\"shape\":[3,5]", "\"shape\":[-3,5]", 1), "tensors.tagger.stem.weight"),
        (text.replacen("\"shape\":[3,5],\"shard\":0", "\"shape\":[3,5],\"shard\":77", 1), "no shard 77"),
        (text.replacen("\"file\":\"00-", "\"file\":\"../00-", 1), "no plain file name"),
        (text.replacen("\"file\":\"00-", "\"file\":\"https://x/00-", 1), "no plain file name"),
        (text.replacen("\"rows\":[0,", "\"rows\":[1,", 1), "do not follow"),
        (text.replacen("\"prefix\":\"tagger.\"", "\"prefix\":\"tagger\"", 1), "end in a dot"),
        (text.replacen("\"prefix\":\"tagger.\"", "\"prefix\":\"detector.\"", 1), "share a prefix"),
    ];
    for (text, says) in cases {
        let error = Manifest::parse(text.as_bytes()).expect_err(says);
        assert!(error.to_string().contains(says), "expected {says:?}: {error}");
        let mut files = files.clone();
        files.insert("bundle.json".into(), text.into_bytes());
        assert!(load_from(&Rc::new(Faulty::new(&files))).is_err());
    }
    let extra = text.replacen("\"format\":1", "\"format\":1,\"new\":{\"key\":[]}", 1);
    Manifest::parse(extra.as_bytes()).expect("unknown keys are ignored");
    let missing = Rc::new(Faulty::new(&BTreeMap::new()));
    let error = load_from(&missing).expect_err("there is nothing");
    assert!(error.to_string().contains("404") && error.to_string().contains("test.invalid"), "{error}");
    assert_eq!(missing.requests.borrow().len(), 1);
}

#[test]
fn overlapping_tensors_are_refused() {
    let (manifest, _) = small_bundle();
    let mut hostile = manifest;
    let twin = hostile.tensors[0].clone();
    hostile.tensors.push(bubo::bundle::TensorEntry { name: "tagger.twin".into(), ..twin });
    let error = Manifest::parse(hostile.to_json().expect("JSON").as_bytes()).expect_err("they overlap");
    assert!(error.to_string().contains("overlap"), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_manifest_gives_an_answer(edits: Vec<(u16, u8)>, number: u64) {
        let (_, files) = small_bundle();
        let mut text = files["bundle.json"].clone();
        for (at, byte) in &edits {
            let at = usize::from(*at) % text.len();
            text[at] = *byte;
        }
        let _ = Manifest::parse(&text);
        let text = String::from_utf8(files["bundle.json"].clone()).expect("JSON is text");
        // The same with one number replaced by any other.
        let at = edits.first().map_or(0, |edit| usize::from(edit.0) % text.len());
        if let Some(start) = text[at..].find(|c: char| c.is_ascii_digit()).map(|found| at + found) {
            let end = text[start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |found| start + found);
            let _ = Manifest::parse(format!("{}{number}{}", &text[..start], &text[end..]).as_bytes());
        }
    }

    #[test]
    fn a_shard_that_lies_with_a_right_hash_gives_an_error(at: u16, byte in 1u8..) {
        use sha2::Digest;
        let (mut manifest, mut files) = small_bundle();
        let shard = &mut manifest.shards[0];
        let content = files.get_mut(&shard.file).expect("the shard is there");
        let header = 8 + u64::from_le_bytes(*content.first_chunk().expect("a header")) as usize;
        let at = usize::from(at) % header;
        content[at] ^= byte;
        shard.sha256 = sha2::Sha256::digest(&*content).iter().map(|byte| format!("{byte:02x}")).collect();
        files.insert("bundle.json".into(), manifest.to_json().expect("JSON").into_bytes());
        // Only an edit within the padding or the metadata leaves it right.
        if let Err(error) = load_from(&Rc::new(Faulty::new(&files))) {
            proptest::prop_assert_eq!(error.code(), "corrupt");
        }
    }
}

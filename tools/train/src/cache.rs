//! Views of the frozen encoders on disk, keyed by content: what was computed once is never computed again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bubo::encoders::joiner::Hint;
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::frozen::View;
use crate::slots::Said;

/// A folder of views.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Views in `folder`, which is made.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The view of a content, from the folder or else from `compute`.
    ///
    /// - `content`: everything that the view depends on: bytes of the file, what is done to it, which encoders look
    ///
    /// # Errors
    /// Those of `compute`, and if a view cannot be written or was damaged.
    pub fn view(&self, content: &[&[u8]], compute: impl FnOnce() -> Result<View>) -> Result<View> {
        let mut hash = Sha256::new();
        for piece in content {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
        let key: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.folder.join(format!("{key}.safetensors"));
        if let Ok(bytes) = std::fs::read(&path) {
            return decode(&bytes).with_context(|| format!("{}; remove it", path.display()));
        }
        let bytes = encode(&compute()?)?;
        let partial = path.with_extension(std::process::id().to_string());
        std::fs::write(&partial, &bytes)?;
        std::fs::rename(&partial, &path)?;
        decode(&bytes)
    }
}

/// What stands beside the features, as JSON in the file's metadata.
#[derive(Serialize, Deserialize)]
struct Words {
    hints: Vec<Hint>,
    found: usize,
    said: Vec<Said>,
    told: Option<String>,
}

const WORDS: &str = "words";

/// Features are kept in 16 bits: they are read a thousand times, and their last bits mean nothing.
fn encode(view: &View) -> Result<Vec<u8>> {
    let features: Vec<u8> = view.features.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
    let tensors = [("features", TensorView::new(Dtype::F16, vec![view.features.len()], &features)?)];
    let View { hints, found, said, told, .. } = view.clone();
    let words = Words { hints, found, said, told };
    let metadata = [(WORDS.to_owned(), serde_json::to_string(&words)?)].into();
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}

fn decode(bytes: &[u8]) -> Result<View> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let words = metadata.metadata().as_ref().and_then(|texts| texts.get(WORDS)).context("no words")?;
    let Words { hints, found, said, told } = serde_json::from_str(words)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let features = tensors.tensor("features")?;
    ensure!(features.dtype() == Dtype::F16, "numbers of another type");
    let features = features.data().as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair).to_f32()).collect();
    Ok(View { features, hints, found, said, told })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_computed_once_and_depend_on_all_content() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path()).unwrap();
        let (kind, name) = ("dog".into(), "\"pug\"".into());
        let hint = Hint { kind, name, score: 0.25, centre: [0.5, 0.125], size: [0.0, 1.0] };
        let said = vec![Said { kind: "dog".into(), name: "pug".into(), place: None }];
        let view =
            View { features: vec![0.5, -2.0, 0.0], hints: vec![hint], found: 1, said, told: Some("a dog".into()) };
        let found = cache.view(&[b"dog", b"1"], || Ok(view.clone())).unwrap();
        assert_eq!(found, view);
        assert_eq!(cache.view(&[b"dog", b"1"], || anyhow::bail!("computed again")).unwrap(), view);
        for other in [[b"dog".as_slice(), b"2"], [b"do", b"g1"]] {
            assert!(cache.view(&other, || anyhow::bail!("not there")).is_err());
        }
    }
}

//! What was taught stays in the browser's storage, beside the bundle's files: one document for each sense, named after
//! the encoder that it belongs to, so that another bundle's does not touch it.

use crate::bundle::{Cache, TAUGHT_KEY};
use crate::error::Result;
use crate::grounding::taught::document::MAX_DOCUMENT_BYTES;
use crate::grounding::taught::{Encoders, Sense};
use crate::host::Host;
use crate::session::Session;

const SENSES: [Sense; 2] = [Sense::Picture, Sense::Sound];

/// A document is written under the other of two names before the old one goes: a page that is closed meanwhile loses
/// nothing.
fn keys(encoders: &Encoders, sense: Sense) -> Option<[String; 2]> {
    let fingerprint = encoders.of_sense(sense)?.fingerprint.get(..32)?;
    let sense = match sense {
        Sense::Picture => "picture",
        Sense::Sound => "sound",
    };
    Some(["a", "b"].map(|side| format!("{TAUGHT_KEY}{sense}-{fingerprint}-{side}")))
}

/// Brings back what was taught to the session's encoders.
///
/// # Errors
/// Those of the cache, and of a document that was damaged; what could be read is there then.
pub async fn restore(cache: &dyn Cache, encoders: &Encoders, session: &Session, host: &dyn Host) -> Result<()> {
    let mut result = Ok(());
    for key in SENSES.into_iter().filter_map(|sense| keys(encoders, sense)).flatten() {
        let one = async {
            let held = cache.held(&key).await?;
            if !held.complete {
                return Ok(());
            }
            let length = usize::try_from(held.bytes).unwrap_or(usize::MAX).min(MAX_DOCUMENT_BYTES + 1);
            let json = cache.read(&key, 0, length).await?;
            session.import_taught(&json, host, &|_| {}).await.map(|_| ())
        };
        if let Err(error) = one.await {
            result = Err(error);
        }
    }
    result
}

/// Keeps what is taught now.
///
/// # Errors
/// Those of the cache; what was kept before is there still.
pub async fn keep(cache: &dyn Cache, encoders: &Encoders, session: &Session) -> Result<()> {
    let taught = session.taught();
    for sense in SENSES {
        let Some(keys) = keys(encoders, sense) else { continue };
        if !taught.classes.iter().any(|class| class.sense == sense) {
            for key in &keys {
                cache.remove(key).await?;
            }
            continue;
        }
        let [first, second] = keys;
        let (old, new) = if cache.held(&first).await?.complete { (first, second) } else { (second, first) };
        cache.append(&new, 0, session.export_taught(Some(sense))?.as_bytes()).await?;
        cache.finish(&new).await?;
        cache.remove(&old).await?;
    }
    Ok(())
}

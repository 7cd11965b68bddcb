//! What the model has read so far, and reading on from there.

use super::llama::Llama;
use super::prompt::{Item, Sequence};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::nn::KvCache;
use crate::tensor::Tensor;

/// A key-value cache together with what each of its places stands for.
///
/// Reading a sequence keeps the longest beginning that both have in common, so a follow-up question costs only what is
/// new, whatever happened before: an answer that was cut short, a turn that fell out of the context, another picture.
#[derive(Debug)]
pub(crate) struct Context {
    cache: KvCache,
    items: Vec<Item>,
}

/// What a sequence cost to read.
pub(crate) struct Prefill {
    /// `[1, 1, hidden_size]`: the last place after the last norm.
    pub last: Tensor,
    /// Places that had to be computed.
    pub computed: usize,
    /// Places that were known already.
    pub reused: usize,
}

impl Context {
    pub(crate) fn new(llama: &Llama, max_positions: usize) -> Self {
        Self { cache: llama.new_cache(max_positions), items: Vec::new() }
    }

    pub(crate) fn max_positions(&self) -> usize {
        self.cache.max_positions()
    }

    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    /// Forgets what stands behind the first `len` places.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
        self.items.truncate(len);
    }

    /// Reads `sequence`, at most `chunk` places at a time; the host breathes before each, and `progress` hears of
    /// (done, total) places after each. Stopping in between keeps what was read.
    pub(crate) async fn read(
        &mut self,
        llama: &Llama,
        sequence: &Sequence,
        chunk: usize,
        host: &dyn Host,
        progress: &mut impl AsyncFnMut(usize, usize) -> Result<()>,
    ) -> Result<Prefill> {
        let total = sequence.items.len();
        let Some(last_place) = total.checked_sub(1) else {
            return Err(Error::Input("there is nothing to answer: the prompt is empty".into()));
        };
        let common = self.items.iter().zip(&sequence.items).take_while(|(known, new)| known == new).count();
        // The last place is always computed, because what comes out of it is wanted.
        let reused = common.min(last_place);
        self.truncate(reused);
        let mut last = None;
        for items in sequence.items[reused..].chunks(chunk.max(1)) {
            host.breathe().await?;
            let hidden = llama.forward(&embed(llama, items, sequence)?, Some(&mut self.cache))?;
            self.items.extend_from_slice(items);
            last = Some(hidden.narrow(1, items.len() - 1, 1)?);
            progress(self.items.len() - reused, total - reused).await?;
        }
        let last = last.ok_or_else(|| Error::shape("prefill", "no place was computed"))?;
        Ok(Prefill { last, computed: total - reused, reused })
    }

    /// Reads the next token of each of several branches that go on from the first `trunk` places:
    /// `[1, branches, hidden_size]` after the last norm.
    ///
    /// - `branches`: the places behind the trunk that each token sees; its own place, which is the last of them, is the
    ///   next free one. All are equally long, since the tokens stand at one position.
    pub(crate) fn push_branches(
        &mut self,
        llama: &Llama,
        ids: &[u32],
        trunk: usize,
        branches: &[&[usize]],
    ) -> Result<Tensor> {
        let Some(position) = branches.first().map(|branch| trunk + branch.len() - 1) else {
            return Err(Error::shape("branches", "there are none"));
        };
        let places = self.cache.len() + ids.len();
        let mut hidden = vec![f32::NEG_INFINITY; ids.len() * places];
        for (row, branch) in hidden.chunks_exact_mut(places).zip(branches) {
            row[..trunk].fill(0.0);
            branch.iter().for_each(|place| row[*place] = 0.0);
        }
        let hidden = Tensor::from_f32(&hidden, &[1, 1, ids.len(), places], llama.device())?;
        let read = llama.forward_branches(&llama.embed(ids)?, &mut self.cache, position, &hidden)?;
        self.items.extend(ids.iter().copied().map(Item::Token));
        Ok(read)
    }

    /// Forgets all places behind the first `trunk` but `kept` (ascending), which move up in their order.
    pub(crate) fn keep_branches(&mut self, trunk: usize, kept: &[usize]) -> Result<()> {
        self.cache.keep(trunk, kept)?;
        let items: Vec<Item> = kept.iter().filter_map(|place| self.items.get(*place).copied()).collect();
        self.items.truncate(trunk);
        self.items.extend(items);
        Ok(())
    }

    /// Reads more tokens: `[1, n, hidden_size]` after the last norm.
    pub(crate) fn push(&mut self, llama: &Llama, ids: &[u32]) -> Result<Tensor> {
        let hidden = llama.forward(&llama.embed(ids)?, Some(&mut self.cache))?;
        self.items.extend(ids.iter().copied().map(Item::Token));
        Ok(hidden)
    }
}

/// Embeddings of tokens and of pictures and sounds in their order: `[1, n, hidden_size]`.
fn embed(llama: &Llama, items: &[Item], sequence: &Sequence) -> Result<Tensor> {
    let hidden = llama.config().hidden_size;
    let same_kind = |a: &Item, b: &Item| match (a, b) {
        (Item::Token(_), Item::Token(_)) => true,
        (Item::Embedding { modality: a, row }, Item::Embedding { modality: b, row: next }) => {
            a == b && row + 1 == *next
        }
        _ => false,
    };
    let mut pieces = Vec::new();
    for run in items.chunk_by(same_kind) {
        pieces.push(match run[0] {
            Item::Token(_) => {
                let ids: Vec<u32> =
                    run.iter().filter_map(|item| if let Item::Token(id) = item { Some(*id) } else { None }).collect();
                llama.embed(&ids)?
            }
            Item::Embedding { modality, row } => {
                let found = sequence.modalities.iter().find(|candidate| candidate.id == modality);
                let found = found.ok_or_else(|| Error::shape("prompt", format!("no embeddings of id {modality}")))?;
                let [_, width] = found.embeddings.dims_of("embeddings of a picture or sound")?;
                if width != hidden {
                    let reason = format!("embeddings of width {width} for a language model of width {hidden}");
                    return Err(Error::shape("prompt", reason));
                }
                found.embeddings.narrow(0, row, run.len())?.reshape(&[1, run.len(), hidden])?
            }
        });
    }
    match pieces.as_slice() {
        [piece] => Ok(piece.clone()),
        pieces => Tensor::concat(&pieces.iter().collect::<Vec<_>>(), 1),
    }
}

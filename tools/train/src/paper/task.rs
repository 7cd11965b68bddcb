//! A stage of the paper as a task: batches of one data set each, through frozen encoders, what learns of each modality,
//! and the frozen language model, to the loss on the answers' tokens.

use anyhow::{Context, Result, ensure};
use bubo::language::{Llama, ModalityKind, Tokenizer};
use candle_core::Tensor;

use super::data::{self, Asked, DataSet};
use super::entries::Media;
use super::prompts::{Piece, pieces};
use super::side::Side;
use crate::random::Random;
use crate::run::Task;
use crate::sequences::{Row, answer_logits, answer_loss, share_right};
use crate::variables::Variables;

/// How questions and answers are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Around a question, with `{}` in its place; without one, what is shown stands alone, with no question.
    pub template: Option<String>,
    /// What ends an answer.
    pub end: String,
    /// Tokens of an answer, its end among them; the rest is cut off.
    pub max_target_tokens: usize,
}

/// The task.
pub struct PaperTask {
    /// What learns.
    pub variables: Variables,
    /// The frozen language model.
    pub llama: Llama,
    /// Its tokeniser.
    pub tokenizer: Tokenizer,
    /// The token that a sequence starts with.
    pub start: u32,
    /// How questions and answers are written.
    pub form: Form,
    /// Pictures and sounds, as far as they are taught.
    pub sides: Vec<Side>,
    /// What is learnt from.
    pub sets: Vec<DataSet>,
    /// Samples of a batch.
    pub batch: usize,
    /// Samples of each data set that are watched.
    pub validation: usize,
}

/// Embeddings of what a batch is shown, `[batch, queries, hidden_size]`, by modality.
type Shown = Vec<(ModalityKind, Tensor)>;

impl PaperTask {
    /// The tokens of an answer and its end, cut to what is allowed.
    ///
    /// Source: bubogpt-spec 7.2.
    fn target(&self, answer: &str) -> Result<Vec<u32>> {
        let mut target = self.tokenizer.encode(&format!("{answer}{}", self.form.end))?;
        target.truncate(self.form.max_target_tokens);
        Ok(target)
    }

    fn shown(&self, asked: &[Asked], mut random: Option<&mut Random>) -> Result<Shown> {
        let mut shown = Vec::new();
        for side in &self.sides {
            let media = |asked: &Asked| -> Option<Media> {
                match side.kind {
                    ModalityKind::Image => asked.entry.image.clone(),
                    ModalityKind::Audio => asked.entry.audio.clone(),
                }
            };
            let all: Vec<Media> = asked.iter().filter_map(media).collect();
            if all.is_empty() {
                continue;
            }
            ensure!(all.len() == asked.len(), "a batch of more than one kind of question");
            let features = all.iter().map(|media| side.features().of(media, random.as_deref_mut()));
            let embeddings = side.forward(&features.collect::<Result<Vec<_>>>()?)?;
            let embeddings = embeddings.as_candle().context("training runs on candle's tensors")?.clone();
            shown.push((side.kind, embeddings));
        }
        Ok(shown)
    }

    /// Prompt and answer of sample `at` of a batch.
    fn row(&self, asked: &Asked, shown: &Shown, at: usize) -> Result<Row> {
        let prompt = match &self.form.template {
            Some(template) => pieces(template, &asked.question)?,
            None => shown.iter().map(|(kind, _)| Piece::Shown(*kind)).collect(),
        };
        let words = |ids: &[u32]| -> Result<Tensor> {
            let words = self.llama.embed(ids)?;
            Ok(words.as_candle().context("training runs on candle's tensors")?.squeeze(0)?)
        };
        let mut parts = vec![words(&[self.start])?];
        for piece in prompt {
            match piece {
                Piece::Text(text) => {
                    let ids = self.tokenizer.encode(&text)?;
                    if !ids.is_empty() {
                        parts.push(words(&ids)?);
                    }
                }
                Piece::Shown(kind) => {
                    let embeddings = shown.iter().find(|(shown, _)| *shown == kind);
                    let (_, embeddings) = embeddings.context("a question about what is not shown")?;
                    parts.push(embeddings.get(at)?);
                }
            }
        }
        let answer = self.target(&asked.entry.answer)?;
        if let [before @ .., _] = answer.as_slice()
            && !before.is_empty()
        {
            parts.push(words(before)?);
        }
        let embedded = Tensor::cat(&parts, 0)?;
        let most = self.llama.config().max_position_embeddings;
        ensure!(
            embedded.dim(0)? <= most,
            "question and answer take {} places, the language model has {most}: {:?}",
            embedded.dim(0)?,
            asked.question
        );
        Ok(Row { embedded, answer })
    }

    fn answer_logits(&self, asked: &[Asked], random: Option<&mut Random>) -> Result<(Tensor, Vec<u32>)> {
        let shown = self.shown(asked, random)?;
        let rows = asked.iter().enumerate().map(|(at, asked)| self.row(asked, &shown, at));
        answer_logits(&self.llama, rows.collect::<Result<_>>()?)
    }
}

impl Task for PaperTask {
    fn variables(&self) -> &Variables {
        &self.variables
    }

    fn loss(&self, random: &mut Random) -> Result<Tensor> {
        let (set, asked) = data::draw(&self.sets, self.batch, random)?;
        let (logits, wanted) = self.answer_logits(&asked, Some(random)).with_context(|| set.name.clone())?;
        answer_loss(&logits, &wanted)
    }

    /// Loss and share of the answers' tokens that would be chosen, by data set, on files that are not learnt from.
    fn validate(&self) -> Result<Vec<(String, f64)>> {
        let mut scores = Vec::new();
        for set in &self.sets {
            let (mut loss, mut right, mut count) = (0.0, 0.0, 0);
            for asked in set.validation(self.validation)?.chunks(self.batch.max(1)) {
                let (logits, wanted) = self.answer_logits(asked, None).with_context(|| set.name.clone())?;
                loss += f64::from(answer_loss(&logits, &wanted)?.to_scalar::<f32>()?) * wanted.len() as f64;
                right += share_right(&logits, &wanted)? * wanted.len() as f64;
                count += wanted.len();
            }
            if count > 0 {
                scores.push((format!("{} loss", set.name), loss / count as f64));
                scores.push((format!("{} right", set.name), right / count as f64));
            }
        }
        Ok(scores)
    }
}

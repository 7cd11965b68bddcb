//! Prompts with their answers through the frozen language model.
//!
//! Sequences are padded on the right: causal attention never sees the padding, so no mask is needed and positions are
//! plain.

use anyhow::{Context, Result, ensure};
use bubo::language::Llama;
use bubo::tensor::Tensor as BuboTensor;
use candle_core::Tensor;

/// An embedded prompt and the answer that shall follow.
#[derive(Debug, Clone)]
pub struct Row {
    /// Prompt and answer without the answer's last token, which predicts nothing: `[places, hidden_size]`.
    pub embedded: Tensor,
    /// The answer's tokens.
    pub answer: Vec<u32>,
}

/// Logits `[tokens, vocabulary]` at the places before each of the answers' tokens, and those tokens.
///
/// # Errors
/// Those of the model; if a row is shorter than its answer.
pub fn answer_logits(llama: &Llama, rows: Vec<Row>) -> Result<(Tensor, Vec<u32>)> {
    let longest = rows.iter().map(|row| row.embedded.dims()[0]).max().unwrap_or(0);
    let (mut padded, mut places, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (at, Row { embedded, answer }) in rows.into_iter().enumerate() {
        let length = embedded.dim(0)?;
        let first = length.checked_sub(answer.len()).context("an answer without a prompt before it")?;
        places.extend((0..answer.len()).map(|index| (at * longest + first + index) as u32));
        wanted.extend_from_slice(&answer);
        padded.push(embedded.pad_with_zeros(0, 0, longest - length)?);
    }
    ensure!(!wanted.is_empty(), "nothing is to be answered");
    let hidden = llama.forward(&BuboTensor::from_candle(Tensor::stack(&padded, 0)?), None)?;
    let hidden = hidden.as_candle().context("training runs on candle's tensors")?;
    let (batch, seq, width) = hidden.dims3()?;
    let places = Tensor::from_vec(places, wanted.len(), hidden.device())?;
    let chosen = hidden.reshape((batch * seq, width))?.index_select(&places, 0)?;
    let logits = llama.logits(&BuboTensor::from_candle(chosen))?;
    Ok((logits.as_candle().context("training runs on candle's tensors")?.clone(), wanted))
}

/// Mean cross-entropy of logits as [`answer_logits`] gives them.
///
/// # Errors
/// Those of the tensors.
pub fn answer_loss(logits: &Tensor, wanted: &[u32]) -> Result<Tensor> {
    let wanted = Tensor::from_slice(wanted, wanted.len(), logits.device())?;
    Ok(candle_nn::loss::cross_entropy(logits, &wanted)?)
}

/// Share of the tokens that would be chosen, 0..1.
///
/// # Errors
/// Those of the tensors.
pub fn share_right(logits: &Tensor, wanted: &[u32]) -> Result<f64> {
    let best = logits.detach().argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
    let right = best.iter().zip(wanted).filter(|(a, b)| a == b).count();
    Ok(right as f64 / wanted.len().max(1) as f64)
}

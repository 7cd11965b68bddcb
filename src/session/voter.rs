//! The language model's vote, where names and sentence embeddings do not agree on what a phrase means.

use async_trait::async_trait;

use crate::error::Result;
use crate::grounding::matcher::Vote;
use crate::host::Host;
use crate::language::{Chat, Message, Role};

/// Lets a language model choose among candidates by how likely each is as its answer.
pub struct Voter<'a> {
    /// Whose model is asked; its conversation is not touched.
    pub chat: Chat,
    /// Where this runs.
    pub host: &'a dyn Host,
}

/// What the model may say instead of a candidate.
const NONE: &str = "nothing";

#[async_trait(?Send)]
impl Vote for Voter<'_> {
    async fn vote(&self, phrase: &str, answer: &str, candidates: &[String]) -> Result<Option<usize>> {
        let listed = candidates.join(", ");
        let question = format!(
            "A picture shows: {listed}. Someone says about it: \"{answer}\" Which of these does \"{phrase}\" mean? \
             Answer with one of: {listed}, {NONE}."
        );
        let messages = [Message::text(Role::User, question)];
        let mut options: Vec<&str> = candidates.iter().map(String::as_str).collect();
        options.push(NONE);
        let scores = self.chat.score(self.host, &messages, &options, true).await?;
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(index, _)| index);
        Ok(best.filter(|index| *index < candidates.len()))
    }
}

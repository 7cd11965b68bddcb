//! When an answer ends.

use serde::Deserialize;

/// What ends an answer, beside its length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StopRules {
    /// Single tokens: end of turn, end of text.
    pub ids: Vec<u32>,
    /// Runs of tokens. LLaMA's tokeniser writes `###` as 835 or as 2277, 29937, depending on what stands before it.
    pub sequences: Vec<Vec<u32>>,
    /// Texts, however they are tokenised; the answer ends before them.
    pub strings: Vec<String>,
}

impl StopRules {
    /// The original's for LLaMA's vocabulary: end of text, and `###` in both of its tokenisations. As a text it is held
    /// back while an answer streams.
    ///
    /// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Chat.__init__`.
    pub fn original() -> Self {
        Self { ids: vec![2], sequences: vec![vec![835], vec![2277, 29937]], strings: vec!["###".to_owned()] }
    }

    /// Whether the ids generated so far end with something that ends the answer.
    pub fn match_ids(&self, ids: &[u32]) -> bool {
        ids.last().is_some_and(|last| self.ids.contains(last))
            || self.sequences.iter().any(|sequence| !sequence.is_empty() && ids.ends_with(sequence))
    }
}

/// Holds streamed text back while it may be the start of a stop text.
#[derive(Debug, Default)]
pub struct StopText {
    held: String,
}

impl StopText {
    /// Takes the next text; gives what can be shown, and whether the answer ends there.
    pub fn push(&mut self, rules: &StopRules, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = rules.strings.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| self.held.find(stop)).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let starts_stop = |at: &usize| rules.strings.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let safe = self.held.char_indices().map(|(at, _)| at).find(starts_stop).unwrap_or(self.held.len());
        let rest = self.held.split_off(safe);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back when the answer ended otherwise.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(strings: &[&str]) -> StopRules {
        StopRules { strings: strings.iter().map(|s| (*s).to_owned()).collect(), ..StopRules::default() }
    }

    #[test]
    fn token_runs_end_an_answer() {
        let mut rules = StopRules::original();
        rules.sequences.push(Vec::new());
        for (ids, ends) in [
            (&[][..], false),
            (&[5, 2], true),
            (&[2, 5], false),
            (&[1, 835], true),
            (&[2277, 29937], true),
            (&[29937], false),
            (&[2277, 5, 29937], false),
        ] {
            assert_eq!(rules.match_ids(ids), ends, "{ids:?}");
        }
    }

    #[test]
    fn stop_texts_are_found_across_pieces_and_near_misses_are_shown() {
        struct Case {
            stops: &'static [&'static str],
            pieces: &'static [&'static str],
            shown: &'static str,
            ended: bool,
        }
        let cases = [
            Case { stops: &["###"], pieces: &["a dog.", "##", "#Human"], shown: "a dog.", ended: true },
            Case { stops: &["###"], pieces: &["a #", "# b #"], shown: "a ## b #", ended: false },
            Case { stops: &["###", "\nUser"], pieces: &["é\n", "\nUs", "er: ###"], shown: "é\n", ended: true },
            Case { stops: &["aab"], pieces: &["a", "a", "a", "b", "c"], shown: "a", ended: true },
            Case { stops: &["", "x"], pieces: &["y", "x"], shown: "y", ended: true },
            Case { stops: &[], pieces: &["all", " of it"], shown: "all of it", ended: false },
        ];
        for case in cases {
            let (rules, mut stop) = (rules(case.stops), StopText::default());
            let (mut shown, mut ended) = (String::new(), false);
            for piece in case.pieces {
                let (text, end) = stop.push(&rules, piece);
                shown.push_str(&text);
                ended = end;
                if ended {
                    break;
                }
            }
            shown.push_str(&stop.finish());
            assert_eq!((shown.as_str(), ended), (case.shown, case.ended), "{:?}", case.pieces);
        }
    }
}

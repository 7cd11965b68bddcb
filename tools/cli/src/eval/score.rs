//! Hits and misses, and how sure the share of hits is.

use std::collections::BTreeMap;

use serde::Serialize;

/// Hits of one kind of question.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Score {
    /// Right answers.
    pub hits: usize,
    /// All answers.
    pub count: usize,
    /// Wrong answers, and what was asked.
    pub failures: Vec<String>,
}

impl Score {
    /// Counts an answer.
    pub fn add(&mut self, hit: bool, failure: impl FnOnce() -> String) {
        self.count += 1;
        self.hits += usize::from(hit);
        if !hit {
            self.failures.push(failure());
        }
    }

    /// Share of hits and where the true one lies with 95 % confidence (Wilson 1927).
    pub fn rate(&self) -> Rate {
        let (n, z) = (self.count.max(1) as f64, 1.959_964);
        let p = self.hits as f64 / n;
        let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        Rate { value: p, low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
    }
}

/// A share with its interval of 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// The share, 0..1.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Rate {
    /// The mean of two shares that were measured apart: balanced accuracy. Its interval has the ends' distances added
    /// as squares (Zou and Donner 2008, MOVER).
    pub fn balanced(a: Self, b: Self) -> Self {
        let value = f64::midpoint(a.value, b.value);
        let below = (a.value - a.low).hypot(b.value - b.low) / 2.0;
        let above = (a.high - a.value).hypot(b.high - b.value) / 2.0;
        Self { value, low: (value - below).max(0.0), high: (value + above).min(1.0) }
    }
}

/// Rows of two kinds of questions, of which the mean is told: its name, and theirs.
const BALANCED: [(&str, [&str; 2]); 2] = [
    ("is there a …, balanced", ["is there a …: it is", "is there a …: it is not"]),
    ("pairs told apart, balanced", ["pairs: related", "pairs: unrelated"]),
];

/// Scores by kind of question.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Scores(pub BTreeMap<&'static str, Score>);

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What is counted.
    pub name: &'static str,
    /// Right answers; none where the row is a mean of two.
    pub hits: Option<usize>,
    /// All answers.
    pub count: usize,
    /// Their share.
    pub rate: Rate,
}

impl Scores {
    /// Counts an answer of a kind.
    pub fn add(&mut self, kind: &'static str, hit: bool, failure: impl FnOnce() -> String) {
        self.0.entry(kind).or_default().add(hit, failure);
    }

    /// All lines, with the means of those that belong together.
    pub fn rows(&self) -> Vec<Row> {
        let plain = self.0.iter().map(|(&name, score)| Row {
            name,
            hits: Some(score.hits),
            count: score.count,
            rate: score.rate(),
        });
        let mut rows: Vec<Row> = plain.collect();
        for (name, [a, b]) in BALANCED {
            if let (Some(a), Some(b)) = (self.0.get(a), self.0.get(b)) {
                let rate = Rate::balanced(a.rate(), b.rate());
                rows.push(Row { name, hits: None, count: a.count + b.count, rate });
            }
        }
        rows
    }

    /// The lines, and what was answered wrongly below them.
    pub fn report(&self) -> String {
        let mut out = String::new();
        for Row { name, hits, count, rate } in self.rows() {
            let hits = hits.map_or_else(|| "    ".to_owned(), |hits| format!("{hits:4}"));
            let Rate { value, low, high } = rate;
            out += &format!("{name:37} {hits} of {count:4}  {value:.3}  (95 %: {low:.3} to {high:.3})\n");
        }
        for (kind, score) in &self.0 {
            for failure in &score.failures {
                out += &format!("{kind}: {}\n", failure.replace('\n', " "));
            }
        }
        out
    }
}

/// A table of kinds of questions and variants, in Markdown.
pub fn table(variants: &[(&str, &Scores)]) -> String {
    let rows: Vec<BTreeMap<&str, Row>> =
        variants.iter().map(|(_, scores)| scores.rows().into_iter().map(|row| (row.name, row)).collect()).collect();
    let names = variants.iter().map(|(name, _)| format!(" {name} |")).collect::<String>();
    let mut out = format!("| question |{names}\n| --- |{}\n", " --- |".repeat(variants.len()));
    let mut kinds: Vec<&str> = rows.iter().flat_map(|rows| rows.keys().copied()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        out += &format!("| {kind} |");
        for rows in &rows {
            out += &rows.get(kind).map_or_else(
                || " – |".to_owned(),
                |Row { hits, count, rate: Rate { value, low, high }, .. }| {
                    let hits = hits.map_or_else(|| format!("of {count}"), |hits| format!("{hits} of {count}"));
                    format!(" {value:.2} ({low:.2} to {high:.2}), {hits} |")
                },
            );
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_wilsons() {
        let rate = Score { hits: 9, count: 10, failures: vec![] }.rate();
        assert!((rate.low - 0.5958).abs() < 1e-3 && (rate.high - 0.9821).abs() < 1e-3, "{rate:?}");
        let none = Score::default().rate();
        assert!(none.low == 0.0 && none.high > 0.7);
    }

    #[test]
    fn the_balanced_rate_is_the_mean() {
        let mut scores = Scores::default();
        for hit in [true, true, true, false] {
            scores.add("pairs: related", hit, String::new);
        }
        assert_eq!(scores.rows().len(), 1, "no mean of one");
        scores.add("pairs: unrelated", false, || "a dog".into());
        let rows = scores.rows();
        let mean = rows.last().unwrap();
        assert_eq!((mean.name, mean.hits, mean.count), ("pairs told apart, balanced", None, 5));
        assert!((mean.rate.value - 0.375).abs() < 1e-12);
        assert!(mean.rate.low < 0.375 && mean.rate.high > 0.375);
        assert!(scores.report().ends_with("pairs: unrelated: a dog\n"));
        let table = table(&[("one", &scores), ("none", &Scores::default())]);
        assert!(table.contains("| pairs: related | 0.75 (0.30 to 0.95), 3 of 4 | – |"), "{table}");
    }
}

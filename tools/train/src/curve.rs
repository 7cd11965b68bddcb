//! The curve of a run, as a table and as a picture.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What is known of a step. In 32 bits, which survive being written as decimals and read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Updates so far.
    pub step: usize,
    /// Mean over the update's batches.
    pub loss: f32,
    /// Learning rate.
    pub rate: f32,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f32,
    /// Validation scores, at the end of an epoch.
    pub scores: Vec<(String, f32)>,
}

/// All steps so far.
#[derive(Debug, Default)]
pub struct Curve {
    /// In order.
    pub rows: Vec<Row>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 48.0;
const COLORS: [&str; 6] = ["#0b6e4f", "#b5541c", "#6a4c93", "#1c6fb5", "#8f1d4f", "#5c5c1a"];

impl Curve {
    /// Mean loss of the last steps.
    pub fn smooth_loss(&self) -> f32 {
        let last = &self.rows[self.rows.len().saturating_sub(20)..];
        last.iter().map(|row| row.loss).sum::<f32>() / last.len().max(1) as f32
    }

    /// Writes `curve.csv` and `curve.svg`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        std::fs::write(folder.join("curve.csv"), self.csv()).context("curve.csv")?;
        std::fs::write(folder.join("curve.svg"), self.svg()).context("curve.svg")
    }

    fn score_names(&self) -> Vec<&str> {
        let scored = self.rows.iter().find(|row| !row.scores.is_empty());
        scored.map_or_else(Vec::new, |row| row.scores.iter().map(|(name, _)| name.as_str()).collect())
    }

    fn csv(&self) -> String {
        let names = self.score_names();
        let mut out = format!("step,loss,learning_rate,gradient_norm,{}\n", names.join(","));
        for Row { step, loss, rate, gradient_norm, scores } in &self.rows {
            let _ = write!(out, "{step},{loss:.5},{rate:.3e},{gradient_norm:.4}");
            for name in &names {
                let score = scores.iter().find(|(found, _)| found == name);
                let _ = write!(out, ",{}", score.map_or_else(String::new, |(_, x)| format!("{x:.4}")));
            }
            out.push('\n');
        }
        out
    }

    /// Loss in grey on its own scale, scores from 0 to 1 in colours, scores that are losses on the loss' scale.
    fn svg(&self) -> String {
        let last = self.rows.last().map_or(1, |row| row.step).max(1) as f64;
        let most = self.rows.iter().map(|row| row.loss).fold(1e-9, f32::max);
        let x = |step: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * step as f64 / last;
        let y = |part: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * part.clamp(0.0, 1.0);
        let line = |points: &[(f64, f64)], color: &str, width: f64| {
            let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            format!("<polyline fill='none' stroke='{color}' stroke-width='{width}' points='{}'/>\n", points.join(" "))
        };
        let mut out = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>\n\
             <rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>\n\
             <text x='{MARGIN}' y='20'>loss (0 to {most:.2}), grey</text>\n"
        );
        let losses: Vec<(f64, f64)> =
            self.rows.iter().map(|row| (x(row.step), y(f64::from(row.loss / most)))).collect();
        out += &line(&losses, "#999", 1.0);
        for (index, name) in self.score_names().iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let scored = self.rows.iter().filter_map(|row| {
                let (_, score) = row.scores.iter().find(|(found, _)| found == name)?;
                let full = if name.ends_with("loss") { most } else { 1.0 };
                Some((x(row.step), y(f64::from(*score / full))))
            });
            out += &line(&scored.collect::<Vec<_>>(), color, 2.0);
            // A few names in a line, many below each other.
            let (left, top) = match self.score_names().len() {
                0..=5 => (MARGIN + 160.0 + 90.0 * index as f64, 20.0),
                _ => (WIDTH - MARGIN - 180.0, 20.0 + 14.0 * index as f64),
            };
            let _ = writeln!(out, "<text x='{left}' y='{top}' fill='{color}'>{name}</text>");
        }
        let axis = [(MARGIN, y(1.0)), (MARGIN, y(0.0)), (WIDTH - MARGIN, y(0.0))];
        out += &line(&axis, "black", 1.0);
        let _ = write!(out, "<text x='{}' y='{}'>step {last}</text>\n</svg>\n", WIDTH - 2.0 * MARGIN, HEIGHT - 16.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_pictures_hold_all_steps() {
        let row = |step, loss, scores| Row { step, loss, rate: 1e-3, gradient_norm: 0.5, scores };
        let curve = Curve { rows: vec![row(1, 2.0, vec![]), row(2, 1.0, vec![("kind".into(), 0.25)])] };
        let csv = curve.csv();
        assert_eq!(csv.lines().next(), Some("step,loss,learning_rate,gradient_norm,kind"));
        assert_eq!(csv.lines().nth(2), Some("2,1.00000,1.000e-3,0.5000,0.2500"));
        let svg = curve.svg();
        assert!(svg.contains(">kind</text>") && svg.matches("<polyline").count() == 3);
        assert!((curve.smooth_loss() - 1.5).abs() < 1e-9);
    }
}

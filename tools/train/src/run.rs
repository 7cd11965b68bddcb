//! A training run: steps, checkpoints, curves.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::curve::{Curve, Row};
use crate::optimizer::{AdamW, Moments, Schedule};
use crate::prepare::Progress;
use crate::random::Random;
use crate::variables::Variables;

/// How long and how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Passes, each followed by validation and a checkpoint.
    pub epochs: usize,
    /// Updates of an epoch.
    pub steps_per_epoch: usize,
    /// Batches whose gradients are averaged for one update.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// The same number gives the same run.
    pub seed: u64,
    /// The optimiser's.
    pub schedule: Schedule,
}

fn one() -> usize {
    1
}

/// Something to learn.
pub trait Task {
    /// What learns.
    fn variables(&self) -> &Variables;

    /// Loss of a batch, drawn by `random`.
    ///
    /// # Errors
    /// Those of the models.
    fn loss(&self, random: &mut Random) -> Result<Tensor>;

    /// Scores on data that is not learnt from, by name.
    ///
    /// # Errors
    /// Those of the models.
    fn validate(&self) -> Result<Vec<(String, f64)>>;

    /// Factor on the learning rate of a variable.
    fn rate_factor(&self, _name: &str) -> f64 {
        1.0
    }
}

/// What a checkpoint says beside the numbers.
#[derive(Serialize, Deserialize)]
struct Progressed {
    step: usize,
    updates: usize,
    /// As JSON, since numbers that are parsed may differ in their last bit.
    plan: String,
    curve: Vec<Row>,
}

/// Runs `task` by `plan`, from the checkpoint in `folder` if there is one. There it leaves `weights.safetensors`,
/// `curve.csv` and `curve.svg`.
///
/// # Errors
/// If the checkpoint is of another plan, files cannot be written, and those of the task.
pub fn run(task: &dyn Task, plan: &Plan, folder: &Path) -> Result<Curve> {
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut optimizer = AdamW::default();
    let mut curve = Curve::default();
    let mut step = resume(task, plan, folder, &mut optimizer, &mut curve)?;
    let total = plan.epochs * plan.steps_per_epoch;
    let mut progress = Progress::new("training", total - step.min(total));
    let first = step;
    while step < total {
        let (loss, gradient_norm) = update(task, plan, step, &mut optimizer)?;
        step += 1;
        let rate = plan.schedule.rate(step - 1, total) as f32;
        let (loss, gradient_norm) = (loss as f32, gradient_norm as f32);
        let mut row = Row { step, loss, rate, gradient_norm, scores: Vec::new() };
        if step.is_multiple_of(plan.steps_per_epoch) {
            row.scores = task.validate()?.into_iter().map(|(name, score)| (name, score as f32)).collect();
            let scores: Vec<String> = row.scores.iter().map(|(name, x)| format!("{name} {x:.3}")).collect();
            eprintln!("epoch {} of {}: {}", step / plan.steps_per_epoch, plan.epochs, scores.join(", "));
        }
        let ends_epoch = !row.scores.is_empty() || step.is_multiple_of(plan.steps_per_epoch);
        curve.rows.push(row);
        progress.tell(step - first, &format!(", loss {:.3}", curve.smooth_loss()));
        if ends_epoch {
            save(task, plan, folder, step, &optimizer, &curve)?;
        }
    }
    task.variables().save(&folder.join("weights.safetensors"))?;
    Ok(curve)
}

/// One update: the mean loss of its batches, and the norm of the gradient.
fn update(task: &dyn Task, plan: &Plan, step: usize, optimizer: &mut AdamW) -> Result<(f64, f64)> {
    let batches = plan.accumulation.max(1);
    let mut random = Random::new(plan.seed, step as u64);
    let mut mean_loss = 0.0;
    let mut sum: std::collections::BTreeMap<String, Vec<f32>> = Default::default();
    for _ in 0..batches {
        let loss = task.loss(&mut random)?;
        mean_loss += f64::from(loss.to_scalar::<f32>()?) / batches as f64;
        for (name, gradient) in task.variables().gradients(&loss.backward()?)? {
            let place = sum.entry(name).or_insert_with(|| vec![0.0; gradient.len()]);
            place.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x / batches as f32);
        }
    }
    let rate = plan.schedule.rate(step, plan.epochs * plan.steps_per_epoch);
    let by_name = |name: &str| rate * task.rate_factor(name);
    let norm = optimizer.update(&task.variables().by_name, &sum, &plan.schedule, by_name)?;
    Ok((mean_loss, norm))
}

fn checkpoint_files(folder: &Path) -> [PathBuf; 3] {
    ["checkpoint.safetensors", "checkpoint.moments.safetensors", "checkpoint.json"].map(|name| folder.join(name))
}

fn save(task: &dyn Task, plan: &Plan, folder: &Path, step: usize, optimizer: &AdamW, curve: &Curve) -> Result<()> {
    let [weights, moments, state] = checkpoint_files(folder);
    let mut kept = Variables::default();
    for (name, Moments { first, second }) in &optimizer.moments {
        kept.insert(format!("{name}#1"), first.clone(), &[first.len()])?;
        kept.insert(format!("{name}#2"), second.clone(), &[second.len()])?;
    }
    // The file that says what the others are comes last: a run that is killed in between starts from the one before.
    let partial = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    };
    task.variables().save(&partial(&weights))?;
    kept.save(&partial(&moments))?;
    let said =
        Progressed { step, updates: optimizer.updates, plan: serde_json::to_string(plan)?, curve: curve.rows.clone() };
    std::fs::write(partial(&state), serde_json::to_vec(&said)?)?;
    for path in [&weights, &moments, &state] {
        std::fs::rename(partial(path), path)?;
    }
    curve.write(folder)
}

fn resume(task: &dyn Task, plan: &Plan, folder: &Path, optimizer: &mut AdamW, curve: &mut Curve) -> Result<usize> {
    let [weights, moments, state] = checkpoint_files(folder);
    let Ok(said) = std::fs::read(&state) else { return Ok(0) };
    let said: Progressed = serde_json::from_slice(&said).with_context(|| state.display().to_string())?;
    ensure!(
        said.plan == serde_json::to_string(plan)?,
        "{} is of another plan; remove it or give another folder",
        state.display()
    );
    task.variables().restore(&weights)?;
    let kept = candle_core::safetensors::load(&moments, &Device::Cpu)?;
    for name in task.variables().by_name.keys() {
        let part = |part: &str| kept.get(&format!("{name}{part}")).map(Tensor::to_vec1::<f32>).transpose();
        if let (Some(first), Some(second)) = (part("#1")?, part("#2")?) {
            optimizer.moments.insert(name.clone(), Moments { first, second });
        }
    }
    optimizer.updates = said.updates;
    curve.rows = said.curve;
    eprintln!("going on from step {}", said.step);
    Ok(said.step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Learns y = 3 x from noisy samples.
    struct Line(Variables);

    impl Line {
        fn new() -> Self {
            let mut variables = Variables::default();
            variables.insert("slope".into(), vec![0.0], &[1, 1]).unwrap();
            Self(variables)
        }
    }

    impl Task for Line {
        fn variables(&self) -> &Variables {
            &self.0
        }

        fn loss(&self, random: &mut Random) -> Result<Tensor> {
            let x: Vec<f32> = (0..8).map(|_| random.normal()).collect();
            let y: Vec<f32> = x.iter().map(|x| 3.0 * x + 0.1 * random.normal()).collect();
            let (x, y) = (Tensor::from_vec(x, (8, 1), &Device::Cpu)?, Tensor::from_vec(y, (8, 1), &Device::Cpu)?);
            Ok((x.matmul(self.0.by_name["slope"].as_tensor())? - y)?.sqr()?.mean_all()?)
        }

        fn validate(&self) -> Result<Vec<(String, f64)>> {
            Ok(vec![("slope".into(), f64::from(self.0.numbers("slope")?[0]))])
        }
    }

    fn plan(epochs: usize) -> Plan {
        let schedule = Schedule {
            learning_rate: 0.1,
            least_learning_rate: 0.1,
            warm_up_learning_rate: 0.01,
            warm_up_steps: 5,
            weight_decay: 0.0,
            clip_norm: Some(1.0),
        };
        Plan { epochs, steps_per_epoch: 20, accumulation: 2, seed: 3, schedule }
    }

    #[test]
    fn a_run_learns_repeats_and_goes_on_as_if_it_had_not_stopped() {
        let folder = |_| tempfile::tempdir().unwrap();
        let folders: Vec<_> = (0..3).map(folder).collect();
        let whole = run(&Line::new(), &plan(4), folders[0].path()).unwrap();
        let slope = whole.rows.last().unwrap().scores[0].1;
        assert!((slope - 3.0).abs() < 0.1, "{slope}");
        let again = run(&Line::new(), &plan(4), folders[1].path()).unwrap();
        assert_eq!(whole.rows, again.rows);
        // Stopped after the first epoch, by an error on the way to the second.
        struct Stopping(Line, std::cell::Cell<usize>);
        impl Task for Stopping {
            fn variables(&self) -> &Variables {
                self.0.variables()
            }
            fn loss(&self, random: &mut Random) -> Result<Tensor> {
                self.1.set(self.1.get() + 1);
                ensure!(self.1.get() < 55, "killed");
                self.0.loss(random)
            }
            fn validate(&self) -> Result<Vec<(String, f64)>> {
                self.0.validate()
            }
        }
        assert!(run(&Stopping(Line::new(), 0.into()), &plan(4), folders[2].path()).is_err());
        let resumed = run(&Line::new(), &plan(4), folders[2].path()).unwrap();
        assert_eq!(whole.rows, resumed.rows);
        let other = Plan { seed: 4, ..plan(4) };
        assert!(run(&Line::new(), &other, folders[2].path()).is_err(), "a checkpoint of another plan was taken up");
    }
}

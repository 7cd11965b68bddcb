//! A golden's weights under the names that the models load, through the naming tables of the converter.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bubo::nn::{WeightMap, Weights};
use bubo::tensor::{Device, Tensor};

use super::Golden;
use crate::convert::names::Target;

/// The weights of `golden` as `naming` renames, joins and splits them.
///
/// # Errors
/// If a name is unknown, groups of rows are missing or uneven, rows that are left out are not 0, or two tensors of one
/// name differ.
pub fn named_weights(golden: &Golden, device: &Device, naming: impl Fn(&str) -> Option<Target>) -> Result<Weights> {
    let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
    let mut groups: BTreeMap<String, Vec<Option<Tensor>>> = BTreeMap::new();
    for stored in golden.names("weights.") {
        let name = &stored["weights.".len()..];
        let tensor = golden.tensor(stored, device)?;
        match naming(name).with_context(|| format!("{}: a tensor {name:?} that nobody knows", golden.component()))? {
            Target::Whole(name) => add(&mut found, name, tensor)?,
            Target::Rows { of, part, parts } => {
                let group = groups.entry(of).or_insert_with(|| vec![None; parts]);
                *group.get_mut(part).with_context(|| format!("{name}: part {part} of {parts}"))? = Some(tensor);
            }
            Target::Split(names) => split(&mut found, name, &tensor, names)?,
            Target::Unused => {}
        }
    }
    for (name, group) in groups {
        let group: Option<Vec<Tensor>> = group.into_iter().collect();
        let group = group.with_context(|| format!("{name}: some of its rows are missing"))?;
        add(&mut found, name, Tensor::concat(&group.iter().collect::<Vec<_>>(), 0)?)?;
    }
    let mut map = WeightMap::default();
    for (name, tensor) in found {
        map.insert_tensor(name, tensor)?;
    }
    Ok(Weights::new(map))
}

/// Adds a tensor; one of the same name must be the same.
fn add(found: &mut BTreeMap<String, Tensor>, name: String, tensor: Tensor) -> Result<()> {
    if let Some(other) = found.get(&name) {
        let numbers = |tensor: &Tensor| pollster::block_on(tensor.to_f32());
        ensure!(numbers(other)? == numbers(&tensor)?, "{name} is there twice, with other numbers");
    }
    found.insert(name, tensor);
    Ok(())
}

fn split(found: &mut BTreeMap<String, Tensor>, name: &str, tensor: &Tensor, names: Vec<Option<String>>) -> Result<()> {
    let rows = tensor.dims().first().copied().unwrap_or(0);
    ensure!(!names.is_empty() && rows.is_multiple_of(names.len()), "{name}: {rows} rows for {} groups", names.len());
    let each = rows / names.len();
    for (at, part) in names.into_iter().enumerate() {
        let group = tensor.narrow(0, at * each, each)?;
        match part {
            Some(part) => add(found, part, group)?,
            None => {
                let zero = pollster::block_on(group.to_f32())?.iter().all(|number| *number == 0.0);
                ensure!(zero, "{name}: group {at} is left out, but is not 0");
            }
        }
    }
    Ok(())
}

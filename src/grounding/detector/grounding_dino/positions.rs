//! Positions as waves of many lengths: sines and cosines, one after the other.

use std::f32::consts::TAU;

use crate::error::Result;
use crate::tensor::{Device, Tensor, Unary};

/// Spread of the wave lengths of text positions and of boxes.
pub(super) const TEMPERATURE: f32 = 10_000.0;

/// Angular frequencies of `features` features, two of each: `2π / temperature^(2 · floor(i / 2) / features)`.
fn frequencies(features: usize, temperature: f32) -> impl Iterator<Item = f32> {
    (0..features / 2).map(move |pair| TAU / temperature.powf((2 * pair) as f32 / features as f32))
}

/// The waves at some places: `[places, features]`, row-major.
pub(super) fn waves(places: &[f32], features: usize, temperature: f32) -> Vec<f32> {
    let frequencies: Vec<f32> = frequencies(features, temperature).collect();
    let row = |place: &f32| {
        let place = *place;
        frequencies.iter().flat_map(move |frequency| [(place * frequency).sin(), (place * frequency).cos()])
    };
    places.iter().flat_map(row).collect()
}

/// Positions of a level of `rows` × `columns`, `[rows · columns, dim]`: half of the features tell the row, the others
/// the column, both as shares of the side.
pub(super) fn of_level([rows, columns]: [usize; 2], dim: usize, temperature: f32, device: &Device) -> Result<Tensor> {
    let side = |count: usize| -> Vec<f32> {
        let places: Vec<f32> = (1..=count).map(|place| place as f32 / (count as f32 + 1e-6)).collect();
        waves(&places, dim / 2, temperature)
    };
    let y = Tensor::from_f32(&side(rows), &[rows, 1, dim / 2], device)?.broadcast_to(&[rows, columns, dim / 2])?;
    let x =
        Tensor::from_f32(&side(columns), &[1, columns, dim / 2], device)?.broadcast_to(&[rows, columns, dim / 2])?;
    Tensor::concat(&[&y, &x], 2)?.reshape(&[rows * columns, dim]) // [rows · columns, dim]
}

/// The waves of boxes, from numbers that are on the device: `[n, 4]` (centre x, centre y, width, height, 0..1) to
/// `[n, 2 · dim]`, half of `dim` for each of centre y, centre x, width and height.
pub(super) fn of_boxes(boxes: &Tensor, dim: usize) -> Result<Tensor> {
    let [count, _] = boxes.dims_of("boxes")?;
    let device = boxes.device();
    let order = Tensor::from_u32(&[1, 0, 2, 3], &[4], &device)?;
    let frequencies: Vec<f32> = frequencies(dim / 2, TEMPERATURE).collect();
    let frequencies = Tensor::from_f32(&frequencies, &[1, 1, dim / 4], &device)?;
    let angles = boxes.index_select(1, &order)?.reshape(&[count, 4, 1])?.mul(&frequencies)?; // [n, 4, dim / 4]
    let wave = |op: Unary| angles.unary(op)?.reshape(&[count, dim, 1]);
    Tensor::concat(&[&wave(Unary::Sin)?, &wave(Unary::Cos)?], 2)?.reshape(&[count, 2 * dim]) // [n, 2 · dim]
}

//! Multi-scale deformable attention: a query reads all levels of a picture at places that it chooses itself.
//!
//! Zhu et al. 2021 (arXiv 2010.04159). Source: models/GroundingDINO/ms_deform_attn.py.

use crate::error::Result;
use crate::nn::{Linear, Weights};
use crate::tensor::Tensor;

/// Projections around the operation.
#[derive(Debug)]
pub(super) struct DeformableAttention {
    heads: usize,
    levels: usize,
    points: usize,
    sampling_offsets: Linear,
    attention_weights: Linear,
    value_proj: Linear,
    output_proj: Linear,
}

/// Where queries stand, and what their offsets are measured in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reference<'a> {
    /// `[queries, 2]`: x and y, 0..1; offsets count pixels of the level.
    Points(&'a Tensor),
    /// `[queries, 4]`: centre x, centre y, width and height, 0..1; offsets count half boxes, over all points together.
    Boxes(&'a Tensor),
}

impl DeformableAttention {
    pub(super) fn load(dim: usize, heads: usize, levels: usize, points: usize, weights: &Weights) -> Result<Self> {
        let places = heads * levels * points;
        Ok(Self {
            heads,
            levels,
            points,
            sampling_offsets: Linear::load(&weights.pp("sampling_offsets"), dim, 2 * places)?,
            attention_weights: Linear::load(&weights.pp("attention_weights"), dim, places)?,
            value_proj: Linear::load(&weights.pp("value_proj"), dim, dim)?,
            output_proj: Linear::load(&weights.pp("output_proj"), dim, dim)?,
        })
    }

    /// `query` `[queries, dim]` reads `memory` `[tokens, dim]`, whose levels have these rows and columns.
    pub(super) fn forward(
        &self,
        query: &Tensor,
        reference: Reference<'_>,
        memory: &Tensor,
        sizes: &[[usize; 2]],
    ) -> Result<Tensor> {
        let [queries, dim] = query.dims_of("deformable query")?;
        let [tokens, _] = memory.dims_of("deformable memory")?;
        let (heads, levels, points) = (self.heads, self.levels, self.points);
        let offsets = self.sampling_offsets.forward(query)?.reshape(&[queries, heads, levels, points, 2])?;
        let locations = self.locations(&offsets, reference, sizes)?;
        let shares = self.attention_weights.forward(query)?.reshape(&[queries, heads, levels * points])?;
        let shares = shares.softmax()?.reshape(&[queries, heads, levels, points])?;
        let values = self.value_proj.forward(memory)?.reshape(&[tokens, heads, dim / heads])?;
        let read = values.deformable_attention(sizes, &locations, &shares)?; // [queries, heads, head_dim]
        self.output_proj.forward(&read.reshape(&[queries, dim])?)
    }

    fn locations(&self, offsets: &Tensor, reference: Reference<'_>, sizes: &[[usize; 2]]) -> Result<Tensor> {
        match reference {
            Reference::Points(points) => {
                let [queries, _] = points.dims_of("reference points")?;
                let pixel: Vec<f32> =
                    sizes.iter().flat_map(|[rows, columns]| [1.0 / *columns as f32, 1.0 / *rows as f32]).collect();
                let pixel = Tensor::from_f32(&pixel, &[1, 1, sizes.len(), 1, 2], &offsets.device())?;
                offsets.mul(&pixel)?.add(&points.reshape(&[queries, 1, 1, 1, 2])?)
            }
            Reference::Boxes(boxes) => {
                let [queries, _] = boxes.dims_of("reference boxes")?;
                let part = |start: usize| boxes.narrow(1, start, 2)?.reshape(&[queries, 1, 1, 1, 2]);
                let step = part(2)?.affine(0.5 / self.points as f32, 0.0)?;
                offsets.mul(&step)?.add(&part(0)?)
            }
        }
    }
}

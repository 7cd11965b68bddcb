//! SAM's image encoder: a plain vision transformer that mostly looks within windows.
//!
//! Paper: Kirillov et al. 2023, Segment Anything (arXiv 2304.02643), and Li et al. 2022 (arXiv 2203.16527);
//! facebookresearch/segment-anything, modeling/image_encoder.py @ dca509f, whose weight names are kept.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::nn::vit::{FusedAttention, FusedOrder, Mlp, PatchEmbedding, Projected, head_dim, maps_of, windows_of};
use crate::nn::{Conv, LayerNorm, Weights};
use crate::tensor::{Attention, Conv2d, Padding, Tensor};

/// Added to the variance in all norms of the encoder.
const EPS: f32 = 1e-6;

/// Places along a side of an attention at most: no model has more than 64, and its tables grow with the square.
const MOST_PLACES: usize = 256;

/// Scores of one attention dispatch at most, so that a slow adapter is not taken for one that hangs.
const SCORES_AT_ONCE: usize = 1 << 26;

/// One step of an image encoder. The first takes the picture `[1, 3, side, side]`; from then on maps are
/// `[1, rows, columns, dim]`; the last gives the embedding `[1, prompt_dim, grid, grid]`.
pub trait Step: std::fmt::Debug {
    /// Takes the step.
    ///
    /// # Errors
    /// [`Error::Shape`] if the input is not what the step before gives; those of the engine.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

/// An image encoder as its steps in order, each with a name for comparisons: between them others may run.
pub type ImageEncoder = Vec<(String, Box<dyn Step>)>;

/// Sizes of the transformer; the keys are those of the original's constructor.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Side of the square input in pixels.
    pub img_size: usize,
    /// Side of a patch in pixels.
    #[serde(default = "sixteen")]
    pub patch_size: usize,
    /// Width of a token.
    pub embed_dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of each attention.
    pub num_heads: usize,
    /// Side of a window in patches.
    pub window_size: usize,
    /// Blocks that see the whole picture.
    pub global_attn_indexes: Vec<usize>,
    /// Channels of the embedding.
    pub prompt_dim: usize,
}

pub(super) fn sixteen() -> usize {
    16
}

/// Loads `image_encoder.…`.
///
/// # Errors
/// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go together.
pub fn load(config: &Config, weights: &Weights) -> Result<ImageEncoder> {
    let weights = weights.pp("image_encoder");
    let (dim, heads) = (config.embed_dim, config.num_heads);
    let patches = PatchEmbedding::load(&weights.pp("patch_embed").pp("proj"), dim, config.patch_size)?;
    let grid = config.img_size / config.patch_size;
    let positions = weights.tensor("pos_embed", &[1, grid, grid, dim])?;
    let mut steps: ImageEncoder = vec![
        ("patch_embed".to_owned(), Box::new(Patches(patches))),
        ("positions".to_owned(), Box::new(Positions(positions))),
    ];
    for at in 0..config.depth {
        let window = (!config.global_attn_indexes.contains(&at)).then_some(config.window_size);
        let block = Block::load(&weights.pp("blocks").pp(at), dim, heads, window, grid)?;
        steps.push((format!("block{at}"), Box::new(block)));
    }
    steps.push(("neck".to_owned(), Box::new(Neck::load(&weights.pp("neck"), dim, config.prompt_dim)?)));
    Ok(steps)
}

#[derive(Debug)]
struct Patches(PatchEmbedding);

impl Step for Patches {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x)
    }
}

#[derive(Debug)]
struct Positions(Tensor);

impl Step for Positions {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.add(&self.0)
    }
}

/// Attention, within windows or over the whole map, and feed-forward network; pre-norm with residuals.
#[derive(Debug)]
struct Block {
    window: Option<usize>,
    attention_norm: LayerNorm,
    attention: FusedAttention,
    relative: RelativePositions,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn load(weights: &Weights, dim: usize, heads: usize, window: Option<usize>, grid: usize) -> Result<Self> {
        let attention_norm = LayerNorm::load(&weights.pp("norm1"), dim, EPS)?;
        let attention = weights.pp("attn");
        let side = window.unwrap_or(grid);
        Ok(Self {
            window,
            attention_norm,
            attention: FusedAttention::load(&attention, dim, heads, FusedOrder::KindFirst)?,
            relative: RelativePositions::load(&attention, side, head_dim(dim, heads)?)?,
            mlp_norm: LayerNorm::load(&weights.pp("norm2"), dim, EPS)?,
            mlp: Mlp::load(&weights.pp("mlp"), ["lin1", "lin2"], dim, 4 * dim)?,
        })
    }

    /// `[batch, side, side, dim]` to the same.
    fn attend(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, dim] = x.dims_of("sam attention")?;
        let projected = self.attention.project(&x.reshape(&[batch, height * width, dim])?)?;
        let attended = self.relative.attend(&projected)?;
        self.attention.join(&attended)?.reshape(&[batch, height, width, dim])
    }
}

impl Step for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, height, width, _] = x.dims_of("sam block")?;
        let normed = self.attention_norm.forward(x)?;
        let attended = match self.window {
            // Zeros are added behind the norm, and are keys like any other.
            Some(side) => maps_of(&self.attend(&windows_of(&normed, side)?)?, [batch, height, width])?,
            None => self.attend(&normed)?,
        };
        let x = x.add(&attended)?;
        x.add(&self.mlp.forward(&self.mlp_norm.forward(&x)?)?)
    }
}

/// Attention with decomposed relative positions: to the scaled dot product of a query at row y, column x and a key at
/// y', x' come `query · rows[y − y' + side − 1]` and `query · columns[x − x' + side − 1]`, with the query not scaled.
///
/// Both terms are `side` numbers a query, one a row and one a column of keys. They ride along as further numbers of the
/// query, and each key says with ones and zeros which row's and which column's it takes. So the sum comes out of the
/// ordinary product of queries and keys, and no mask of `4096 × 4096` numbers a head is ever made: at SAM's largest a
/// query or key has 80 + 64 + 64 numbers, and the encoder's largest tensor is that inside the feed-forward network,
/// 80 MiB of the 128 that WebGPU binds by default.
#[derive(Debug)]
struct RelativePositions {
    side: usize,
    /// For each row of queries and each of keys, `[side, side, head_dim]`.
    rows: Tensor,
    /// The same for columns.
    columns: Tensor,
    /// A one at each key's row and one at its column, `[1, 1, side · side, 2 · side]`.
    places: Tensor,
    /// Scores of one dispatch at most, if a head does not have more.
    scores_at_once: usize,
}

impl RelativePositions {
    fn load(weights: &Weights, side: usize, head_dim: usize) -> Result<Self> {
        if side == 0 || side > MOST_PLACES {
            return Err(Error::shape("sam attention", format!("windows of {side} places; 1 to {MOST_PLACES} can be")));
        }
        // Row q, column k of the table: how far q lies behind k.
        let apart: Vec<u32> = (0..side * side).map(|at| (at / side + side - 1 - at % side) as u32).collect();
        let table = |name: &str| -> Result<Tensor> {
            let table = weights.tensor(name, &[2 * side - 1, head_dim])?;
            let apart = Tensor::from_u32(&apart, &[side * side], &table.device())?;
            table.index_select(0, &apart)?.reshape(&[side, side, head_dim]) // [queries, keys, head_dim]
        };
        let (rows, columns) = (table("rel_pos_h")?, table("rel_pos_w")?);
        let mut places = vec![0.0; side * side * 2 * side];
        for (key, place) in places.chunks_exact_mut(2 * side).enumerate() {
            place[key / side] = 1.0;
            place[side + key % side] = 1.0;
        }
        let places = Tensor::from_f32(&places, &[1, 1, side * side, 2 * side], &rows.device())?;
        Ok(Self { side, rows, columns, places, scores_at_once: SCORES_AT_ONCE })
    }

    /// Lets queries find values: `[batch, heads, side · side, head_dim]`.
    fn attend(&self, projected: &Projected) -> Result<Tensor> {
        let [batch, heads, seq, _] = projected.query.dims_of("sam attention")?;
        let at_once = (self.scores_at_once / (batch * seq * seq).max(1)).clamp(1, heads);
        if at_once == heads {
            return self.attend_heads(&projected.query, &projected.key, &projected.value);
        }
        let some = |first: usize| {
            let part = |tensor: &Tensor| tensor.narrow(1, first, at_once.min(heads - first));
            self.attend_heads(&part(&projected.query)?, &part(&projected.key)?, &part(&projected.value)?)
        };
        let groups = (0..heads).step_by(at_once).map(some).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&groups.iter().collect::<Vec<_>>(), 1)
    }

    fn attend_heads(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let [batch, heads, seq, head_dim] = query.dims_of("sam attention")?;
        let (rows, columns) = self.terms(query)?;
        let scaled = query.affine((head_dim as f32).powf(-0.5), 0.0)?;
        let query = Tensor::concat(&[&scaled, &rows, &columns], 3)?; // [batch, heads, seq, head_dim + 2 · side]
        let places = self.places.broadcast_to(&[batch, heads, seq, 2 * self.side])?;
        let key = Tensor::concat(&[key, &places], 3)?;
        query.attention(&key, value, &Attention { scale: 1.0, key_count: seq, causal_start: None, mask: None })
    }

    /// What each query adds for each row and for each column of keys, `[batch, heads, side · side, side]` both.
    fn terms(&self, query: &Tensor) -> Result<(Tensor, Tensor)> {
        let [batch, heads, seq, head_dim] = query.dims_of("sam attention")?;
        let (side, count) = (self.side, batch * heads);
        let maps = query.reshape(&[count, side, side, head_dim])?; // [batch · heads, row, column, head_dim]
        let all = [batch, heads, seq, side];
        let by_row = maps.permute(&[1, 0, 2, 3])?.reshape(&[side, count * side, head_dim])?;
        let rows = by_row.matmul_transposed(&self.rows)?.reshape(&[side, count, side, side])?;
        let by_column = maps.permute(&[2, 0, 1, 3])?.reshape(&[side, count * side, head_dim])?;
        let columns = by_column.matmul_transposed(&self.columns)?.reshape(&[side, count, side, side])?;
        Ok((rows.permute(&[1, 0, 2, 3])?.reshape(&all)?, columns.permute(&[1, 2, 0, 3])?.reshape(&all)?))
    }
}

/// From the transformer's width to the embedding's: two convolutions without bias, each with a norm over channels.
#[derive(Debug)]
pub(super) struct Neck {
    narrowing: Conv,
    first_norm: LayerNorm,
    blending: Conv,
    second_norm: LayerNorm,
}

impl Neck {
    pub(super) fn load(weights: &Weights, dim: usize, prompt_dim: usize) -> Result<Self> {
        let blending = Conv2d { padding: Padding::all(1), ..Conv2d::default() };
        Ok(Self {
            narrowing: Conv::load(&weights.pp(0), dim, prompt_dim, 1, Conv2d::default())?,
            first_norm: LayerNorm::load(&weights.pp(1), prompt_dim, EPS)?,
            blending: Conv::load(&weights.pp(2), prompt_dim, prompt_dim, 3, blending)?,
            second_norm: LayerNorm::load(&weights.pp(3), prompt_dim, EPS)?,
        })
    }
}

impl Step for Neck {
    /// `[1, rows, columns, dim]` to `[1, prompt_dim, rows, columns]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.narrowing.forward(&x.permute(&[0, 3, 1, 2])?)?;
        let x = self.blending.forward(&self.first_norm.forward_maps(&x)?)?;
        self.second_norm.forward_maps(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::WeightMap;
    use crate::tensor::Device;

    /// Numbers without pattern, within −1 .. 1.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn relative_positions_are_those_of_the_definition() -> Result<()> {
        let [batch, heads, side, dim] = [2, 3, 4, 5];
        let (seq, device) = (side * side, Device::Cpu);
        let tables = [numbers((2 * side - 1) * dim, 1), numbers((2 * side - 1) * dim, 2)];
        let mut map = WeightMap::default();
        for (name, table) in ["rel_pos_h", "rel_pos_w"].into_iter().zip(&tables) {
            map.insert_tensor(name.into(), Tensor::from_f32(table, &[2 * side - 1, dim], &device)?)?;
        }
        let parts = [3, 4, 5].map(|seed| numbers(batch * heads * seq * dim, seed));
        let tensor = |at: usize| Tensor::from_f32(&parts[at], &[batch, heads, seq, dim], &device);
        let projected = Projected { query: tensor(0)?, key: tensor(1)?, value: tensor(2)? };

        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let mut expected = Vec::new();
        for query in 0..batch * heads * seq {
            let (first, at) = (query / seq * seq, query % seq);
            let asked = &parts[0][query * dim..][..dim];
            let score = |key: usize| {
                let row = at / side + side - 1 - key / side;
                let column = at % side + side - 1 - key % side;
                dot(asked, &parts[1][(first + key) * dim..][..dim]) / (dim as f32).sqrt()
                    + dot(asked, &tables[0][row * dim..][..dim])
                    + dot(asked, &tables[1][column * dim..][..dim])
            };
            let shares: Vec<f32> = (0..seq).map(|key| score(key).exp()).collect();
            let sum: f32 = shares.iter().sum();
            expected.extend((0..dim).map(|i| {
                let told = shares.iter().enumerate().map(|(key, share)| share * parts[2][(first + key) * dim + i]);
                told.sum::<f32>() / sum
            }));
        }
        let mut relative = RelativePositions::load(&Weights::new(map), side, dim)?;
        for scores_at_once in [usize::MAX, 2 * batch * seq * seq, 1] {
            relative.scores_at_once = scores_at_once;
            let found = relative.attend(&projected)?;
            assert_eq!(found.dims(), [batch, heads, seq, dim]);
            let found = pollster::block_on(found.to_f32())?;
            let apart = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{apart} with {scores_at_once} scores at once");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() -> Result<()> {
        let mut map = WeightMap::default();
        map.insert_tensor("rel_pos_h".into(), Tensor::zeros(&[7, 5], &Device::Cpu)?)?;
        let weights = Weights::new(map);
        let message = |side, dim| match RelativePositions::load(&weights, side, dim) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(message(4, 5).contains("rel_pos_w"), "{}", message(4, 5));
        assert!(message(3, 5).contains("rel_pos_h"), "{}", message(3, 5));
        assert!(message(1 << 40, 5).contains("windows of"), "{}", message(1 << 40, 5));
        Ok(())
    }
}

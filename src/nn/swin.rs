//! Swin: a picture transformer whose tokens look at each other within windows, which are shifted from block to block.
//! The trunk of RAM, for one square size, and of Grounding DINO, for pictures of any size.
//!
//! Liu et al. 2021 (arXiv 2103.14030). Tensor names are the original's: `patch_embed.proj`, `layers.N.blocks.N.attn.qkv`,
//! `layers.N.downsample.reduction` and so on; norms of the outputs are the models' own.
//!
//! One picture at a time, as a [`FeatureMap`] of tokens in rows. Rolling a map, padding it, cutting it into windows and
//! the way back are each one selection of rows, whose indices are made once a stage.

use super::{Conv, LayerNorm, Linear, Tap, Weights};
use crate::error::{Error, Result};
use crate::tensor::{Attention, Conv2d, Device, Tensor, Unary};

/// Added to the variance in every layer norm.
pub const EPS: f32 = 1e-5;

/// Side of a patch in pixels.
const PATCH_PX: usize = 4;

/// Added to the scores between parts of a window that come from different sides of the picture.
const ELSEWHERE: f32 = -100.0;

/// Sizes of a Swin.
#[derive(Debug, Clone)]
pub struct Config {
    /// Channels of the first stage; each further stage has twice as many.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage.
    pub heads: Vec<usize>,
    /// Side of a window in tokens.
    pub window: usize,
    /// Side in pixels of the only picture that the trunk takes: windows then shrink to the grid where that is smaller,
    /// and where one window holds the whole grid it is not shifted. `None`: pictures of any size, windows as given.
    pub side_px: Option<usize>,
}

impl Config {
    /// Channels of a stage, from 0.
    pub fn channels(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Window and shift of a stage, in tokens.
    fn window_and_shift(&self, stage: usize) -> (usize, usize) {
        let grid = self.side_px.map(|side| side.div_ceil(PATCH_PX << stage));
        match grid {
            Some(grid) if grid <= self.window => (grid, 0),
            _ => (self.window, self.window / 2),
        }
    }

    fn check(&self) -> Result<()> {
        // Sizes come from a file; their products must not overflow.
        let sane =
            self.embed_dim <= 1 << 16 && self.window <= 1 << 8 && self.side_px.is_none_or(|side| side <= 1 << 13);
        let divided = self
            .heads
            .iter()
            .enumerate()
            .all(|(stage, heads)| *heads > 0 && stage < 16 && self.channels(stage).is_multiple_of(*heads));
        if sane && divided && self.heads.len() == self.depths.len() && self.window > 0 && self.side_px != Some(0) {
            return Ok(());
        }
        Err(Error::shape("swin", format!("sizes that do not go together: {self:?}")))
    }
}

/// Tokens in rows from the top.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    /// `[height · width, channels]`.
    pub tokens: Tensor,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The trunk.
#[derive(Debug)]
pub struct Swin {
    patches: Conv,
    norm: LayerNorm,
    stages: Vec<Stage>,
}

impl Swin {
    /// Loads all stages.
    ///
    /// # Errors
    /// [`Error::Weights`] if a tensor is missing or has another shape; [`Error::Shape`] for sizes that do not go
    /// together.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        config.check()?;
        let patch = weights.pp("patch_embed");
        let options = Conv2d { stride: [PATCH_PX; 2], ..Conv2d::default() };
        let stages = (0..config.depths.len()).map(|stage| Stage::load(config, stage, &weights.pp("layers").pp(stage)));
        Ok(Self {
            patches: Conv::load(&patch.pp("proj"), 3, config.embed_dim, PATCH_PX, options)?,
            norm: LayerNorm::load(&patch.pp("norm"), config.embed_dim, EPS)?,
            stages: stages.collect::<Result<_>>()?,
        })
    }

    /// Runs the trunk on a normalised picture `[1, 3, height, width]`, which is padded with zeros to whole patches.
    ///
    /// `tap` sees `patch_embed`, every `stageN.blockN` and `stageN.downsample`. Returns what every stage makes, before
    /// it is merged for the next: `ceil(height / (4 · 2^stage))` rows.
    ///
    /// # Errors
    /// [`Error::Shape`] if the picture has another form.
    pub fn forward(&self, image: &Tensor, tap: &mut Tap<'_>) -> Result<Vec<FeatureMap>> {
        let mut map = self.embed(image)?;
        tap("patch_embed", &map.tokens);
        let mut maps = Vec::with_capacity(self.stages.len());
        for (index, stage) in self.stages.iter().enumerate() {
            map = stage.forward(&map, &mut |block, tokens| tap(&format!("stage{index}.{block}"), tokens))?;
            maps.push(map.clone());
            if let Some(merging) = &stage.downsample {
                map = merging.forward(&map)?;
                tap(&format!("stage{index}.downsample"), &map.tokens);
            }
        }
        Ok(maps)
    }

    fn embed(&self, image: &Tensor) -> Result<FeatureMap> {
        let [_, _, height, width] = image.dims_of("swin picture")?;
        let missing = |size: usize| size.next_multiple_of(PATCH_PX) - size;
        let padded = image.pad(2, 0, missing(height))?.pad(3, 0, missing(width))?;
        let patches = self.patches.forward(&padded)?;
        let [batch, channels, height, width] = patches.dims_of("swin patches")?;
        if batch != 1 {
            return Err(Error::shape("swin", format!("one picture at a time, found {batch}")));
        }
        let tokens = patches.reshape(&[channels, height * width])?.transpose(0, 1)?; // [height · width, channels]
        Ok(FeatureMap { tokens: self.norm.forward(&tokens)?, height, width })
    }
}

/// Blocks of one size.
#[derive(Debug)]
struct Stage {
    window: usize,
    shift: usize,
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
}

impl Stage {
    fn load(config: &Config, stage: usize, weights: &Weights) -> Result<Self> {
        let (window, shift) = config.window_and_shift(stage);
        let (dim, heads) = (config.channels(stage), config.heads[stage]);
        let block = |index: usize| Block::load(dim, heads, window, &weights.pp("blocks").pp(index));
        let is_last = stage + 1 == config.depths.len();
        let merging = || PatchMerging::load(dim, &weights.pp("downsample"));
        Ok(Self {
            window,
            shift,
            blocks: (0..config.depths[stage]).map(block).collect::<Result<_>>()?,
            downsample: (!is_last).then(merging).transpose()?,
        })
    }

    fn forward(&self, map: &FeatureMap, tap: &mut Tap<'_>) -> Result<FeatureMap> {
        let device = map.tokens.device();
        let size = [map.height, map.width];
        let still = Windows::new(size, self.window, 0, &device)?;
        // Every second block is shifted.
        let shifted = if self.shift > 0 && self.blocks.len() > 1 {
            Some(Windows::new(size, self.window, self.shift, &device)?)
        } else {
            None
        };
        let mut tokens = map.tokens.clone();
        for (index, block) in self.blocks.iter().enumerate() {
            let windows = shifted.as_ref().filter(|_| index % 2 == 1).unwrap_or(&still);
            tokens = block.forward(&tokens, windows)?;
            tap(&format!("block{index}"), &tokens);
        }
        Ok(FeatureMap { tokens, ..*map })
    }
}

/// How a map falls into windows.
#[derive(Debug)]
struct Windows {
    count: usize,
    /// Tokens of a window.
    size: usize,
    /// Whether some places of the windows lie beside the map.
    padded: bool,
    /// Where each place of the windows comes from; the place behind the last stands for padding.
    gather: Tensor,
    /// Where each token lies in the windows.
    scatter: Tensor,
    /// For a pair of places of a window, the row of the table of relative positions: `[size · size]`.
    relative: Tensor,
    /// Added to scores, `[count, 1, size, size]`.
    mask: Option<Tensor>,
}

impl Windows {
    /// Windows of `window` × `window` over a map whose tokens were moved up and left by `shift`, around its edges.
    fn new([height, width]: [usize; 2], window: usize, shift: usize, device: &Device) -> Result<Self> {
        let [rows, columns] = [height, width].map(|side| side.next_multiple_of(window));
        let (size, count) = (window * window, rows * columns / (window * window));
        let across = columns / window;
        let (mut gather, mut regions) = (Vec::with_capacity(rows * columns), Vec::with_capacity(rows * columns));
        for place in 0..rows * columns {
            let (at, within) = (place / size, place % size);
            let y = at / across * window + within / window;
            let x = at % across * window + within % window;
            let (from_y, from_x) = ((y + shift) % rows, (x + shift) % columns);
            let inside = from_y < height && from_x < width;
            gather.push(if inside { from_y * width + from_x } else { height * width } as u32);
            regions.push(3 * region(y, rows, window, shift) + region(x, columns, window, shift));
        }
        let mut scatter = vec![0; height * width];
        for (place, token) in gather.iter().enumerate() {
            if let Some(slot) = scatter.get_mut(*token as usize) {
                *slot = place as u32;
            }
        }
        Ok(Self {
            count,
            size,
            padded: rows * columns != height * width,
            gather: Tensor::from_u32(&gather, &[gather.len()], device)?,
            scatter: Tensor::from_u32(&scatter, &[scatter.len()], device)?,
            relative: relative_positions(window, device)?,
            mask: if shift > 0 { Some(region_mask(&regions, size, device)?) } else { None },
        })
    }

    /// `[tokens, channels]` to `[count · size, channels]`. Padding is zeros.
    fn split(&self, tokens: &Tensor) -> Result<Tensor> {
        let padded = if self.padded { tokens.pad(0, 0, 1)? } else { tokens.clone() };
        padded.index_select(0, &self.gather)
    }

    /// The way back, which drops the padding.
    fn join(&self, windows: &Tensor) -> Result<Tensor> {
        windows.index_select(0, &self.scatter)
    }
}

/// Which of three strips a place of a shifted map belongs to: whole windows, the rest up to the old edge, and what came
/// around it.
fn region(place: usize, side: usize, window: usize, shift: usize) -> usize {
    usize::from(place + window >= side) + usize::from(place + shift >= side)
}

fn region_mask(regions: &[usize], size: usize, device: &Device) -> Result<Tensor> {
    let mut mask = Vec::with_capacity(regions.len() * size);
    for window in regions.chunks_exact(size) {
        for own in window {
            mask.extend(window.iter().map(|other| if own == other { 0.0 } else { ELSEWHERE }));
        }
    }
    Tensor::from_f32(&mask, &[regions.len() / size, 1, size, size], device)
}

/// `(dy + window − 1) · (2 · window − 1) + dx + window − 1` for each pair of places, query first.
fn relative_positions(window: usize, device: &Device) -> Result<Tensor> {
    let size = window * window;
    let row = |pair: usize| {
        let (query, key) = (pair / size, pair % size);
        let dy = query / window + window - 1 - key / window;
        let dx = query % window + window - 1 - key % window;
        (dy * (2 * window - 1) + dx) as u32
    };
    Tensor::from_u32(&(0..size * size).map(row).collect::<Vec<_>>(), &[size * size], device)
}

/// Attention within windows, then a feed-forward network, each behind its norm and with a residual.
#[derive(Debug)]
struct Block {
    heads: usize,
    norm1: LayerNorm,
    qkv: Linear,
    position_bias: Tensor,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn load(dim: usize, heads: usize, window: usize, weights: &Weights) -> Result<Self> {
        let (attention, mlp) = (weights.pp("attn"), weights.pp("mlp"));
        let positions = (2 * window - 1) * (2 * window - 1);
        Ok(Self {
            heads,
            norm1: LayerNorm::load(&weights.pp("norm1"), dim, EPS)?,
            qkv: Linear::load(&attention.pp("qkv"), dim, 3 * dim)?,
            position_bias: attention.tensor("relative_position_bias_table", &[positions, heads])?,
            proj: Linear::load(&attention.pp("proj"), dim, dim)?,
            norm2: LayerNorm::load(&weights.pp("norm2"), dim, EPS)?,
            fc1: Linear::load(&mlp.pp("fc1"), dim, 4 * dim)?,
            fc2: Linear::load(&mlp.pp("fc2"), 4 * dim, dim)?,
        })
    }

    fn forward(&self, tokens: &Tensor, windows: &Windows) -> Result<Tensor> {
        // Padding comes after the norm, and padded places are keys like any other.
        let attended = self.attend(&windows.split(&self.norm1.forward(tokens)?)?, windows)?;
        let x = tokens.add(&windows.join(&attended)?)?;
        let widened = self.fc1.forward_with(&self.norm2.forward(&x)?, Unary::Gelu)?;
        x.add(&self.fc2.forward(&widened)?)
    }

    /// `[count · size, dim]` to the same.
    fn attend(&self, x: &Tensor, windows: &Windows) -> Result<Tensor> {
        let [places, dim] = x.dims_of("swin windows")?;
        let (count, size, heads) = (windows.count, windows.size, self.heads);
        let qkv = self.qkv.forward(x)?.reshape(&[count, size, 3, heads, dim / heads])?;
        let qkv = qkv.permute(&[2, 0, 3, 1, 4])?; // [3, count, heads, size, head_dim]
        let part = |index: usize| qkv.narrow(0, index, 1)?.reshape(&[count, heads, size, dim / heads]);
        let bias = self.position_bias.index_select(0, &windows.relative)?.transpose(0, 1)?; // [heads, size · size]
        let bias = bias.reshape(&[1, heads, size, size])?;
        let mask = windows.mask.as_ref().map_or(Ok(bias.clone()), |mask| mask.add(&bias))?;
        let scale = ((dim / heads) as f32).powf(-0.5);
        let options = Attention { scale, key_count: size, causal_start: None, mask: Some(&mask) };
        let attended = part(0)?.attention(&part(1)?, &part(2)?, &options)?;
        self.proj.forward(&attended.transpose(1, 2)?.reshape(&[places, dim])?) // [count · size, dim]
    }
}

/// Four neighbouring tokens become one of twice the channels.
#[derive(Debug)]
struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    fn load(dim: usize, weights: &Weights) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::load(&weights.pp("norm"), 4 * dim, EPS)?,
            reduction: Linear::load_without_bias(&weights.pp("reduction"), 4 * dim, 2 * dim)?,
        })
    }

    fn forward(&self, map: &FeatureMap) -> Result<FeatureMap> {
        let [_, dim] = map.tokens.dims_of("swin tokens")?;
        let [height, width] = [map.height.div_ceil(2), map.width.div_ceil(2)];
        let mut ids = Vec::with_capacity(4 * height * width);
        for place in 0..height * width {
            let (y, x) = (place / width * 2, place % width * 2);
            // Down before across; a side of odd size is padded with zeros, which stand behind the last token.
            for (y, x) in [(y, x), (y + 1, x), (y, x + 1), (y + 1, x + 1)] {
                let inside = y < map.height && x < map.width;
                ids.push(if inside { y * map.width + x } else { map.height * map.width } as u32);
            }
        }
        let ids = Tensor::from_u32(&ids, &[ids.len()], &map.tokens.device())?;
        let neighbours = map.tokens.pad(0, 0, 1)?.index_select(0, &ids)?;
        let merged = neighbours.reshape(&[height * width, 4 * dim])?; // [height · width, 4 · dim]
        Ok(FeatureMap { tokens: self.reduction.forward(&self.norm.forward(&merged)?)?, height, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_every_token_once_and_come_back() -> Result<()> {
        for (size, window, shift) in [([4, 6], 2, 1), ([5, 7], 3, 1), ([1, 1], 7, 3), ([8, 3], 4, 2), ([5, 5], 5, 0)] {
            let numbers: Vec<f32> = (0..size[0] * size[1]).map(|i| i as f32 + 1.0).collect();
            let tokens = Tensor::from_f32(&numbers, &[numbers.len(), 1], &Device::Cpu)?;
            let windows = Windows::new(size, window, shift, &Device::Cpu)?;
            let split = windows.split(&tokens)?;
            assert_eq!(split.dims(), [windows.count * windows.size, 1]);
            let mut held: Vec<f32> = pollster::block_on(split.to_f32())?.into_iter().filter(|x| *x > 0.0).collect();
            held.sort_by(f32::total_cmp);
            assert_eq!(held, numbers, "{size:?}");
            assert_eq!(pollster::block_on(windows.join(&split)?.to_f32())?, numbers, "{size:?}");
        }
        Ok(())
    }

    #[test]
    fn shifted_windows_part_what_was_not_together() {
        // Side 6, window 3, shift 1: places 0..3 whole windows, 3 and 4 the rest, 5 from around the edge.
        let strips: Vec<usize> = (0..6).map(|place| region(place, 6, 3, 1)).collect();
        assert_eq!(strips, [0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn windows_shrink_to_the_grid() {
        let config = |side_px| Config { embed_dim: 8, depths: vec![2; 4], heads: vec![2; 4], window: 6, side_px };
        let fixed: Vec<_> = (0..4).map(|stage| config(Some(96)).window_and_shift(stage)).collect();
        assert_eq!(fixed, [(6, 3), (6, 3), (6, 0), (3, 0)]);
        assert_eq!(config(None).window_and_shift(3), (6, 3));
    }
}

//! Products of f32 matrices in register tiles of 4 × 16.
//!
//! The left matrix is packed to panels of four rows, the right one to panels of sixteen columns, both with the inner
//! axis outermost, so a tile reads two streams from front to back.

use super::for_each_piece;
use super::simd::{Simd, Task, dispatch};

/// Rows of a tile.
pub(crate) const ROWS: usize = 4;
/// Columns of a tile.
pub(crate) const COLUMNS: usize = 16;

/// Sixteen numbers of a packed column panel.
pub(crate) type Columns = [[f32; 8]; 2];

/// What is done to a sum before it is stored, beside the bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Finish {
    /// Nothing.
    None,
    /// `min(max(x, low), high)`.
    Clamp(f32, f32),
    /// `x` if positive, else `slope · x`.
    Leaky(f32),
}

impl Finish {
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, x: S::F) -> S::F {
        match self {
            Finish::None => x,
            Finish::Clamp(low, high) => simd.min(simd.splat(high), simd.max(simd.splat(low), x)),
            Finish::Leaky(slope) => {
                let zero = simd.splat(0.0);
                simd.mul_add(simd.min(zero, x), simd.splat(slope), simd.max(zero, x))
            }
        }
    }
}

impl Finish {
    /// For what is left over from vectors.
    pub(crate) fn apply_one(self, x: f32) -> f32 {
        match self {
            Finish::None => x,
            // Not `clamp`, which loses what is not a number and panics on an empty range.
            Finish::Clamp(low, high) => {
                let x = if low > x { low } else { x };
                if high < x { high } else { x }
            }
            Finish::Leaky(slope) => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
        }
    }
}

/// A row-major matrix `[rows, depth]` in panels of four rows: `[rows / 4, depth, 4]`, the last filled up with zeros.
#[derive(Debug, Clone)]
pub(crate) struct PackedRows {
    pub(crate) depth: usize,
    values: Vec<[f32; ROWS]>,
}

impl PackedRows {
    pub(crate) fn new(matrix: &[f32], rows: usize, depth: usize) -> Self {
        let mut values = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * depth];
        for (row, numbers) in matrix.chunks_exact(depth.max(1)).take(rows).enumerate() {
            let panel = &mut values[row / ROWS * depth..][..depth];
            for (target, number) in panel.iter_mut().zip(numbers) {
                target[row % ROWS] = *number;
            }
        }
        Self { depth, values }
    }

    /// One row, unpacked.
    pub(crate) fn row(&self, row: usize) -> impl Iterator<Item = f32> + '_ {
        self.panel(row / ROWS).iter().map(move |numbers| numbers[row % ROWS])
    }

    /// Four rows.
    #[inline(always)]
    pub(crate) fn panel(&self, index: usize) -> &[[f32; ROWS]] {
        &self.values[index * self.depth..(index + 1) * self.depth]
    }
}

/// The transpose of a row-major matrix `[rows, depth]` in panels of sixteen columns: `[rows / 16, depth, 16]`; right
/// operand of `x · matrixᵀ`.
#[derive(Debug, Clone)]
pub(crate) struct PackedColumns {
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    values: Vec<Columns>,
}

impl PackedColumns {
    /// Packs `matrix` `[rows, depth]` or, if not `transposed`, `[depth, rows]`.
    pub(crate) fn new(matrix: &[f32], rows: usize, depth: usize, transposed: bool) -> Self {
        let mut values = vec![[[0.0; 8]; 2]; rows.div_ceil(COLUMNS) * depth];
        for (index, panel) in values.chunks_exact_mut(depth.max(1)).enumerate() {
            let first = index * COLUMNS;
            let count = COLUMNS.min(rows - first);
            if transposed {
                for lane in 0..count {
                    let numbers = &matrix[(first + lane) * depth..][..depth];
                    for (target, number) in panel.iter_mut().zip(numbers) {
                        target[lane / 8][lane % 8] = *number;
                    }
                }
            } else {
                for (k, target) in panel.iter_mut().enumerate() {
                    target.as_flattened_mut()[..count].copy_from_slice(&matrix[k * rows + first..][..count]);
                }
            }
        }
        Self { rows, depth, values }
    }

    /// `x` `[count, depth]` times the packed matrix, plus `bias` `[rows]`: `out` `[count, rows]`.
    pub(crate) fn multiply(&self, x: &[f32], bias: Option<&[f32]>, finish: Finish, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let count = out.len() / self.rows;
        let multiplications = out.len() * self.depth;
        if count == 1 {
            let panels = self.rows.div_ceil(COLUMNS).div_ceil(super::threads());
            for_each_piece(out, panels * COLUMNS, multiplications, |index, out| {
                dispatch(MatvecTask { matrix: self, x, bias, finish, first: index * panels, out });
            });
            return;
        }
        let piece = count.div_ceil(super::threads()).next_multiple_of(ROWS);
        for_each_piece(out, piece * self.rows, multiplications, |index, out| {
            let count = out.len() / self.rows;
            let left = PackedRows::new(&x[index * piece * self.depth..][..count * self.depth], count, self.depth);
            dispatch(MultiplyTask { matrix: self, left: &left, count, bias, finish, out });
        });
    }
}

/// Four rows times sixteen columns.
#[inline(always)]
pub(crate) fn tile<S: Simd>(simd: S, rows: &[[f32; ROWS]], columns: &[Columns], out: &mut [Columns; ROWS]) {
    if S::TILE.1 == 2 {
        tile_of::<S, 2>(simd, rows, columns, 0, out);
    } else {
        // Sixteen columns of four rows would not fit into the registers.
        tile_of::<S, 1>(simd, rows, columns, 0, out);
        tile_of::<S, 1>(simd, rows, columns, 1, out);
    }
}

#[inline(always)]
fn tile_of<S: Simd, const N: usize>(
    simd: S,
    rows: &[[f32; ROWS]],
    columns: &[Columns],
    half: usize,
    out: &mut [Columns; ROWS],
) {
    let mut sums = [[simd.splat(0.0); N]; ROWS];
    for (a, b) in rows.iter().zip(columns) {
        let mut vectors = [simd.load(&b[half]); N];
        for n in 1..N {
            vectors[n] = simd.load(&b[n]);
        }
        for row in 0..ROWS {
            let factor = simd.splat(a[row]);
            for n in 0..N {
                sums[row][n] = simd.mul_add(factor, vectors[n], sums[row][n]);
            }
        }
    }
    for row in 0..ROWS {
        for n in 0..N {
            simd.store(sums[row][n], &mut out[row][half + n]);
        }
    }
}

struct MultiplyTask<'a> {
    matrix: &'a PackedColumns,
    left: &'a PackedRows,
    count: usize,
    bias: Option<&'a [f32]>,
    finish: Finish,
    out: &'a mut [f32],
}

impl Task for MultiplyTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (width, depth) = (self.matrix.rows, self.matrix.depth);
        for panel in 0..width.div_ceil(COLUMNS) {
            let columns = &self.matrix.values[panel * depth..(panel + 1) * depth];
            let first = panel * COLUMNS;
            let len = COLUMNS.min(width - first);
            let bias = bias_columns(self.bias, first, len);
            for at in (0..self.count).step_by(ROWS) {
                let mut sums = [[[0.0; 8]; 2]; ROWS];
                tile(simd, self.left.panel(at / ROWS), columns, &mut sums);
                for row in 0..ROWS.min(self.count - at) {
                    for half in 0..2 {
                        let sum = simd.add(simd.load(&sums[row][half]), simd.load(&bias[half]));
                        simd.store(self.finish.apply(simd, sum), &mut sums[row][half]);
                    }
                    let target = &mut self.out[(at + row) * width + first..][..len];
                    target.copy_from_slice(&sums[row].as_flattened()[..len]);
                }
            }
        }
    }
}

#[inline(always)]
fn bias_columns(bias: Option<&[f32]>, first: usize, len: usize) -> Columns {
    let mut columns = [[0.0; 8]; 2];
    if let Some(bias) = bias {
        columns.as_flattened_mut()[..len].copy_from_slice(&bias[first..first + len]);
    }
    columns
}

/// One row times the matrix, from panel `first` on.
struct MatvecTask<'a> {
    matrix: &'a PackedColumns,
    x: &'a [f32],
    bias: Option<&'a [f32]>,
    finish: Finish,
    first: usize,
    out: &'a mut [f32],
}

impl Task for MatvecTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let depth = self.matrix.depth;
        for (index, out) in self.out.chunks_mut(COLUMNS).enumerate() {
            let panel = self.first + index;
            let columns = &self.matrix.values[panel * depth..(panel + 1) * depth];
            let bias = bias_columns(self.bias, panel * COLUMNS, out.len());
            let mut sums = [simd.load(&bias[0]), simd.load(&bias[1])];
            for (x, b) in self.x.iter().zip(columns) {
                let x = simd.splat(*x);
                sums[0] = simd.mul_add(x, simd.load(&b[0]), sums[0]);
                sums[1] = simd.mul_add(x, simd.load(&b[1]), sums[1]);
            }
            let mut numbers = [[0.0; 8]; 2];
            for half in 0..2 {
                simd.store(self.finish.apply(simd, sums[half]), &mut numbers[half]);
            }
            out.copy_from_slice(&numbers.as_flattened()[..out.len()]);
        }
    }
}

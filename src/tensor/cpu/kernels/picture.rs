//! Pooling and resampling of planes `[height, width]`.

/// Windows of a pooling along one axis: first place and number of places inside the picture.
pub(crate) fn windows(size: usize, outputs: usize, kernel: usize, stride: usize, before: usize) -> Vec<(usize, usize)> {
    let window = |at: usize| {
        let start = (at * stride).saturating_sub(before);
        (start, (at * stride + kernel).saturating_sub(before).min(size).saturating_sub(start))
    };
    (0..outputs).map(window).collect()
}

/// Largest number of each window, or the mean; a window outside the picture gives −∞ or not a number.
pub(crate) fn pool(
    plane: &[f32],
    width: usize,
    rows: &[(usize, usize)],
    columns: &[(usize, usize)],
    mean: bool,
    out: &mut [f32],
) {
    for (out, (top, height)) in out.chunks_exact_mut(columns.len().max(1)).zip(rows) {
        for (out, (left, count)) in out.iter_mut().zip(columns) {
            let mut result = if mean { 0.0 } else { f32::NEG_INFINITY };
            for y in *top..top + height {
                for x in &plane[y * width + left..y * width + left + count] {
                    if mean {
                        result += x;
                    } else {
                        result = result.max(*x);
                    }
                }
            }
            *out = if mean { result / (height * count) as f32 } else { result };
        }
    }
}

/// Where one output along an axis reads: two places and the weight of the second.
pub(crate) type Blend = (usize, usize, f32);

/// Half-pixel centres, or corners kept in place.
pub(crate) fn blends(from: usize, to: usize, align_corners: bool) -> Vec<Blend> {
    let blend = |at: usize| {
        let place = if align_corners {
            if to > 1 { at as f32 * ((from - 1) as f32 / (to - 1) as f32) } else { 0.0 }
        } else {
            ((at as f32 + 0.5) * (from as f32 / to as f32) - 0.5).max(0.0)
        };
        let first = (place as usize).min(from - 1);
        (first, (first + 1).min(from - 1), (place - first as f32).clamp(0.0, 1.0))
    };
    (0..to).map(blend).collect()
}

/// Blends rows, then columns.
pub(crate) fn resize(plane: &[f32], width: usize, rows: &[Blend], columns: &[Blend], out: &mut [f32]) {
    let mut row = vec![0.0; width];
    for (out, (first, second, share)) in out.chunks_exact_mut(columns.len()).zip(rows) {
        let (a, b) = (&plane[first * width..][..width], &plane[second * width..][..width]);
        for ((row, a), b) in row.iter_mut().zip(a).zip(b) {
            *row = a + (b - a) * share;
        }
        for (out, (first, second, share)) in out.iter_mut().zip(columns) {
            *out = row[*first] + (row[*second] - row[*first]) * share;
        }
    }
}

/// Nearest numbers; `floor(x · from / to)`.
pub(crate) fn resize_nearest(plane: &[f32], size: [usize; 2], to: [usize; 2], out: &mut [f32]) {
    for (y, out) in out.chunks_exact_mut(to[1]).enumerate() {
        let row = &plane[y * size[0] / to[0] * size[1]..][..size[1]];
        for (x, out) in out.iter_mut().enumerate() {
            *out = row[x * size[1] / to[1]];
        }
    }
}

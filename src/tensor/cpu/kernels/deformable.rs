//! Multi-scale deformable attention.

/// The values of a feature pyramid, `[seq, heads, dim]`, and where each level begins.
pub(crate) struct Pyramid<'a> {
    pub(crate) values: &'a [f32],
    /// Rows, columns and first place of each level.
    pub(crate) levels: &'a [[usize; 3]],
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    /// Places that a head reads in each level.
    pub(crate) points: usize,
}

impl Pyramid<'_> {
    /// What one query reads: `locations` `[heads, levels, points, 2]`, `shares` `[heads, levels, points]`; into `out`
    /// `[heads, dim]`.
    pub(crate) fn read(&self, locations: &[f32], shares: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        let a_head = self.levels.len() * self.points;
        for (head, out) in out.chunks_exact_mut(self.dim.max(1)).enumerate() {
            for (level, size) in self.levels.iter().enumerate() {
                for point in 0..self.points {
                    let at = head * a_head + level * self.points + point;
                    self.add_place(head, *size, [locations[2 * at], locations[2 * at + 1]], shares[at], out);
                }
            }
        }
    }

    /// Adds what lies at a place, 0..1 across the level, blended from four pixels; beside the level all is 0.
    fn add_place(&self, head: usize, level: [usize; 3], [x, y]: [f32; 2], share: f32, out: &mut [f32]) {
        let [rows, columns, first] = level;
        // Two pixels beside the level all is 0, so nothing lies further out.
        let x = (x * columns as f32 - 0.5).clamp(-2.0, columns as f32 + 1.0);
        let y = (y * rows as f32 - 0.5).clamp(-2.0, rows as f32 + 1.0);
        let (left, top) = (x.floor(), y.floor());
        let (across, down) = (x - left, y - top);
        let taps = [
            (0, 0, (1.0 - down) * (1.0 - across)),
            (0, 1, (1.0 - down) * across),
            (1, 0, down * (1.0 - across)),
            (1, 1, down * across),
        ];
        for (below, beside, weight) in taps {
            let (row, column) = (top as i64 + below, left as i64 + beside);
            if row < 0 || column < 0 || row >= rows as i64 || column >= columns as i64 {
                continue;
            }
            let place = first + row as usize * columns + column as usize;
            let value = &self.values[(place * self.heads + head) * self.dim..][..self.dim];
            for (out, value) in out.iter_mut().zip(value) {
                *out += share * weight * value;
            }
        }
    }
}

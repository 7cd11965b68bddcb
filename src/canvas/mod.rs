//! What to paint, as data: outlines, colours, run-length masks, and what lies under a pixel. The page draws it; for the
//! command line there is a painter of its own.

mod export;
mod hit_test;
mod outline;
mod overlay;
mod painter;
mod palette;
mod rle;

pub use export::{Export, ExportedSound, ExportedThing};
pub use hit_test::thing_at;
pub use outline::{Outline, outlines};
pub use overlay::{Layer, Look, Overlay};
pub use painter::paint;
pub use palette::{Color, PALETTE, Palette, USED_COLORS};
pub use rle::Rle;

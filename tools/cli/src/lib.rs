//! What the `bubo` command is made of: converting checkpoints to bundles, looking into files, checking against goldens.
//!
//! Never shipped to a browser and never imported by the library.

pub mod bench;
pub mod bundle;
pub mod command;
pub mod convert;
pub mod eval;
pub mod eval_taught;
pub mod golden;
pub mod host;
pub mod inspect;
pub mod part;
pub mod plan;
pub mod run;
pub mod stages;
pub mod synth;
pub mod teach;
pub mod train;

//! Bubo: a grounded multimodal language model that runs where its user is.
//!
//! A person shows a picture, plays a sound, asks a question; the answer comes in words, and every thing that it names is
//! outlined in the picture. The modules stand in the order in which data flows, and each imports only from those above
//! it: reading this list from top to bottom is reading the program.

pub mod error;

pub mod host;

pub mod bundle;

pub mod media;

pub mod tensor;

pub mod nn;

pub mod encoders;

pub mod language;

pub mod grounding;

pub mod canvas;

pub mod session;

#[cfg(target_arch = "wasm32")]
pub mod web;

pub use error::{Error, Result};

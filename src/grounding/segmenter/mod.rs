//! Outliners. One file a model.

pub mod u2net;

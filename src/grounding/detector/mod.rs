//! Finders of things. One file a model.

pub mod nanodet;

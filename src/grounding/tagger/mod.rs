//! Namers of what is in a picture. One file a model.

pub mod imagenet;

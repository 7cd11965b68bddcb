//! Bubo.

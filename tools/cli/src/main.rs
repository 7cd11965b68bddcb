//! bubo
fn main() {}

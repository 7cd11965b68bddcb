//! `cargo run --release -p kernel-bench [-- FILTER]` prints medians.

fn main() {
    let start = std::time::Instant::now();
    let filter = std::env::args().nth(1).unwrap_or_default();
    kernel_bench::run_all(&filter, &|| start.elapsed().as_secs_f64() * 1e3, &|line| println!("{line}"));
}

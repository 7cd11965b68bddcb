//! The door for `run.mjs`: two functions in, two out.
#![allow(unsafe_code, reason = "plain WebAssembly imports and exports, without wasm-bindgen")]

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    safe fn now_ms() -> f64;
    fn print(text: *const u8, length: usize);
}

/// Room for the filter's text.
#[unsafe(no_mangle)]
pub extern "C" fn allocate(length: usize) -> *mut u8 {
    vec![0u8; length].leak().as_mut_ptr()
}

/// Runs the benchmarks whose names contain the text at that place.
///
/// # Safety
/// `filter` must come from [`allocate`] with the same length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn run(filter: *const u8, length: usize) {
    // SAFETY: the caller wrote that many bytes there.
    let filter = unsafe { core::slice::from_raw_parts(filter, length) };
    let filter = core::str::from_utf8(filter).unwrap_or_default();
    // SAFETY: the host reads the text before it returns.
    super::run_all(filter, &|| now_ms(), &|line| unsafe { print(line.as_ptr(), line.len()) });
}

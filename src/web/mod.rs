//! The browser's side: what JavaScript can call. The only module that names `wasm_bindgen`, `js_sys`, `web_sys`, `gloo`.

use wasm_bindgen::prelude::wasm_bindgen;

/// The version of this build, as in `Cargo.toml`.
#[wasm_bindgen]
#[must_use]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

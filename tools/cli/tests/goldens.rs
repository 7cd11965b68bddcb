//! Every component against the original's outputs, in full on the CPU engine.

use bubo::tensor::Device;
use bubo_cli::golden::{self, Golden};

/// Runs a golden of `tests/golden/` and reports every output that is too far off.
fn check(name: &str) {
    let golden = Golden::open(name).expect("the golden is part of the repository");
    let bundle = std::env::var_os("BUBO_BUNDLE").map(std::path::PathBuf::from);
    let bundle =
        bundle.unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bundles/bubo-mini"));
    let differences = golden::run(&golden, &Device::Cpu, Some(&bundle)).expect("the component runs");
    let failed: Vec<_> = differences.iter().filter(|difference| !difference.passes()).collect();
    assert!(failed.is_empty(), "{name}: {failed:#?}");
}

#[test]
fn llama_with_as_many_key_heads() {
    check("llama_mha");
}

#[test]
fn llama_with_shared_key_heads_and_tied_head() {
    check("llama_gqa");
}

#[test]
fn conversations_and_cleaned_answers() {
    check("text_level");
}

#[test]
fn smollm2_tokens_probabilities_and_greedy_text() {
    check("smollm2");
}

#[test]
fn unknown_component_is_an_error() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    std::fs::write(file.path(), r#"{"component": "no_such_thing"}"#).expect("it is writable");
    let golden = Golden::read(file.path()).expect("it is a golden");
    let error = golden::run(&golden, &Device::Cpu, None).expect_err("nothing of that name exists");
    assert!(error.to_string().contains("no_such_thing"), "{error}");
}

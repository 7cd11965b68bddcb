//! Every component against the original's outputs, in full on the CPU engine.

use bubo::tensor::Device;
use bubo_cli::golden::{self, Golden};

/// Runs a golden of `tests/golden/` and reports every output that is too far off.
#[allow(dead_code, reason = "each component adds its tests")]
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
fn unknown_component_is_an_error() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    std::fs::write(file.path(), r#"{"component": "no_such_thing"}"#).expect("it is writable");
    let golden = Golden::read(file.path()).expect("it is a golden");
    let error = golden::run(&golden, &Device::Cpu, None).expect_err("nothing of that name exists");
    assert!(error.to_string().contains("no_such_thing"), "{error}");
}

#[test]
fn bert_is_the_original() {
    check("bert");
}

#[test]
fn word_pieces_and_captions_are_the_original() {
    check("bert_wordpiece");
}

#[test]
fn sentence_embeddings_are_those_of_onnxruntime() {
    check("minilm");
}

#[test]
fn masks_are_cleaned_as_in_the_original() {
    check("mask_cleanup");
}

#[test]
fn prompts_and_matching_replies_are_the_original() {
    check("text_level");
}

#[test]
fn few_words_are_tied_to_the_wrong_thing() {
    check("matcher_pairs");
}

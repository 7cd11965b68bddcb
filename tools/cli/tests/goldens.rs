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

#[test]
fn qformers_equal_the_original() {
    for name in ["qformer_vision", "qformer_audio", "qformer_hf"] {
        check(name);
    }
}

#[test]
fn ram_is_the_original() {
    check("ram");
}

#[test]
fn grounding_dino_is_the_original_and_hugging_faces() {
    for name in ["grounding_dino", "grounding_dino_hf"] {
        check(name);
    }
}

#[test]
fn effnet_lite0() {
    for picture in ["astronaut", "chelsea", "coffee"] {
        check(&format!("effnet_lite0_{picture}"));
    }
}

#[test]
fn nanodet() {
    for picture in ["astronaut", "chelsea", "coffee"] {
        check(&format!("nanodet_{picture}"));
    }
}

#[test]
fn nanodet_plus() {
    for picture in ["chelsea", "coffee"] {
        check(&format!("nanodet_plus_{picture}"));
    }
}

#[test]
fn u2netp() {
    for picture in ["astronaut", "chelsea", "coffee"] {
        check(&format!("u2netp_{picture}"));
    }
}

#[test]
fn yamnet() {
    for sound in ["cow", "dog", "sheep"] {
        check(&format!("yamnet_{sound}"));
    }
}

#[test]
fn imagebind_equals_the_original() {
    check("imagebind_audio");
}

#[test]
fn sounds_are_what_the_original_hears() {
    for sound in ["0p7s", "12p7s", "44k_stereo", "5s", "web_int16"] {
        check(&format!("audio_preprocess_{sound}"));
    }
}

#[test]
fn pictures_are_what_the_original_networks_see() {
    for picture in ["astronaut_300x200", "coffee_33x480", "smooth_97x61"] {
        check(&format!("image_preprocess_{picture}"));
    }
}

/// The networks' inputs made from the photographs themselves, not from the golden's small ones.
#[test]
fn photographs_are_resized_as_pillow_does() {
    use bubo::media::{CropPx, Filter, RgbImage, decode::decode_image};
    let view = |kind: &str, image: &RgbImage| match kind {
        "effnet_lite0" => image.resized(CropPx::centre_square(image, 0.875), 224, 224, Filter::Bicubic),
        "nanodet" => image.resized(CropPx::whole(image), 416, 416, Filter::Bilinear),
        _ => image.resized(CropPx::whole(image), 320, 320, Filter::Bilinear),
    };
    for picture in ["astronaut", "chelsea", "coffee"] {
        let path = golden::parts_folder().join("photographs").join(format!("{picture}.png"));
        let file = std::fs::read(&path).expect("`cargo xtask bundle` fetches the photographs");
        let image = decode_image(&file).expect("it is a picture");
        for kind in ["effnet_lite0", "nanodet", "u2netp"] {
            let golden = Golden::open(&format!("{kind}_{picture}")).expect("the golden is part of the repository");
            let expected = golden.u8("in.image_u8").expect("it holds the network's input");
            let found = view(kind, &image).expect("the sizes fit");
            let apart = expected.iter().zip(found.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(expected.len() == found.pixels().len() && apart <= Some(1), "{kind} {picture}: {apart:?}");
        }
    }
}

#[test]
fn eva_vit_is_the_original() {
    check("eva_vit");
    check("blip2_vision_hf");
}

#[test]
fn sam_is_the_original() {
    check("sam");
    check("sam_hf");
}

#[test]
fn mobile_sam_is_the_original() {
    check("mobile_sam");
}

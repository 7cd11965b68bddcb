//! The small models' goldens on the GPU engine, at four times the CPU's tolerance.
//!
//! Needs a Vulkan (or Metal, or DX12) adapter; Mesa's lavapipe will do. `BUBO_SKIP_GPU=1` skips, and says so.

use std::path::{Path, PathBuf};

use bubo::tensor::Device;
use bubo::tensor::gpu::Gpu;
use bubo_cli::golden::{self, Golden};

/// Goldens that bring their weights along.
const GOLDENS: &[&str] = &[
    "bert",
    "llama_gqa",
    "llama_mha",
    "qformer_vision",
    "qformer_audio",
    "qformer_hf",
    "eva_vit",
    "blip2_vision_hf",
    "sam",
    "sam_hf",
    "mobile_sam",
];

/// Goldens whose weights are those of the bundle.
const GOLDENS_OF_THE_BUNDLE: &[&str] =
    &["effnet_lite0_chelsea", "nanodet_plus_chelsea", "u2netp_chelsea", "yamnet_cow", "minilm"];

#[test]
fn models_on_the_gpu_are_the_original() {
    if std::env::var_os("BUBO_SKIP_GPU").is_some_and(|value| value == "1") {
        eprintln!("\n*** BUBO_SKIP_GPU=1: MODELS WERE NOT TESTED ON THE GPU ***\n");
        return;
    }
    let gpu = pollster::block_on(Gpu::open()).expect(
        "GPU tests need an adapter: install mesa-vulkan-drivers (and set VK_ICD_FILENAMES to lvp_icd.*.json), \
         or set BUBO_SKIP_GPU=1 to skip them",
    );
    let device = Device::Gpu(gpu);
    let bundle = std::env::var_os("BUBO_BUNDLE").map(PathBuf::from);
    let bundle = bundle.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bundles/bubo-mini"));
    let mut failed = Vec::new();
    for name in GOLDENS.iter().chain(GOLDENS_OF_THE_BUNDLE) {
        let golden = Golden::open(name).expect("the golden is part of the repository");
        match golden::run(&golden, &device, Some(&bundle)) {
            Ok(differences) => {
                let wrong = differences.into_iter().filter(|difference| !difference.passes());
                failed.extend(wrong.map(|difference| format!("{name}: {difference:?}")));
            }
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

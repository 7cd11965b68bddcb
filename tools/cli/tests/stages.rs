//! Each network of the paper's system alone, on both engines, with random weights.

use std::cell::RefCell;
use std::path::Path;

use bubo::bundle::Scheme;
use bubo::media::RgbImage;
use bubo::session::stages::{STAGES, StageOptions, StageReport};
use bubo::tensor::Device;
use bubo::tensor::gpu::Gpu;
use bubo_cli::host::CommandLine;
use bubo_cli::run::open_session;
use bubo_cli::stages::drawn_sound;
use bubo_cli::synth::{Request, synth};

fn tiny(segmenter: &str, folder: &Path) {
    let segmenter = segmenter.to_owned();
    let request =
        Request { segmenter, parts: Vec::new(), layers: None, tiny: true, scheme: Some(Scheme::Q4_0), seed: 1 };
    synth(&request, folder, &mut |_| {}).expect("it asks for what exists");
}

fn run(folder: &Path, device: Device, options: &StageOptions) -> bubo::Result<Vec<StageReport>> {
    let session = pollster::block_on(open_session(folder, device)).expect("it loads");
    // A strip, since the detector brings the shorter side up to 800 pixels where the longer one allows it.
    let pixels = (0..400 * 24 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let image = RgbImage::new(400, 24, pixels).expect("the sizes fit");
    let sound = drawn_sound().expect("a sound");
    let reports = RefCell::new(Vec::new());
    let tell = |report: &StageReport| reports.borrow_mut().push(report.clone());
    let host = CommandLine::default();
    pollster::block_on(session.run_stages(options, Some(&image), Some(&sound), &host, &tell))?;
    Ok(reports.into_inner())
}

#[test]
fn every_stage_runs_alone_and_both_engines_agree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for segmenter in ["mobile_sam", "sam_vit_b"] {
        tiny(segmenter, folder.path());
        let expected = run(folder.path(), Device::Cpu, &StageOptions::default()).expect("all run");
        assert_eq!(expected.iter().map(|report| report.stage).collect::<Vec<_>>(), STAGES);
        for report in &expected {
            assert!(report.gpu.is_none() && !report.outputs.is_empty(), "{report:?}");
            for output in &report.outputs {
                assert!(output.finite && output.rms > 0.0 && !output.sample.is_empty(), "{output:?}");
            }
        }
        let language = expected.last().expect("the last stage");
        let spoken = language.spoken.as_ref().expect("it speaks");
        assert!(spoken.prompt_tokens > 64, "two modalities of 32 positions each and words: {spoken:?}");
        assert_eq!(spoken.token_ids.len(), 4);

        let Ok(gpu) = pollster::block_on(Gpu::open()) else {
            eprintln!("SKIPPED: there is no graphics adapter");
            return;
        };
        let found = run(folder.path(), Device::Gpu(gpu), &StageOptions::default()).expect("all run");
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.gpu.is_some_and(|gpu| gpu.dispatches > 0 && gpu.bytes_in_use > 0), "{found:?}");
            assert_eq!(found.outputs.len(), expected.outputs.len(), "{}", found.stage);
            // Of the detector's queries those that are equally promising may change places.
            let agreeing = if found.stage == "detector" { 3 } else { 5 };
            for (found, expected) in found.outputs.iter().zip(&expected.outputs) {
                assert_eq!((found.name, &found.dims, found.finite), (expected.name, &expected.dims, true));
                let pairs = found.sample.iter().zip(&expected.sample);
                let close = pairs.filter(|(a, b)| (*a - *b).abs() < 0.02 * expected.rms).count();
                let all = expected.sample.len();
                println!("{segmenter} {}: {close} of {all} numbers agree", found.name);
                assert!(close * 5 >= all * agreeing, "{segmenter} {found:?} {expected:?}");
            }
        }
    }
}

#[test]
fn stages_are_chosen_by_name_and_say_what_they_lack() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny("mobile_sam", folder.path());
    let chosen = |stages: &[&str]| StageOptions {
        stages: stages.iter().map(|stage| (*stage).to_owned()).collect(),
        tokens: 2,
        system: Some(String::new()),
        ..StageOptions::default()
    };
    let reports = run(folder.path(), Device::Cpu, &chosen(&["language", "audio_encoder"])).expect("both run");
    assert_eq!(reports.iter().map(|report| report.stage).collect::<Vec<_>>(), ["audio_encoder", "language"]);
    let spoken = reports[1].spoken.as_ref().expect("it speaks");
    assert_eq!(spoken.token_ids.len(), 2);
    assert!(spoken.prompt_tokens < 64, "no embeddings, no system text: {spoken:?}");
    for (options, wanted) in [
        (chosen(&["nose"]), "known are tagger"),
        (chosen(&["image_qformer"]), "what its encoder makes"),
        (StageOptions { box_px: Some([9.0, 9.0, 9.0, 20.0]), ..chosen(&["segmenter"]) }, "no part in the picture"),
        (StageOptions { box_px: Some([f32::NAN; 4]), ..chosen(&["segmenter"]) }, "no part in the picture"),
    ] {
        let error = run(folder.path(), Device::Cpu, &options).expect_err("it cannot run");
        assert_eq!(error.code(), "input");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

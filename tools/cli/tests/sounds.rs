//! A bundle whose sounds go through ImageBind: written, loaded by a session, and listened with.

use std::path::Path;
use std::rc::Rc;

use bubo::Error;
use bubo::encoders::AudioEncoder;
use bubo::encoders::imagebind::{Config, ImageBindAudio};
use bubo::media::Waveform;
use bubo::session::Session;
use bubo::tensor::Device;
use bubo_cli::bundle::BundleWriter;
use bubo_cli::convert::{Licence, Part, PartTensor, StoredTensor};
use bubo_cli::golden::Golden;
use bubo_cli::host::CommandLine;
use bubo_cli::run::open_session;
use pollster::block_on;

/// The golden's small network as the `audio_encoder` part of a bundle, under the name `model`.
fn write(folder: &Path, golden: &Golden, model: &'static str, with: impl Fn(&str) -> bool) {
    let tensor = |name: &str| {
        let (dims, data) = (golden.dims(name).expect("listed").to_vec(), golden.f32(name).expect("numbers"));
        PartTensor::ready(name.replacen("weights", "audio_encoder", 1), StoredTensor::F32 { dims, data })
    };
    let part = Part {
        name: "audio_encoder",
        model,
        config: golden.json()["config"].clone(),
        tensors: golden.names("weights.").filter(|name| with(name)).map(tensor).collect(),
        files: Vec::new(),
        licence: Licence { spdx: "CC0-1.0".into(), source: "a golden".into() },
    };
    let mut writer = BundleWriter::new(folder, "test", "1", "").expect("the folder can be made");
    writer.add(part).expect("the part can be written");
    writer.finish().expect("the manifest is right");
}

fn open(golden: &Golden, model: &'static str, with: impl Fn(&str) -> bool) -> bubo::Result<Session> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), golden, model, with);
    block_on(open_session(folder.path(), Device::Cpu))
        .map_err(|error| error.downcast().expect("an error of the library"))
}

#[test]
fn a_session_listens_through_imagebind() {
    let golden = Golden::open("imagebind_audio").expect("the golden is part of the repository");
    let session = open(&golden, "imagebind", |_| true).expect("it loads");
    assert!(session.can_hear() && !session.can_see());

    let tone = |samples: usize| (0..samples).map(|at| (at as f32 * 0.2).sin() * 0.3).collect();
    for (samples, rate_hz) in [(5_000, 8_000), (300_000, 44_100)] {
        let sound = Waveform::new(tone(samples), rate_hz).expect("a sound");
        let heard = block_on(session.add_audio(&sound, &CommandLine::default(), &|_| {})).expect("it is heard");
        assert!(heard.tags.is_empty(), "ImageBind does not name sounds");

        let weights = golden.weights(&Device::Cpu).expect("the golden's weights");
        let config: Config = golden.config().expect("the golden's sizes");
        let network = ImageBindAudio::load(&config, &weights).expect("it loads");
        let expected = Rc::new(network).encode(&sound).expect("it is heard").tokens;
        assert_eq!(heard.features.tokens.dims(), [1, 229, 36]);
        let read = |tensor: &bubo::tensor::Tensor| block_on(tensor.to_f32()).expect("numbers");
        assert_eq!(read(&heard.features.tokens), read(&expected));
        assert!(read(&expected).iter().all(|x| x.is_finite()));
    }
}

#[test]
fn bundles_that_do_not_fit_are_refused_by_name() {
    let golden = Golden::open("imagebind_audio").expect("the golden is part of the repository");
    let Err(Error::Unsupported(reason)) = open(&golden, "whisper", |_| true).map_err(innermost) else {
        panic!("a model of another name was loaded");
    };
    assert!(reason.contains("whisper") && reason.contains("imagebind"), "{reason}");
    let Err(Error::Weights { name, .. }) =
        open(&golden, "imagebind", |name| !name.ends_with("bias_k")).map_err(innermost)
    else {
        panic!("a network without a tensor was loaded");
    };
    assert!(name.ends_with("attn.bias_k"), "{name}");
}

/// What lies below the places that an error was handed through.
fn innermost(error: Error) -> Error {
    match error {
        Error::Context { source, .. } => innermost(*source),
        other => other,
    }
}

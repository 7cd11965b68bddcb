//! The large tagger and detector from a photograph's pixels to names and boxes, on the goldens' small weights: what is
//! found means nothing, but everything on the way is the real thing.

use bubo::Error;
use bubo::grounding::detector::grounding_dino::{Config, GroundingDinoDetector, captions};
use bubo::grounding::matcher::load_tokenizer;
use bubo::grounding::tagger::ram::{self, GivenTags, RamTagger};
use bubo::grounding::{Detection, Detector, Tagger};
use bubo::media::RgbImage;
use bubo::tensor::Device;
use bubo_cli::convert;
use bubo_cli::golden::{Golden, named_weights, small_tokenizer};

/// Colours that change over the picture, and a bright square in it.
fn picture(width: usize, height: usize) -> RgbImage {
    let pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        let bright = x * 3 / width == 1 && y * 3 / height == 1;
        [(x * 255 / width) as u8, (y * 255 / height) as u8, if bright { 250 } else { 20 }]
    };
    RgbImage::new(width, height, (0..width * height).flat_map(pixel).collect()).expect("a picture")
}

fn phrases(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The golden's detector with thresholds at which some boxes pass, with these changes.
fn detector(change: impl Fn(&mut Config)) -> GroundingDinoDetector {
    let golden = Golden::open("grounding_dino").expect("the golden is part of the repository");
    let mut config: Config = golden.config().expect("a configuration");
    (config.box_threshold, config.text_threshold) = (0.9, 0.8);
    change(&mut config);
    let weights = named_weights(&golden, &Device::Cpu, convert::grounding_dino::original).expect("weights");
    let tokenizer = small_tokenizer(&golden.json()["config"]["vocab"]).expect("a tokenizer");
    GroundingDinoDetector::load(&config, &weights, &tokenizer).expect("a detector")
}

fn detect(detector: &GroundingDinoDetector, image: &RgbImage, words: &[&str]) -> Vec<Detection> {
    pollster::block_on(detector.detect(image, &phrases(words))).expect("the detector runs")
}

#[test]
fn detections_name_single_phrases_and_stay_in_the_picture() {
    let image = picture(64, 48);
    let words = ["cat", "red dog", "a person riding bicycle", "grass"];
    let found = detect(&detector(|_| ()), &image, &words);
    assert!(!found.is_empty());
    for (at, detection) in found.iter().enumerate() {
        let phrase = words.iter().find(|phrase| {
            let part = |word: &str| phrase.split(' ').any(|whole| whole.starts_with(word));
            detection.label.split(' ').all(part)
        });
        assert!(phrase.is_some() && !detection.label.is_empty(), "{detection:?}");
        let b = detection.box_px;
        assert!(b.x0 >= 0.0 && b.y0 >= 0.0 && b.x1 <= 64.0 && b.y1 <= 48.0 && b.area() > 0.0, "{detection:?}");
        assert!(found[..at].iter().all(|surer| surer.score >= detection.score && surer.box_px.iou(&b) <= 0.5));
    }
    let all = detect(&detector(|config| config.nms_iou = None), &image, &words);
    assert!(all.len() > found.len(), "{} boxes, {} after suppression", all.len(), found.len());
}

#[test]
fn the_original_setting_keeps_what_the_original_finds() {
    let image = picture(64, 48);
    let original = detector(|config| {
        config.original = true;
        (config.box_threshold, config.text_threshold) = (0.0, 0.0);
    });
    let found = detect(&original, &image, &["cat", "red dog"]);
    assert_eq!(found.len(), 20, "every query is a box");
    // The last separator counts, the comma is a word, the full stop is not.
    assert!(found.iter().all(|detection| detection.label == "cat, red dog [SEP]"), "{:?}", found[0]);
}

#[test]
fn many_phrases_are_asked_for_in_several_captions() {
    let golden = Golden::open("grounding_dino").expect("the golden is part of the repository");
    let json = small_tokenizer(&golden.json()["config"]["vocab"]).expect("a tokenizer");
    let tokenizer = load_tokenizer(&json, None).expect("a tokenizer");
    let words: Vec<String> =
        ["red dog", "a person riding bicycle", "cat"].repeat(40).iter().map(|w| (*w).into()).collect();
    let several = captions(&words, false, &tokenizer).expect("captions");
    // Three, six and two tokens with the full stop: 440 tokens, of which 254 fit between the outer two.
    assert_eq!(several.iter().map(|caption| caption.ids.len()).collect::<Vec<_>>(), [255, 189]);
    assert_eq!(several.iter().map(|caption| caption.blocks.len()).sum::<usize>(), 120);
    // The original has one, of which it reads the first 256 tokens, as one block.
    let one = captions(&words, true, &tokenizer).expect("a caption");
    assert_eq!((one.len(), one[0].blocks.len(), one[0].token_count()), (1, 1, 256));
    assert!(captions(&[], false, &tokenizer).expect("no captions").is_empty());
}

#[test]
fn nothing_is_found_where_nothing_is_looked_for() {
    assert_eq!(detect(&detector(|_| ()), &picture(8, 8), &["", " "]), []);
}

#[test]
fn a_strip_is_refused_with_advice() {
    let error =
        pollster::block_on(detector(|config| config.num_queries = 20).detect(&picture(3000, 1), &phrases(&["cat"])));
    assert!(matches!(error, Err(Error::Input(_) | Error::Shape { .. })), "{error:?}");
}

#[test]
fn sizes_that_make_no_sense_are_refused() {
    let golden = Golden::open("grounding_dino").expect("the golden is part of the repository");
    let weights = named_weights(&golden, &Device::Cpu, convert::grounding_dino::original).expect("weights");
    let tokenizer = small_tokenizer(&golden.json()["config"]["vocab"]).expect("a tokenizer");
    let changes: [fn(&mut Config); 6] = [
        |config| config.nheads = 0,
        |config| config.num_feature_levels = 40,
        |config| config.hidden_dim = usize::MAX,
        |config| config.enc_n_points = usize::MAX / 2,
        |config| config.swin_depths = vec![1],
        |config| config.swin_window = 0,
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut config: Config = golden.config().expect("a configuration");
        change(&mut config);
        let error = GroundingDinoDetector::load(&config, &weights, &tokenizer).expect_err("not this");
        assert!(matches!(error, Error::Shape { .. } | Error::Weights { .. }), "change {at}: {error}");
    }
}

fn tagger(names: &[u8], thresholds: &[u8]) -> bubo::Result<RamTagger> {
    tagger_that_gives(GivenTags::default(), names, thresholds)
}

fn tagger_that_gives(tags: GivenTags, names: &[u8], thresholds: &[u8]) -> bubo::Result<RamTagger> {
    let golden = Golden::open("ram").expect("the golden is part of the repository");
    let mut config: ram::Config = golden.config().expect("a configuration");
    config.given_tags = tags;
    let weights = named_weights(&golden, &Device::Cpu, convert::ram::original).expect("weights");
    RamTagger::load(&config, &weights, names, thresholds)
}

#[test]
fn tags_come_in_the_order_of_the_list() {
    let names: String = (0..23).map(|at| format!("tag {at}\n")).collect();
    let all = tagger(names.as_bytes(), "0\n".repeat(23).as_bytes()).expect("a tagger");
    let tags = pollster::block_on(all.tag(&picture(31, 77))).expect("the tagger runs");
    let labels: Vec<&str> = tags.iter().map(|tag| tag.label.as_str()).collect();
    assert_eq!(labels, names.lines().collect::<Vec<_>>());
    assert!(tags.iter().all(|tag| tag.score > 0.0 && tag.score < 1.0));
    // Each has its own threshold; one at exactly its score is not beyond it.
    let thresholds: String = tags
        .iter()
        .enumerate()
        .map(|(at, tag)| format!("{}\n", if at % 2 == 0 { tag.score } else { tag.score - 1e-4 }))
        .collect();
    let some = tagger(names.as_bytes(), thresholds.as_bytes()).expect("a tagger");
    let tags = pollster::block_on(some.tag(&picture(31, 77))).expect("the tagger runs");
    assert_eq!(tags.iter().map(|tag| tag.label.clone()).collect::<Vec<_>>(), {
        (0..23).filter(|at| at % 2 == 1).map(|at| format!("tag {at}")).collect::<Vec<_>>()
    });
}

#[test]
fn only_tags_that_name_things_are_given_unless_all_are_wanted() {
    let names: String = (0..23).map(|at| format!("{}\n", ["Dog", "brown", "run", "sky"][at % 4])).collect();
    let labels = |tags: GivenTags| -> Vec<String> {
        let tagger = tagger_that_gives(tags, names.as_bytes(), "0\n".repeat(23).as_bytes()).expect("a tagger");
        let tags = pollster::block_on(tagger.tag(&picture(31, 77))).expect("the tagger runs");
        tags.into_iter().map(|tag| tag.label).collect()
    };
    let all: Vec<String> = names.lines().map(str::to_lowercase).collect();
    assert_eq!(labels(GivenTags::Original), all);
    let things: Vec<String> = all.into_iter().filter(|name| name == "dog" || name == "sky").collect();
    assert_eq!(labels(GivenTags::Things), things);
}

#[test]
fn lists_that_do_not_fit_are_refused() {
    let (names, thresholds) = ("x\n".repeat(23), "0.5\n".repeat(23));
    for (names, thresholds) in [
        ("x\n".repeat(22), thresholds.clone()),
        (names.clone(), "0.5\n".repeat(24)),
        (names.clone(), "half\n".repeat(23)),
        (names, "nan\n".repeat(23)),
    ] {
        let error = tagger(names.as_bytes(), thresholds.as_bytes()).expect_err("not this");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

//! The original's annotation files, as folders of files: what is read of them, and what is said of those that are
//! wrong.

#![allow(clippy::unwrap_used, reason = "what a test cannot do, it fails at")]

use std::path::Path;

use bubo_train::paper::Config;
use bubo_train::paper::data::{DataSet, Format, Named, draw};
use bubo_train::paper::entries::{Annotated, Media, SplitBy};
use bubo_train::paper::prompts::Prompts;
use bubo_train::paper::{captioned, clotho, llava, minigpt4, vggss};
use bubo_train::random::Random;

/// A folder with these files; what is in pictures and sounds does not matter to readers.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn message(read: anyhow::Result<Annotated>) -> String {
    format!("{:#}", read.expect_err("it is wrong"))
}

fn names(media: &Option<Media>) -> &str {
    media.as_ref().map_or("", Media::name)
}

#[test]
fn minigpt4_captions_are_read_as_they_are() {
    let of = |text: &str| {
        let folder = folder(&[("filter_cap.json", text), ("image/2.jpg", "x"), ("image/a_3.jpg", "x")]);
        minigpt4::read(&folder.path().join("filter_cap.json"), &folder.path().join("image"))
    };
    let found =
        of(r#"{"annotations": [{"image_id": "a_3", "caption": "A (red) kite."}, {"image_id": 2, "caption": "B"}]}"#)
            .unwrap();
    assert_eq!(found.prompts, Prompts::Image);
    let told: Vec<_> = found.entries.iter().map(|entry| (names(&entry.image), entry.answer.as_str())).collect();
    assert_eq!(told, [("a_3.jpg", "A (red) kite."), ("2.jpg", "B")]);
    let wrong = [
        (r#"{"annotations": [{"image_id": 2, "caption": "B"}, {"image_id": 2}]}"#, "entry 1"),
        (r#"{"annotations": [{"image_id": 2, "caption": "B"}, {"image_id": 2}]}"#, "missing field `caption`"),
        (r#"{"annotations": [{"image_id": 7, "caption": "B"}]}"#, "7.jpg"),
        (r#"{"annotations": [{"image_id": "../2", "caption": "B"}]}"#, "no file name"),
        (r#"{"annotations": [{"image_id": 2, "caption": " "}]}"#, "nothing is to be answered"),
        (r#"{"annotations": [{"image_id": 2, "caption": "a <ModalityHere>"}]}"#, "cannot be said"),
        (r#"{"annotations": []}"#, "empty"),
        (r#"[{"image_id": 2, "caption": "B"}]"#, r#"{"annotations": ["#),
        ("{", "filter_cap.json"),
    ];
    for (text, expected) in wrong {
        let message = message(of(text));
        assert!(message.contains(expected) && message.contains("filter_cap.json"), "{text}: {message}");
    }
}

#[test]
fn each_pair_of_llava_turns_is_a_sample() {
    let of = |text: &str| {
        let folder = folder(&[("a.json", text), ("t/COCO_train2014_000000000042.jpg", "x")]);
        llava::read(&folder.path().join("a.json"), &folder.path().join("t"))
    };
    let turns = r#"[{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "An (old) owl."},
        {"value": "Why?"}, {"value": "It is grey."}]"#;
    let found = of(&format!(r#"[{{"id": "000000000042", "image": "x.jpg", "conversations": {turns}}}]"#)).unwrap();
    let told: Vec<_> =
        found.entries.iter().map(|entry| (entry.question.as_deref().unwrap(), entry.answer.as_str())).collect();
    assert_eq!(told, [("What is it?", "An (old) owl."), ("Why?", "It is grey.")]);
    assert!(found.entries.iter().all(|entry| names(&entry.image) == "COCO_train2014_000000000042.jpg"));
    assert_eq!(found.prompts, Prompts::Instruction);
    let one = r#"{"from": "human", "value": "What?"}"#;
    let wrong = [
        (format!(r#"[{{"id": 42, "conversations": [{one}]}}]"#), "each question has an answer"),
        (format!(r#"[{{"id": 42, "conversations": [{one}, {one}]}}]"#), r#"where "gpt" is due"#),
        (format!(r#"[{{"id": "4/2", "conversations": {turns}}}]"#), "no number"),
        (format!(r#"[{{"id": 43, "conversations": {turns}}}]"#), "COCO_train2014_000000000043.jpg"),
        (r#"[{"id": 42, "conversations": [{"value": "<image>"}, {"value": "B"}]}]"#.into(), "nothing is asked"),
    ];
    for (text, expected) in wrong {
        let message = message(of(&text));
        assert!(message.contains(expected) && message.contains("entry 0"), "{message}");
    }
}

#[test]
fn clotho_is_read_from_json_and_from_its_table() {
    let files = |name: &str, text: &str| folder(&[(name, text), ("all/a b.wav", "x"), ("all/c.wav", "x")]);
    let of = |folder: &tempfile::TempDir, name: &str| {
        let (path, sounds) = (folder.path().join(name), folder.path().join("all"));
        if name.ends_with("csv") { clotho::read_csv(&path, &sounds) } else { clotho::read_detail(&path, &sounds) }
    };
    let text = r#"{"annotations": [{"audio_id": "a b.wav", "caption": "Wind (strong)\nblows."},
        {"audio_id": "c", "caption": "C."}]}"#;
    let found = of(&files("d.json", text), "d.json").unwrap();
    let told: Vec<_> = found.entries.iter().map(|entry| (names(&entry.audio), entry.answer.as_str())).collect();
    assert_eq!(told, [("a b.wav", "Wind strong blows."), ("c.wav", "C.")]);
    let header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\r\n";
    let table =
        format!("{header}a b.wav,\"One, with a comma\",Two,\"A \"\"quoted\"\"\nline\",Four,Five.\r\nc.wav,1,2,3,4,5\n");
    let found = of(&files("c.csv", &table), "c.csv").unwrap();
    assert_eq!(found.entries.len(), 10);
    assert_eq!([0, 2].map(|at| found.entries[at].answer.as_str()), ["One, with a comma", "A quoted line"]);
    assert_eq!((names(&found.entries[4].audio), names(&found.entries[5].audio)), ("a b.wav", "c.wav"));
    let wrong = [
        ("file_name,caption_1\n".to_owned(), "line 1"),
        (format!("{header}c.wav,1,2,3,4\n"), "line 2: expected file_name"),
        (format!("{header}c.wav,1,2,3,4,5\nd.wav,1,2,3,4,5\n"), "line 3"),
        (format!("{header}c.wav,1,2,3,4,\"5\n"), "never closed"),
        (format!("{header}c.wav,\"1\"x,2,3,4,5\n"), "behind a quoted field"),
        (header.to_owned(), "no sounds"),
    ];
    for (table, expected) in wrong {
        let message = message(of(&files("c.csv", &table), "c.csv"));
        assert!(message.contains(expected) && message.contains("c.csv"), "{message}");
    }
}

#[test]
fn vggss_pairs_have_a_picture_and_a_sound() {
    let text =
        r#"{"annotations": [{"audio_id": "x_1", "image_id": "x_1", "caption": "The ~dog.", "class": "dog barking"}]}"#;
    let whole = folder(&[("v.json", text), ("image/x_1.jpg", "x"), ("audio/x_1.wav", "x")]);
    let read = |folder: &Path| vggss::read(&folder.join("v.json"), &folder.join("image"), &folder.join("audio"));
    let found = read(whole.path()).unwrap();
    let entry = &found.entries[0];
    assert_eq!((names(&entry.image), names(&entry.audio)), ("x_1.jpg", "x_1.wav"));
    assert_eq!((entry.answer.as_str(), entry.class.as_deref()), ("The dog.", Some("dog barking")));
    let silent = folder(&[("v.json", text), ("image/x_1.jpg", "x")]);
    assert!(message(read(silent.path())).contains("x_1.wav"));
}

/// Name and bytes.
type File<'a> = (&'a str, &'a [u8]);

fn shard(path: &Path, files: &[File<'_>]) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn shards_are_indexed_and_read_where_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![7; 3000];
    let first: [File<'_>; 4] = [
        ("a.flac", b"sound a"),
        ("a.json", br#"{"caption": "A \"loud\" bell.", "duration": 3}"#),
        ("b.json", br#"{"caption": "B"}"#),
        ("b.flac", &long),
    ];
    shard(&folder.path().join("0.tar"), &first);
    shard(&folder.path().join("1.tar"), &[("c.flac", b"sound c"), ("c.json", br#"{"caption": "C"}"#)]);
    let found = captioned::read_shards(folder.path()).unwrap();
    assert_eq!(found.prompts, Prompts::Audio);
    let told: Vec<_> = found.entries.iter().map(|entry| entry.answer.as_str()).collect();
    assert_eq!(told, ["A loud bell.", "B", "C"]);
    let bytes: Vec<_> = found.entries.iter().map(|entry| entry.audio.as_ref().unwrap().read().unwrap()).collect();
    assert_eq!(bytes, [b"sound a".to_vec(), long, b"sound c".to_vec()]);
    let wrong: [(&[File<'_>], &str); 4] = [
        (&[("a.flac", b"x")], "a has no caption"),
        (&[("a.json", br#"{"caption": "A"}"#)], "a has no picture or sound"),
        (&[("a.flac", b"x"), ("a.json", br#"{"text": "A"}"#)], "missing field `caption`"),
        (&[("a.jpg", b"x"), ("a.json", br#"{"caption": "A"}"#)], "pictures and sounds"),
    ];
    for (files, expected) in wrong {
        shard(&folder.path().join("1.tar"), files);
        let message = message(captioned::read_shards(folder.path()));
        assert!(message.contains(expected), "{message}");
    }
    std::fs::write(folder.path().join("1.tar"), vec![1; 700]).unwrap();
    assert!(message(captioned::read_shards(folder.path())).contains("1.tar"));
    let data = self::folder(&[
        ("w.json", r#"{"data": [{"id": 5, "caption": "A (dog)", "duration": 1.5}]}"#),
        ("s/5.flac", "x"),
    ]);
    let found = captioned::read_wavcaps(&data.path().join("w.json"), &data.path().join("s")).unwrap();
    assert_eq!((names(&found.entries[0].audio), found.entries[0].answer.as_str()), ("5.flac", "A dog"));
}

fn many() -> tempfile::TempDir {
    let ids: Vec<usize> = (0..60).collect();
    let list = |of: &dyn Fn(usize) -> String| ids.iter().map(|id| of(*id)).collect::<Vec<_>>().join(",");
    let images = list(&|id| format!(r#"{{"image_id": {id}, "caption": "The image shows number {id}."}}"#));
    let sounds = list(&|id| format!(r#"{{"audio_id": "s{id}", "caption": "The audio is number {id}."}}"#));
    let mut files = vec![
        ("i.json".to_owned(), format!(r#"{{"annotations": [{images}]}}"#)),
        ("s.json".to_owned(), format!(r#"{{"annotations": [{sounds}]}}"#)),
    ];
    files.extend(
        ids.iter().flat_map(|id| [format!("i/{id}.jpg"), format!("s/s{id}.wav")]).map(|name| (name, "x".into())),
    );
    folder(&files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>())
}

#[test]
fn batches_are_of_one_set_by_weight_and_of_the_training_side_only() {
    let folder = many();
    let images = Format::Minigpt4 { annotations: "i.json".into(), images: "i".into() };
    let sounds = Format::ClothoDetail { annotations: "s.json".into(), sounds: "s".into() };
    let pairs = Format::Unrelated { images: Box::new(images.clone()), sounds: Box::new(sounds.clone()) };
    let split = SplitBy { validation_files_one_in: 5, test_classes: vec!["7".into()] };
    let named = |name: &str, weight, files: &Format| Named { name: name.into(), weight, files: files.clone() };
    let sets: Vec<DataSet> =
        [named("images", 6.0, &images), named("sounds", 3.0, &sounds), named("pairs", 1.0, &pairs)]
            .iter()
            .map(|named| DataSet::read(named, folder.path(), &split).unwrap())
            .collect();
    let [training, validation, test] = sets[0].counts;
    assert!(training + validation + test == 60 && validation > 2 && test == 1, "{:?}", sets[0].counts);
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..3000 {
        let (set, asked) = draw(&sets, 2, &mut Random::new(seed, 0)).unwrap();
        *counts.entry(set.name.clone()).or_insert(0) += 1;
        for asked in asked {
            assert_eq!(asked.entry.image.is_some(), set.name != "sounds");
            assert_eq!(asked.entry.audio.is_some(), set.name != "images");
            for media in [&asked.entry.image, &asked.entry.audio].into_iter().flatten() {
                let alone = bubo_train::paper::entries::Entry {
                    image: Some(media.clone()),
                    answer: "any".into(),
                    ..Default::default()
                };
                assert_eq!(split.split(&alone), bubo_train::examples::Split::Training, "{media:?}");
            }
            assert!(!asked.entry.answer.contains("number 7."), "a class that is kept was drawn");
        }
    }
    let share = |name: &str| f64::from(counts[name]) / 3000.0;
    assert!((share("images") - 0.6).abs() < 0.04 && (share("pairs") - 0.1).abs() < 0.03, "{counts:?}");
    assert_eq!(sets[0].validation(3).unwrap().len(), 3);
    assert_eq!(sets[0].validation(3).unwrap(), sets[0].validation(3).unwrap());
}

#[test]
fn the_shipped_configurations_are_the_papers() {
    let read = |text: &str| serde_json::from_str::<Config>(text).unwrap();
    let first = read(include_str!("../configs/bubogpt-stage1.json"));
    let second = read(include_str!("../configs/bubogpt-stage2.json"));
    let weights = |config: &Config| config.data.iter().map(|named| named.weight).collect::<Vec<_>>();
    assert_eq!(weights(&first), [262.0, 108.0, 31.0, 2.0]);
    assert_eq!(weights(&second), [3.0, 150.0, 4.0, 5.0, 3.0]);
    assert_eq!((first.plan.epochs, first.plan.steps_per_epoch, first.batch, first.max_txt_len), (4, 5000, 64, 128));
    assert_eq!(
        (second.plan.epochs, second.plan.steps_per_epoch, second.batch, second.max_txt_len),
        (10, 5000, 12, 196)
    );
    // At the first step, at the end of the warm-up and at the end of the run.
    for (config, least, most, steps) in [(&first, 8e-5, 1e-4, 20_000), (&second, 1e-5, 3e-5, 50_000)] {
        let rate = |step| config.plan.schedule.rate(step, steps);
        assert!((rate(0) - 1e-6).abs() < 1e-12 && (rate(4999) - most).abs() < 0.01 * most);
        assert!((rate(steps) - least).abs() < 1e-9 && config.plan.schedule.weight_decay == 0.05);
        assert!(config.plan.schedule.clip_norm.is_none() && config.plan.seed == 42);
    }
}

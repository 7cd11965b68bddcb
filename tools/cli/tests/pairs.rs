//! Replies of pairs on real tokenisers: whatever a model prefers, every reply can be read.

use std::path::PathBuf;
use std::rc::Rc;

use bubo::grounding::matcher::original::{Item, parse};
use bubo::grounding::matcher::{AskedModel, MatchMode, Matcher, Names, Pairing};
use bubo::language::grammar::SEPARATOR;
use bubo::language::{Chat, PairGrammar, PairReply, StopRules, Tokenizer};
use bubo::tensor::{Device, Precision};
use bubo_cli::host::CommandLine;
use bubo_cli::part;
use proptest::prelude::*;
use serde_json::json;

fn bundle() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bundles/bubo-mini");
    std::env::var_os("BUBO_BUNDLE").map_or(folder, PathBuf::from)
}

/// A vocabulary as LLaMA's: `▁` for spaces, all bytes, a few words, and `###` in both of its tokenisations.
fn sentence_piece() -> Tokenizer {
    let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
    let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
    let words = ["▁", "▁-", "▁dog", "dog", "▁the", "The", "▁red", "▁-▁", "-", "s", "▁###", "##", "#", "é", "世"];
    let letters = ('a'..='z').map(String::from).filter(|letter| letter != "s");
    let words = words.map(str::to_owned).into_iter().chain(letters).chain(('A'..='Z').map(String::from));
    let tokens = special.into_iter().chain(bytes).chain(words);
    let vocabulary: serde_json::Map<_, _> = tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
    let added = ["<unk>", "<s>", "</s>"].iter().enumerate().map(|(id, content)| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    });
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "pre_tokenizer": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" } ] },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                   "vocab": vocabulary, "merges": [] },
    });
    Tokenizer::from_bytes(json.to_string().as_bytes()).expect("it is a tokeniser")
}

/// What a model does that knows nothing: among what may come it takes what a hash of the seed likes best.
fn reply_of_noise(tokenizer: &Tokenizer, rules: &StopRules, answer: &str, items: &[&str], seed: u64) -> String {
    let grammar = PairGrammar::new(answer, items);
    let mut reply = PairReply::new(&grammar, tokenizer.vocabulary());
    for step in 0..120u64 {
        let choices = reply.choices(rules);
        let logit = |id: &&u32| {
            let mixed = (seed ^ (step << 32) ^ u64::from(**id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20
        };
        let Some(best) = choices.more.iter().chain(&choices.end).max_by_key(logit) else { break };
        if choices.end.contains(best) {
            break;
        }
        reply.push(*best).expect("it was offered");
    }
    reply.finish()
}

/// Every line is a pair that the original's reader takes, and stands in the answer as words.
fn check_reply(answer: &str, items: &[&str], reply: &str) -> Result<(), TestCaseError> {
    let listed: Vec<Item> =
        items.iter().map(|item| Item { name: item.trim().to_lowercase(), color: "red".into() }).collect();
    let lower: String = answer.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect();
    for line in reply.split('\n').filter(|_| !reply.is_empty()) {
        let (phrase, item) = line.split_once(SEPARATOR).expect("a line has both sides");
        let found = parse(answer, &listed, line);
        prop_assert_eq!(&found.match_state, &[(phrase.to_lowercase(), item.to_owned())], "{:?} {:?}", answer, line);
        prop_assert!(listed.iter().any(|known| known.name == item), "{:?}", line);
        let phrase = phrase.to_lowercase();
        // Words of scripts without upper and lower case, and numbers, may touch their neighbours.
        let inside = |a: Option<char>, b: Option<char>| [a, b].iter().all(|c| c.is_some_and(char::is_lowercase));
        let words = lower.match_indices(&phrase).any(|(at, found)| {
            !inside(lower[..at].chars().next_back(), found.chars().next())
                && !inside(found.chars().next_back(), lower[at + found.len()..].chars().next())
        });
        prop_assert!(words && !phrase.is_empty(), "{:?} {:?}", answer, line);
    }
    Ok(())
}

const ANSWERS: &str = "([a-zA-Z]{1,7}|dog|The| |  |, |\\. |\\n| - |-|’s|'s|_|\"|é|世界|🐕|İ|Σ|###|[0-9]){0,25}";
const ITEMS: &str = "([a-zé世 \\-#]{1,9}|dog|Wine Glass|a - b|)";

#[test]
fn every_reply_of_noise_can_be_read_on_both_kinds_of_vocabulary() {
    let language =
        part::load_language(&bundle(), &Device::Cpu, Precision::default()).expect("`cargo xtask bundle` builds it");
    let llama = sentence_piece();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    let lines = std::cell::Cell::new(0usize);
    proptest!(config, |(answer in ANSWERS, items in proptest::collection::vec(ITEMS, 0..6), seed in any::<u64>())| {
        let items: Vec<&str> = items.iter().map(String::as_str).collect();
        let rules = &language.settings.chat.stop;
        for (tokenizer, rules) in [(&language.tokenizer, rules), (&llama, &StopRules::original())] {
            let reply = reply_of_noise(tokenizer, rules, &answer, &items, seed);
            check_reply(&answer, &items, &reply)?;
            lines.set(lines.get() + reply.lines().count());
        }
    });
    assert!(lines.get() > 300, "only {} lines were looked at", lines.get());
}

#[test]
fn tokens_are_their_bytes_in_both_kinds_of_vocabulary() {
    let language =
        part::load_language(&bundle(), &Device::Cpu, Precision::default()).expect("`cargo xtask bundle` builds it");
    for text in ["A dog’s bowl - 3 m\n\tnaïve 世界 🐕", " - ", "x"] {
        let ids = language.tokenizer.encode(text).expect("it is text");
        let bytes: Vec<u8> = ids.iter().flat_map(|id| language.tokenizer.bytes_of(*id).unwrap_or_default()).collect();
        assert_eq!(String::from_utf8(bytes).as_deref(), Ok(text));
    }
    let llama = sentence_piece();
    let ids = llama.encode("The dog\nis 界").expect("it is text");
    let bytes: Vec<u8> = ids.iter().flat_map(|id| llama.bytes_of(*id).unwrap_or_default()).collect();
    assert_eq!(String::from_utf8(bytes).as_deref(), Ok(" The dog\nis 界"));
    assert!(llama.bytes_of(1).is_none() && llama.bytes_of(99_999).is_none());
    assert!(language.settings.chat.stop.ids.iter().all(|id| language.tokenizer.bytes_of(*id).is_none()));
}

fn names(tags: &[&str]) -> Vec<Names> {
    tags.iter().map(|tag| Names { tag: (*tag).to_owned(), aliases: Vec::new() }).collect()
}

/// The small model of the bundle is asked; what it says is weak, but can always be read, and the lists mend it.
#[test]
fn the_bundles_own_model_replies_in_pairs() {
    let language =
        part::load_language(&bundle(), &Device::Cpu, Precision::default()).expect("`cargo xtask bundle` builds it");
    let chat = Chat::new(Rc::new(language));
    let host = CommandLine::default();
    let asked = AskedModel { chat: &chat, host: &host, examples: 3 };
    for (answer, tags) in [
        ("A brown dog chases a frisbee across the park.", &["dog", "frisbee"][..]),
        ("Two people ride bicycles past a red bus.", &["person", "bicycle", "bus"]),
        ("No cat is here.", &["cat"]),
    ] {
        let listed: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let started = std::time::Instant::now();
        let reply = pollster::block_on(asked.reply(answer, &listed)).expect("it replies");
        println!("{answer} {tags:?}: {reply:?} in {:?}", started.elapsed());
        check_reply(answer, tags, &reply).expect("it can be read");
        for mode in [MatchMode::Lexicon, MatchMode::Model, MatchMode::Both] {
            let found = pollster::block_on(Matcher::default().entities_by(mode, &asked, answer, &names(tags)));
            let found = found.expect("it replies");
            let shown: Vec<_> = found.iter().map(|entity| (entity.phrase.as_str(), &entity.things)).collect();
            println!("  {mode:?}: {shown:?}");
            if mode != MatchMode::Model && answer.starts_with("No") {
                assert!(found.is_empty(), "what is denied is not there: {found:?}");
            }
        }
    }
}

/// How long the mask of one token takes, for a long answer and a long list.
#[test]
fn masks_are_cheap() {
    let language =
        part::load_language(&bundle(), &Device::Cpu, Precision::default()).expect("`cargo xtask bundle` builds it");
    let started = std::time::Instant::now();
    let vocabulary = language.tokenizer.vocabulary();
    println!("vocabulary: {:?}", started.elapsed());
    let answer = "The brown dog sees a cat near the old category of fine things on a wooden table. ".repeat(25);
    let items: Vec<String> = (0..40).map(|at| format!("thing number {at}")).collect();
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    let grammar = PairGrammar::new(&answer, &items);
    let mut reply = PairReply::new(&grammar, vocabulary);
    for step in 0..8 {
        let started = std::time::Instant::now();
        let choices = reply.choices(&language.settings.chat.stop);
        println!("step {step}: {} tokens in {:?}", choices.more.len(), started.elapsed());
        // Far fewer than the vocabulary has: branches that cannot come are never walked.
        assert!(choices.more.len() < 2_000, "{}", choices.more.len());
        reply.push(choices.more[step % choices.more.len()]).expect("it was offered");
    }
}

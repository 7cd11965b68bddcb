//! How the original reads the reply of its matching language model.

use bubo::grounding::matcher::original::{Item, parse, query};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::{Difference, Golden, count_difference};

#[derive(Deserialize)]
struct Case {
    text: String,
    entities: Vec<String>,
    colors: Vec<String>,
    reply: String,
    query: String,
    highlight: Vec<(String, Option<String>)>,
    match_state: BTreeMap<String, String>,
    color_map: BTreeMap<String, String>,
}

/// Runs the matcher's cases of `text_level`; texts must be equal.
///
/// # Errors
/// If the golden has another form.
pub fn run(golden: &Golden) -> anyhow::Result<Vec<Difference>> {
    let cases: Vec<Case> = serde_json::from_value(golden.json()["matcher"].clone())?;
    let [mut queries, mut highlights, mut states, mut colors] = [0; 4];
    for case in cases {
        let names: Vec<&str> = case.entities.iter().map(String::as_str).collect();
        queries += usize::from(query(&names, &case.text) != case.query);
        let items = case.entities.iter().zip(&case.colors);
        let items: Vec<Item> = items.map(|(name, color)| Item { name: name.clone(), color: color.clone() }).collect();
        let found = parse(&case.text, &items, &case.reply);
        highlights += usize::from(found.highlight != case.highlight);
        states += usize::from(found.match_state.into_iter().collect::<BTreeMap<_, _>>() != case.match_state);
        colors += usize::from(found.color_map.into_iter().collect::<BTreeMap<_, _>>() != case.color_map);
    }
    Ok(vec![
        count_difference("matcher.query", queries),
        count_difference("matcher.highlight", highlights),
        count_difference("matcher.match_state", states),
        count_difference("matcher.color_map", colors),
    ])
}

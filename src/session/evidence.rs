//! Answers that boxes, tags and sounds know better than a small language model.

use super::event::Evidence;
use super::facts::{counted, listed, not_seen, plural, sentence, with_article, with_the};
use super::question::Question;
use super::scene::{Heard, Scene};
use crate::error::Result;
use crate::grounding::Thing;
use crate::grounding::matcher::{Matcher, Names, is_kind_of};
use crate::grounding::tagger::groups::is_wide;
use crate::grounding::taught::name::is_proper;

/// Computes the answer to a question that evidence can answer; none for all others.
///
/// # Errors
/// Those of the matcher's embedder.
pub async fn answer(
    question: &Question,
    scene: Option<&Scene>,
    heard: Option<&Heard>,
    matcher: &Matcher<'_>,
) -> Result<Option<(Evidence, String)>> {
    Ok(match question {
        Question::Identity(kind) => match (scene, heard) {
            (Some(scene), None) => Some((Evidence::Identity, identity(kind.as_deref(), scene, matcher).await?)),
            (Some(scene), Some(heard)) => {
                let seen = identity(kind.as_deref(), scene, matcher).await?;
                let said = heard.facts().map(|said| format!(" I hear {said}.")).unwrap_or_default();
                Some((Evidence::Identity, format!("{seen}{said}")))
            }
            (None, Some(heard)) => {
                heard.facts().map(|said| (Evidence::Identity, format!("It is the sound of {said}.")))
            }
            _ => None,
        },
        Question::Color(noun) => match scene {
            Some(scene) => Some((Evidence::Color, color(noun.as_deref(), scene, matcher).await?)),
            None => None,
        },
        Question::Relation => match (scene, heard) {
            (Some(scene), Some(heard)) => Some((Evidence::Relation, relation(scene, heard, matcher).await?)),
            _ => None,
        },
        Question::Presence(noun) if scene.is_some() || heard.is_some() => {
            Some((Evidence::Presence, presence(noun, scene, heard, matcher).await?))
        }
        Question::Place(noun) => match scene {
            Some(scene) => Some((Evidence::Place, place(noun, scene, matcher).await?)),
            None => None,
        },
        Question::Count(noun) => match scene {
            Some(scene) => Some((Evidence::Count, count(noun, scene, matcher).await?)),
            None => None,
        },
        _ => None,
    })
}

/// Whether what is heard comes from something that is seen.
///
/// # Errors
/// Those of the matcher's embedder.
pub async fn relation(scene: &Scene, heard: &Heard, matcher: &Matcher<'_>) -> Result<String> {
    let (names, sources) = (scene.names(), heard.names());
    let (Some(seen), Some(sound)) = (scene.facts(), heard.facts()) else {
        return Ok("I cannot tell whether the picture and the sound belong together.".into());
    };
    for source in &sources {
        let found = matcher.entities(&with_article(&source.tag), &names).await?;
        if let Some(thing) = found.first().and_then(|entity| entity.things.first()) {
            let thing = with_the(&scene.things[*thing].tag);
            return Ok(format!("The picture and the sound belong together: {thing} fits the sound of {sound}."));
        }
    }
    Ok(format!("The picture and the sound seem unrelated: I see {seen}, but I hear {sound}."))
}

/// What a thing is beside its own name: the tag of a thing without one.
fn common(thing: &Thing) -> &str {
    let kind = thing.aliases.iter().find(|alias| !is_proper(alias)).filter(|_| is_proper(&thing.tag));
    kind.unwrap_or(&thing.tag)
}

/// Things in words, counted by tag: `Rex and two cats`.
fn grouped(things: &[usize], scene: &Scene) -> String {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for tag in things.iter().map(|thing| scene.things[*thing].tag.as_str()) {
        match groups.iter_mut().find(|(known, _)| *known == tag) {
            Some((_, count)) => *count += 1,
            None => groups.push((tag, 1)),
        }
    }
    listed(&groups.into_iter().map(|(tag, count)| counted(count, tag)).collect::<Vec<_>>())
}

async fn count(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_called(noun, scene, matcher).await?;
    let Some(first) = things.first().map(|thing| &scene.things[*thing]) else { return Ok(not_seen(noun)) };
    if let Some(alias) = alias_meant(noun, first, matcher).await? {
        return Ok(format!("Perhaps I see {} in the picture.", counted(things.len(), alias)));
    }
    let said = if is_proper(noun) { grouped(&things, scene) } else { counted(things.len(), common(first)) };
    Ok(format!("I see {said} in the picture."))
}

/// The things that the noun names; not those of which only a wide group is known that it is one of many kinds of.
async fn things_called(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<Vec<usize>> {
    let found = matcher.entities(&format!("the {noun}"), &scene.names()).await?;
    let mut things = found.into_iter().next().map_or_else(Vec::new, |entity| entity.things);
    things.retain(|thing| !(is_wide(&scene.things[*thing].tag) && is_narrower(noun, &scene.things[*thing].tag)));
    Ok(things)
}

/// Whether the noun, in singular or plural, is a kind of what the tag names.
fn is_narrower(noun: &str, tag: &str) -> bool {
    is_kind_of(noun, tag) || noun.strip_suffix('s').is_some_and(|singular| is_kind_of(singular, tag))
}

/// The other name of a thing that the noun means, where its tag is nothing of the kind or less than it: whoever asks for a
/// table does not hear of a chair that the tagger took for one. None of things that a person named.
async fn alias_meant<'a>(noun: &str, thing: &'a Thing, matcher: &Matcher<'_>) -> Result<Option<&'a str>> {
    if thing.aliases.is_empty() || is_proper(&thing.tag) {
        return Ok(None);
    }
    let text = format!("the {noun}");
    let means = async |name: &String| {
        let names = [Names { tag: name.clone(), aliases: Vec::new() }];
        matcher.entities(&text, &names).await.map(|entities| !entities.is_empty())
    };
    if !is_narrower(noun, &thing.tag) && means(&thing.tag).await? {
        return Ok(None);
    }
    for alias in &thing.aliases {
        if means(alias).await? {
            return Ok(Some(alias));
        }
    }
    Ok(None)
}

/// The things that a question is about: those of the name, else those of the most confident tag.
async fn things_meant(noun: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<Vec<usize>> {
    match noun {
        Some(noun) => {
            let called = things_called(noun, scene, matcher).await?;
            // With several kinds of animals in the picture, no single one is "the animal"; the surest is meant.
            let of_kind =
                || (0..scene.things.len()).filter(|thing| is_kind_of(common(&scene.things[*thing]), noun)).collect();
            Ok(if called.is_empty() { of_kind() } else { called })
        }
        None => {
            let Some(first) = scene.things.first() else { return Ok(Vec::new()) };
            Ok((0..scene.things.len()).filter(|thing| scene.things[*thing].tag == first.tag).collect())
        }
    }
}

async fn identity(kind: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_meant(kind, scene, matcher).await?;
    let Some(first) = things.first().map(|thing| &scene.things[*thing]) else {
        return Ok(match kind {
            Some(kind) => format!("I see no {kind} that I know."),
            None => "I see nothing in the picture that I know.".into(),
        });
    };
    let same = things.iter().filter(|thing| scene.things[**thing].tag == first.tag).count();
    if same > 1 {
        return Ok(format!("These are {}.", counted(same, &first.tag)));
    }
    let finer = if is_proper(&first.tag) {
        Some(common(first)).filter(|kind| !first.tag.ends_with(kind)).map(|kind| format!(", {}", with_article(kind)))
    } else {
        let finer = first.aliases.iter().find(|alias| is_kind_of(alias, &first.tag));
        finer.map(|finer| format!(", perhaps {}", with_article(finer)))
    };
    Ok(format!("It is {}{}.", with_article(&first.tag), finer.unwrap_or_default()))
}

async fn color(noun: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_meant(noun, scene, matcher).await?;
    let (Some(first), Some(colors)) = (things.first(), scene.colors(&things)) else {
        return Ok(not_seen(noun.unwrap_or("thing that I know")));
    };
    let first = &scene.things[*first];
    Ok(match things.len() {
        1 => format!("{} is mostly {colors}.", sentence(&with_the(&first.tag))),
        _ => format!("The {} are mostly {colors}.", plural(common(first))),
    })
}

async fn presence(noun: &str, scene: Option<&Scene>, heard: Option<&Heard>, matcher: &Matcher<'_>) -> Result<String> {
    if let Some(scene) = scene {
        let things = things_called(noun, scene, matcher).await?;
        if let Some(first) = things.first() {
            let said = grouped(&things, scene);
            let place = scene.place(things.iter().map(|thing| scene.things[*thing].box_px));
            let place = place.unwrap_or("in the picture");
            if let Some(alias) = alias_meant(noun, &scene.things[*first], matcher).await? {
                let verb = if things.len() == 1 { "is" } else { "are" };
                return Ok(format!("Yes, perhaps there {verb} {} {place}.", counted(things.len(), alias)));
            }
            return Ok(match things.len() {
                1 if is_proper(&scene.things[*first].tag) => format!("Yes, {said} is {place}."),
                1 => format!("Yes, there is {said} {place}."),
                _ => format!("Yes, there are {said} {place}."),
            });
        }
    }
    if let Some(heard) = heard {
        let found = matcher.entities(&format!("the {noun}"), &heard.names()).await?;
        if !found.is_empty() {
            return Ok(format!("Yes, I hear {}.", listed(&heard.phrases())));
        }
    }
    if let Some((name, place)) = scene.and_then(|scene| guessed(noun, scene)) {
        return Ok(format!("Yes, perhaps there is {} {place}.", with_article(name)));
    }
    Ok(match (scene, heard) {
        (Some(_), Some(_)) => format!("No, I neither see nor hear {}.", with_article(noun)),
        (Some(_), None) => format!("No, {}", not_seen(noun)),
        _ if is_proper(noun) => format!("No, I do not hear {noun}."),
        _ => format!("No, I hear no {noun}."),
    })
}

/// That the noun is not seen, and what is: who asks where something is may know it by another name.
fn not_seen_but(noun: &str, scene: &Scene) -> String {
    let not_seen = not_seen(noun);
    match scene.facts() {
        Some(facts) => format!("{}, but {facts}.", not_seen.trim_end_matches('.')),
        None => not_seen,
    }
}

/// What may be the noun, and where; what is asked for by name needs less than what is told unasked.
fn guessed<'a>(noun: &str, scene: &'a Scene) -> Option<(&'a str, &'static str)> {
    let tag = scene.guess(noun)?;
    Some((&tag.label, scene.place(tag.box_px.into_iter()).unwrap_or("in the picture")))
}

async fn place(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_called(noun, scene, matcher).await?;
    let Some(first) = things.first() else {
        let perhaps = guessed(noun, scene).map(|(name, place)| format!("Perhaps {} is {place}.", with_the(name)));
        return Ok(perhaps.unwrap_or_else(|| not_seen_but(noun, scene)));
    };
    let mut places: Vec<String> = Vec::new();
    for thing in &things {
        let place = scene.place(std::iter::once(scene.things[*thing].box_px)).unwrap_or("in the picture").to_owned();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let tag = &scene.things[*first].tag;
    if let Some(alias) = alias_meant(noun, &scene.things[*first], matcher).await? {
        return Ok(match things.len() {
            1 => format!("Perhaps {} is {}.", with_the(alias), listed(&places)),
            count => format!("Perhaps the {} are {}.", counted(count, alias), listed(&places)),
        });
    }
    Ok(match things.len() {
        1 => format!("{} is {}.", sentence(&with_the(tag)), listed(&places)),
        _ if things.iter().any(|thing| scene.things[*thing].tag != *tag) => {
            format!("{} are {}.", sentence(&grouped(&things, scene)), listed(&places))
        }
        count => format!("The {} are {}.", counted(count, tag), listed(&places)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{BoxPx, Mask, RgbImage};

    fn asked(question: &str, things: &[(&str, &[&str])]) -> String {
        let thing = |(at, (tag, aliases)): (usize, &(&str, &[&str]))| Thing {
            tag: (*tag).into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            score: 0.8,
            box_px: BoxPx { x0: 40.0 * at as f32, y0: 0.0, x1: 40.0 * at as f32 + 20.0, y1: 10.0 },
            mask: Mask::new(1, 1, vec![false]),
            taught: is_proper(tag),
        };
        let image = RgbImage::new(100, 10, vec![0; 3000]).expect("100 × 10 pixels");
        let scene = Scene::new(&image, things.iter().enumerate().map(thing).collect());
        let (question, matcher) = (Question::parse(question), Matcher::default());
        let answer = pollster::block_on(answer(&question, Some(&scene), None, &matcher));
        answer.expect("word lists do not fail").expect("evidence answers such questions").1
    }

    #[test]
    fn a_thing_is_called_what_it_was_asked_for() {
        let things: [(&str, &[&str]); 3] =
            [("chair", &["dining table"]), ("dog", &["golden retriever"]), ("Rex", &["cat"])];
        for (question, expected) in [
            ("Is there a chair?", "Yes, there is a chair on the left."),
            ("Is there a table?", "Yes, perhaps there is a dining table on the left."),
            ("Where is the table?", "Perhaps the dining table is on the left."),
            ("How many tables are there?", "Perhaps I see a dining table in the picture."),
            ("Is there a dog?", "Yes, there is a dog in the middle."),
            ("Is there a golden retriever?", "Yes, perhaps there is a golden retriever in the middle."),
            ("Is there a cat?", "Yes, Rex is on the right."),
            ("Is there a horse?", "No, I see no horse in the picture."),
            (
                "Where is the horse?",
                "I see no horse in the picture, but a chair on the left, a dog in the middle and Rex the cat on the right.",
            ),
        ] {
            assert_eq!(asked(question, &things), expected, "{question}");
        }
        assert_eq!(
            asked("Are there tables?", &[("chair", &["dining table"]), ("chair", &["dining table"])]),
            "Yes, perhaps there are two dining tables in the picture."
        );
    }
}

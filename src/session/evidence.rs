//! Answers that boxes, tags and sounds know better than a small language model.

use super::event::Evidence;
use super::facts::{counted, listed, plural, sound_phrase, with_article};
use super::question::Question;
use super::scene::{Heard, Scene};
use crate::error::Result;
use crate::grounding::matcher::{Matcher, is_kind_of};

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
            Some(scene) => {
                let things = things_called(noun, scene, matcher).await?;
                let noun = things.first().map_or(noun.as_str(), |thing| scene.things[*thing].tag.as_str());
                let text = match things.len() {
                    0 => format!("I see no {noun} in the picture."),
                    count => format!("I see {} in the picture.", counted(count, noun)),
                };
                Some((Evidence::Count, text))
            }
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
            let tag = &scene.things[*thing].tag;
            return Ok(format!("The picture and the sound belong together: the {tag} fits the sound of {sound}."));
        }
    }
    Ok(format!("The picture and the sound seem unrelated: I see {seen}, but I hear {sound}."))
}

async fn things_called(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<Vec<usize>> {
    let found = matcher.entities(&format!("the {noun}"), &scene.names()).await?;
    Ok(found.into_iter().next().map_or_else(Vec::new, |entity| entity.things))
}

/// The things that a question is about: those of the name, else those of the most confident tag.
async fn things_meant(noun: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<Vec<usize>> {
    match noun {
        Some(noun) => {
            let called = things_called(noun, scene, matcher).await?;
            // With several kinds of animals in the picture, no single one is "the animal"; the surest is meant.
            let of_kind =
                || (0..scene.things.len()).filter(|thing| is_kind_of(&scene.things[*thing].tag, noun)).collect();
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
    let finer = first.aliases.iter().find(|alias| is_kind_of(alias, &first.tag));
    let finer = finer.map(|finer| format!(", perhaps {}", with_article(finer)));
    Ok(format!("It is {}{}.", with_article(&first.tag), finer.unwrap_or_default()))
}

async fn color(noun: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_meant(noun, scene, matcher).await?;
    let (Some(first), Some(colors)) = (things.first(), scene.colors(&things)) else {
        return Ok(format!("I see no {} in the picture.", noun.unwrap_or("thing that I know")));
    };
    let tag = &scene.things[*first].tag;
    Ok(match things.len() {
        1 => format!("The {tag} is mostly {colors}."),
        _ => format!("The {} are mostly {colors}.", plural(tag)),
    })
}

async fn presence(noun: &str, scene: Option<&Scene>, heard: Option<&Heard>, matcher: &Matcher<'_>) -> Result<String> {
    if let Some(scene) = scene {
        let things = things_called(noun, scene, matcher).await?;
        if let Some(first) = things.first() {
            let said = counted(things.len(), &scene.things[*first].tag);
            let place = scene.place(things.iter().map(|thing| scene.things[*thing].box_px));
            let verb = if things.len() == 1 { "is" } else { "are" };
            return Ok(format!("Yes, there {verb} {said} {}.", place.unwrap_or("in the picture")));
        }
    }
    if let Some(heard) = heard {
        let found = matcher.entities(&format!("the {noun}"), &heard.names()).await?;
        if !found.is_empty() {
            let said: Vec<String> = heard.labels().iter().map(|label| sound_phrase(label)).collect();
            return Ok(format!("Yes, I hear {}.", listed(&said)));
        }
    }
    Ok(match (scene, heard) {
        (Some(_), Some(_)) => format!("No, I neither see nor hear {}.", with_article(noun)),
        (Some(_), None) => format!("No, I see no {noun} in the picture."),
        _ => format!("No, I hear no {noun}."),
    })
}

async fn place(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_called(noun, scene, matcher).await?;
    let Some(first) = things.first() else { return Ok(format!("I see no {noun} in the picture.")) };
    let mut places: Vec<String> = Vec::new();
    for thing in &things {
        let place = scene.place(std::iter::once(scene.things[*thing].box_px)).unwrap_or("in the picture").to_owned();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let tag = &scene.things[*first].tag;
    Ok(match things.len() {
        1 => format!("The {tag} is {}.", listed(&places)),
        count => format!("The {} are {}.", counted(count, tag), listed(&places)),
    })
}

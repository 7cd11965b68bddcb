//! Answers that boxes, tags and sounds know better than a small language model.

use super::event::Evidence;
use super::facts::{counted, listed, sound_phrase, with_article};
use super::question::Question;
use super::scene::{Heard, Scene};
use crate::error::Result;
use crate::grounding::matcher::Matcher;

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

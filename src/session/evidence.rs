//! Answers that boxes, tags and sounds know better than a small language model.

use super::event::Evidence;
use super::facts::{
    counted, is_made_by_people, is_sound_source, listed, not_seen, plural, sentence, with_article, with_the,
};
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
        Question::Part { place, kind } => match scene {
            Some(scene) => Some((Evidence::Place, part(place, kind.as_deref(), scene, matcher).await?)),
            None => None,
        },
        Question::Count(noun) => match scene {
            Some(scene) => Some((Evidence::Count, count(noun, scene, matcher).await?)),
            None => None,
        },
        _ => None,
    })
}

/// Whether what is heard comes from something that is seen. Who asks that asks for each thing of the picture in the sound,
/// so guesses at the sound count; of what only sounds while somebody uses it, people may be the ones. Where nothing is
/// heard nobody can tell.
///
/// # Errors
/// Those of the matcher's embedder.
pub async fn relation(scene: &Scene, heard: &Heard, matcher: &Matcher<'_>) -> Result<String> {
    let (sources, names) = (heard.sources(), scene.names());
    let (Some(seen), Some(sound)) = (scene.seen(), heard.facts().filter(|_| !sources.is_empty())) else {
        return Ok("I cannot tell whether the picture and the sound belong together.".into());
    };
    for (_, source) in &sources {
        if let Some(thing) = thing_called(source, &names, matcher).await? {
            let thing = with_the(&scene.things[thing].tag);
            return Ok(format!("The picture and the sound belong together: {thing} fits the sound of {sound}."));
        }
    }
    for (phrase, source) in heard.guessed() {
        if let Some(thing) = thing_called(&source, &names, matcher).await? {
            let thing = with_the(&scene.things[thing].tag);
            return Ok(format!("The picture and the sound may belong together: {thing} fits what may be {phrase}."));
        }
    }
    if let Some((phrase, _)) = sources.iter().find(|(_, source)| is_made_by_people(&source.tag))
        && let Some(people) = Called::find("person", scene, matcher).await?
    {
        let people = people.the_things(scene);
        return Ok(format!(
            "The picture and the sound may belong together: {people} could be making the sound of {phrase}."
        ));
    }
    Ok(format!("The picture and the sound seem unrelated: I see {seen}, but I hear {sound}."))
}

/// The first thing that is called as what makes a sound.
async fn thing_called(source: &Names, names: &[Names], matcher: &Matcher<'_>) -> Result<Option<usize>> {
    let found = matcher.entities(&with_article(&source.tag), names).await?;
    Ok(found.first().and_then(|entity| entity.things.first()).copied())
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

/// The things that a noun names.
struct Called<'a> {
    /// Indices of things, ascending; at least one.
    things: Vec<usize>,
    /// Their other name that the noun means, where it means the tag of none.
    alias: Option<&'a str>,
}

impl<'a> Called<'a> {
    /// Those whose tag the noun means, else those that have the same other name that it means; not those of which only a
    /// wide group is known that it is one of many kinds of. None if there are no such things.
    async fn find(noun: &str, scene: &'a Scene, matcher: &Matcher<'_>) -> Result<Option<Self>> {
        let found = matcher.entities(&format!("the {noun}"), &scene.names()).await?;
        let mut called: Vec<(usize, Option<&str>)> = Vec::new();
        for at in found.into_iter().next().map_or_else(Vec::new, |entity| entity.things) {
            let thing = &scene.things[at];
            if is_wide(&thing.tag) && is_narrower(noun, &thing.tag) {
                continue;
            }
            let is_alike = |other: &Thing| other.tag == thing.tag && other.aliases == thing.aliases;
            let alias = match called.iter().find(|(other, _)| is_alike(&scene.things[*other])) {
                Some((_, alias)) => *alias,
                None => alias_meant(noun, thing, matcher).await?,
            };
            called.push((at, alias));
        }
        let by_tag = called.iter().find(|(_, alias)| alias.is_none());
        let Some((_, alias)) = by_tag.or(called.first()).copied() else { return Ok(None) };
        let things = called.into_iter().filter(|(_, other)| *other == alias).map(|(at, _)| at).collect();
        Ok(Some(Self { things, alias }))
    }

    /// The things in words, counted: by tag, or by the other name.
    fn counted(&self, scene: &Scene) -> String {
        match self.alias {
            Some(alias) => counted(self.things.len(), alias),
            None => grouped(&self.things, scene),
        }
    }

    /// The things with `the` in front: `the dining table`, `the dogs`.
    fn the_things(&self, scene: &Scene) -> String {
        let Some(first) = self.things.first().map(|first| &scene.things[*first]) else { return String::new() };
        match self.things.len() {
            1 => with_the(self.alias.unwrap_or(&first.tag)),
            _ => format!("the {}", plural(self.alias.unwrap_or(common(first)))),
        }
    }

    /// Whether they are only perhaps what the noun names.
    fn is_unsure(&self, scene: &Scene) -> bool {
        self.alias.is_some() || scene.is_unsure(self.things.iter().copied())
    }

    /// The sentence that `said` of the things is, with "perhaps" in front if they are only perhaps what the noun names.
    fn sentence(&self, said: &str, scene: &Scene) -> String {
        if self.is_unsure(scene) { format!("Perhaps {said}.") } else { format!("{}.", sentence(said)) }
    }
}

async fn count(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let Some(called) = Called::find(noun, scene, matcher).await? else { return Ok(not_seen(noun)) };
    let of_one_kind = !is_proper(noun) && called.alias.is_none();
    let said = match called.things.first().filter(|_| of_one_kind) {
        Some(first) => counted(called.things.len(), common(&scene.things[*first])),
        None => called.counted(scene),
    };
    Ok(called.sentence(&format!("I see {said} in the picture"), scene))
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

/// The things that a question is about: those that the noun names, else those that are of that kind, and without a noun
/// those of the most confident tag. None if there are no such things.
async fn things_meant<'a>(noun: Option<&str>, scene: &'a Scene, matcher: &Matcher<'_>) -> Result<Option<Called<'a>>> {
    let things: Vec<usize> = if let Some(noun) = noun {
        if let Some(called) = Called::find(noun, scene, matcher).await? {
            return Ok(Some(called));
        }
        // With several kinds of animals in the picture, no single one is "the animal"; the surest is meant.
        (0..scene.things.len()).filter(|thing| is_kind_of(common(&scene.things[*thing]), noun)).collect()
    } else {
        let first = scene.things.first().map(|first| &first.tag);
        (0..scene.things.len()).filter(|thing| Some(&scene.things[*thing].tag) == first).collect()
    };
    Ok((!things.is_empty()).then_some(Called { things, alias: None }))
}

async fn identity(kind: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let things = things_meant(kind, scene, matcher).await?.map_or_else(Vec::new, |called| called.things);
    let Some(first) = things.first().map(|thing| &scene.things[*thing]) else {
        return Ok(match (kind, kind.and_then(|kind| scene.guess_of_kind(kind))) {
            (_, Some(guess)) => format!("Perhaps it is {}.", with_article(&guess.label)),
            (Some(kind), None) => format!("I see no {kind} that I know."),
            (None, None) => "I see nothing in the picture that I know.".into(),
        });
    };
    let same: Vec<usize> = things.iter().copied().filter(|thing| scene.things[*thing].tag == first.tag).collect();
    let called = counted(same.len(), &first.tag);
    if scene.is_unsure(same.iter().copied()) {
        return Ok(format!("Perhaps {} {called}.", if same.len() > 1 { "these are" } else { "it is" }));
    }
    if same.len() > 1 {
        return Ok(format!("These are {called}."));
    }
    let finer = if is_proper(&first.tag) {
        Some(common(first)).filter(|kind| !first.tag.ends_with(kind)).map(|kind| format!(", {}", with_article(kind)))
    } else {
        let finer = first.aliases.iter().find(|alias| is_kind_of(alias, &first.tag));
        finer.map(|finer| format!(", perhaps {}", with_article(finer)))
    };
    Ok(format!("It is {called}{}.", finer.unwrap_or_default()))
}

async fn color(noun: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let not_seen = || not_seen(noun.unwrap_or("thing that I know"));
    let Some(called) = things_meant(noun, scene, matcher).await? else { return Ok(not_seen()) };
    let Some(colors) = scene.colors(&called.things) else { return Ok(not_seen()) };
    let are = if called.things.len() == 1 { "is" } else { "are" };
    Ok(called.sentence(&format!("{} {are} mostly {colors}", called.the_things(scene)), scene))
}

async fn presence(noun: &str, scene: Option<&Scene>, heard: Option<&Heard>, matcher: &Matcher<'_>) -> Result<String> {
    if let Some(scene) = scene
        && let Some(called) = Called::find(noun, scene, matcher).await?
    {
        let said = called.counted(scene);
        let place = scene.place(called.things.iter().map(|thing| scene.things[*thing].box_px));
        let place = place.unwrap_or("in the picture");
        let perhaps = if called.is_unsure(scene) { "perhaps " } else { "" };
        return Ok(match called.things.as_slice() {
            [one] if is_proper(&scene.things[*one].tag) => format!("Yes, {said} is {place}."),
            [_] => format!("Yes, {perhaps}there is {said} {place}."),
            _ => format!("Yes, {perhaps}there are {said} {place}."),
        });
    }
    if let Some(heard) = heard
        && is_heard(noun, heard, matcher).await?
    {
        return Ok(format!("Yes, I hear {}.", listed(&heard.phrases())));
    }
    if let Some((name, place)) = scene.and_then(|scene| guessed(noun, scene)) {
        return Ok(format!("Yes, perhaps there is {} {place}.", with_article(name)));
    }
    if let Some(phrase) = guessed_sound(noun, heard, matcher).await? {
        return Ok(format!("Yes, perhaps I hear {phrase}."));
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
    match scene.seen() {
        Some(seen) => format!("{}, but {seen}.", not_seen.trim_end_matches('.')),
        None => not_seen,
    }
}

/// What may be the noun, and where; what is asked for by name needs less than what is told unasked.
fn guessed<'a>(noun: &str, scene: &'a Scene) -> Option<(&'a str, &'static str)> {
    let tag = scene.guess(noun)?;
    Some((&tag.label, scene.place(tag.box_px.into_iter()).unwrap_or("in the picture")))
}

/// Whether something that the noun names is heard. A bird that is heard is no owl, or it would have been heard as one, but it
/// may be a sparrow, for which there is no label; a label of both, such as `Chicken, rooster`, means either. What somebody
/// taught is heard by its own name alone.
async fn is_heard(noun: &str, heard: &Heard, matcher: &Matcher<'_>) -> Result<bool> {
    let singular = noun.strip_suffix('s').unwrap_or(noun);
    let has_label = [noun, singular].into_iter().any(is_sound_source);
    let mut names = heard.names();
    names.retain(|source| {
        let is_labelled = source.aliases.iter().any(|alias| alias == noun || alias == singular);
        let is_wider = has_label && !is_labelled && is_narrower(noun, &source.tag);
        if is_proper(noun) { is_proper(&source.tag) } else { !is_wider }
    });
    Ok(!matcher.entities(&format!("the {noun}"), &names).await?.is_empty())
}

/// What may be the sound of the noun, in words: not what is only known to be of a wider kind, nor what somebody taught,
/// which is known or is not there.
async fn guessed_sound(noun: &str, heard: Option<&Heard>, matcher: &Matcher<'_>) -> Result<Option<String>> {
    let Some(heard) = heard.filter(|_| !is_proper(noun)) else { return Ok(None) };
    for (phrase, source) in heard.guessed() {
        let is_wider = is_narrower(noun, &source.tag);
        if !is_wider && !matcher.entities(&format!("the {noun}"), &[source]).await?.is_empty() {
            return Ok(Some(phrase));
        }
    }
    Ok(None)
}

async fn place(noun: &str, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let Some(called) = Called::find(noun, scene, matcher).await? else {
        let perhaps = guessed(noun, scene).map(|(name, place)| format!("Perhaps {} is {place}.", with_the(name)));
        return Ok(perhaps.unwrap_or_else(|| not_seen_but(noun, scene)));
    };
    let mut places: Vec<String> = Vec::new();
    let mut tags: Vec<&str> = Vec::new();
    for thing in called.things.iter().map(|thing| &scene.things[*thing]) {
        let place = scene.place(std::iter::once(thing.box_px)).unwrap_or("in the picture").to_owned();
        if !places.contains(&place) {
            places.push(place);
        }
        tags.push(&thing.tag);
    }
    let (places, first) = (listed(&places), called.alias.or(tags.first().copied()).unwrap_or(noun));
    let one_name = called.alias.is_some() || tags.iter().all(|tag| *tag == first);
    let said = match called.things.len() {
        1 => format!("{} is {places}", with_the(first)),
        count if one_name => format!("the {} are {places}", counted(count, first)),
        _ => format!("{} are {places}", called.counted(scene)),
    };
    Ok(called.sentence(&said, scene))
}

/// What is in that part of the picture, of that kind if one is given.
async fn part(place: &str, kind: Option<&str>, scene: &Scene, matcher: &Matcher<'_>) -> Result<String> {
    let mut things: Vec<usize> = (0..scene.things.len()).collect();
    things.retain(|thing| scene.place(std::iter::once(scene.things[*thing].box_px)) == Some(place));
    if let Some(kind) = kind {
        // "The animal" means one thing, so only those in that part are asked.
        let all = scene.names();
        let names: Vec<Names> = things.iter().map(|thing| all[*thing].clone()).collect();
        let found = matcher.entities(&format!("the {kind}"), &names).await?;
        let meant = found.into_iter().flat_map(|entity| entity.things);
        things = meant.map(|at| things[at]).collect();
    }
    if things.is_empty() {
        return Ok(format!(
            "I see {} {place}.",
            kind.map_or("nothing that I know".into(), |kind| format!("no {kind}"))
        ));
    }
    let perhaps = if scene.is_unsure(things.iter().copied()) { "Perhaps " } else { "" };
    Ok(format!("{perhaps}I see {} {place}.", grouped(&things, scene)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grounding::Tag;
    use crate::media::{BoxPx, Mask, RgbImage};
    use crate::session::scene::tests::heard;

    /// A black picture, which the tagger half takes for a squirrel.
    fn scene(things: &[(&str, &[&str])]) -> Scene {
        let thing = |(at, (tag, aliases)): (usize, &(&str, &[&str]))| Thing {
            tag: (*tag).into(),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            score: 0.8,
            box_px: BoxPx { x0: 40.0 * at as f32, y0: 0.0, x1: 40.0 * at as f32 + 20.0, y1: 10.0 },
            mask: Mask::new(100, 10, vec![true; 1000]),
            taught: is_proper(tag),
        };
        let image = RgbImage::new(100, 10, vec![0; 3000]).expect("100 × 10 pixels");
        let mut scene = Scene::new(&image, things.iter().enumerate().map(thing).collect());
        scene.guesses = vec![Tag { label: "fox squirrel".into(), score: 0.2, box_px: None, kind: None }];
        scene
    }

    fn answered(question: &str, scene: Option<&Scene>, heard: Option<&Heard>) -> String {
        let (question, matcher) = (Question::parse(question), Matcher::default());
        let answer = pollster::block_on(answer(&question, scene, heard, &matcher));
        answer.expect("word lists do not fail").expect("evidence answers such questions").1
    }

    /// What is answered about it.
    fn asked(question: &str, things: &[(&str, &[&str])]) -> String {
        answered(question, Some(&scene(things)), None)
    }

    /// What is answered about a sound with that label and guesses at it, and of the picture if there are things in it.
    fn heard_and_asked(question: &str, things: &[(&str, &[&str])], label: &str, guesses: &[&str]) -> String {
        let mut heard = heard(&[(label, 0.9, 0.0, 5.0)]);
        heard.guesses = guesses.iter().map(|guess| (*guess).to_owned()).collect();
        answered(question, (!things.is_empty()).then(|| scene(things)).as_ref(), Some(&heard))
    }

    #[test]
    fn what_is_unsure_is_said_with_perhaps() {
        let mut scene = scene(&[("kite", &[]), ("boat", &["canoe"]), ("boat", &["canoe"])]);
        scene.things.iter_mut().for_each(|thing| thing.score = 0.4);
        for (question, expected) in [
            ("What is it?", "Perhaps it is a kite."),
            ("Is there a kite?", "Yes, perhaps there is a kite on the left."),
            ("How many boats are there?", "Perhaps I see two boats in the picture."),
            ("Where is the kite?", "Perhaps the kite is on the left."),
            ("What colour are the boats?", "Perhaps the boats are mostly black."),
            ("Where is the horse?", "I see no horse in the picture, but perhaps a kite on the left and two boats."),
        ] {
            assert_eq!(answered(question, Some(&scene), None), expected, "{question}");
        }
        scene.things[1].score = 0.7;
        let boats = answered("How many boats are there?", Some(&scene), None);
        assert_eq!(boats, "I see two boats in the picture.", "where there is one, a second is likelier");
    }

    #[test]
    fn a_sound_belongs_to_what_makes_it() {
        let question = "Do the picture and the sound belong together?";
        let cow: [(&str, &[&str]); 1] = [("cow", &[])];
        let people: [(&str, &[&str]); 2] = [("person", &[]); 2];
        for (things, label, guesses, expected) in [
            (
                &cow[..],
                "Moo",
                &[][..],
                "The picture and the sound belong together: the cow fits the sound of a cow mooing.",
            ),
            (
                &cow,
                "Speech",
                &["Moo"],
                "The picture and the sound may belong together: the cow fits what may be a cow mooing.",
            ),
            (
                &people,
                "Trumpet",
                &[],
                "The picture and the sound may belong together: the people could be making the sound of a trumpet.",
            ),
            (
                &cow,
                "Trumpet",
                &[],
                "The picture and the sound seem unrelated: I see a cow on the left, but I hear a trumpet.",
            ),
            (&cow, "Silence", &[], "I cannot tell whether the picture and the sound belong together."),
        ] {
            assert_eq!(heard_and_asked(question, things, label, guesses), expected);
        }
    }

    #[test]
    fn who_asks_for_a_sound_hears_of_guesses() {
        assert_eq!(heard_and_asked("Do you hear a cow?", &[], "Moo", &[]), "Yes, I hear a cow mooing.");
        assert_eq!(heard_and_asked("Do you hear a cow?", &[], "Speech", &["Moo"]), "Yes, perhaps I hear a cow mooing.");
        assert_eq!(heard_and_asked("Do you hear a cow?", &[], "Speech", &[]), "No, I hear no cow.");
        assert_eq!(heard_and_asked("Do you hear an owl?", &[], "Speech", &["Bird"]), "No, I hear no owl.");
        assert_eq!(heard_and_asked("Do you hear our owl?", &[], "Speech", &["Owl"]), "No, I do not hear our owl.");
    }

    #[test]
    fn what_is_where_is_told() {
        let things: [(&str, &[&str]); 3] = [("chair", &[]), ("dog", &["golden retriever"]), ("Rex", &["cat"])];
        for (question, expected) in [
            ("What is on the left?", "I see a chair on the left."),
            ("What do you see in the middle of the picture?", "I see a dog in the middle."),
            ("Which animals are on the left?", "I see no animals on the left."),
            ("Which animals are on the right?", "I see Rex on the right."),
            ("What is the animal in the middle?", "I see a dog in the middle."),
        ] {
            assert_eq!(asked(question, &things), expected, "{question}");
        }
        assert_eq!(asked("What's on the right?", &things[..1]), "I see nothing that I know on the right.");
        let mut scene = scene(&things);
        scene.things[0].score = 0.4;
        assert_eq!(answered("What is on the left?", Some(&scene), None), "Perhaps I see a chair on the left.");
    }

    #[test]
    fn to_hear_a_bird_is_not_to_hear_every_bird() {
        assert_eq!(heard_and_asked("Do you hear a bird?", &[], "Owl", &[]), "Yes, I hear an owl.");
        assert_eq!(heard_and_asked("Do you hear a bird?", &[], "Bird", &[]), "Yes, I hear a bird.");
        assert_eq!(heard_and_asked("Do you hear an owl?", &[], "Bird", &[]), "No, I hear no owl.");
        assert_eq!(heard_and_asked("Do you hear owls?", &[], "Bird", &[]), "No, I hear no owls.");
        let rooster = heard_and_asked("Do you hear a rooster?", &[], "Chicken, rooster", &[]);
        assert_eq!(rooster, "Yes, I hear a chicken.", "the label names both");
        assert_eq!(heard_and_asked("Do you hear a sparrow?", &[], "Bird", &[]), "Yes, I hear a bird.");
        assert_eq!(heard_and_asked("Do you hear our owl?", &[], "Bird", &[]), "No, I do not hear our owl.");
        assert_eq!(heard_and_asked("Do you hear our owl?", &[], "Owl", &[]), "No, I do not hear our owl.");
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
        let chair: (&str, &[&str]) = ("chair", &["dining table"]);
        assert_eq!(
            asked("Are there tables?", &[chair, chair]),
            "Yes, perhaps there are two dining tables in the picture."
        );
        let table: (&str, &[&str]) = ("dining table", &[]);
        for (question, expected) in [
            ("Are there tables?", "Yes, there is a dining table in the middle."),
            ("How many tables are there?", "I see a dining table in the picture."),
            ("Where is the table?", "The dining table is in the middle."),
            ("Where are the chairs?", "The chair is on the left."),
            ("What colour is the table?", "The dining table is mostly black."),
        ] {
            assert_eq!(asked(question, &[chair, table]), expected, "{question}: what is surely one counts");
        }
        assert_eq!(asked("What colour is the table?", &[chair]), "Perhaps the dining table is mostly black.");
        assert_eq!(asked("What animal is it?", &[chair]), "Perhaps it is a fox squirrel.");
        assert_eq!(asked("What fruit is it?", &[chair]), "I see no fruit that I know.");
    }
}

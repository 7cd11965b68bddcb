//! A language model asked which words of an answer mean which things, in the original's wire format.
//!
//! The original asks a service on the internet; here the session's own model is asked, and may say nothing but pairs of
//! the answer and the list (see [`PairGrammar`]).

use async_trait::async_trait;

use super::original::{query, shot};
use super::pairs::Pairing;
use crate::error::Result;
use crate::host::Host;
use crate::language::{Chat, Message, PairGrammar, Role};

/// Longest reply, in tokens: some thirty pairs.
const LONGEST_REPLY: usize = 300;

/// What the model is told first.
const INSTRUCTIONS: &str = "You get a list of the things that are seen in a picture, and a text about the picture. \
    Find the words of the text that name a thing of the list, with the same or a similar meaning. Answer with one line \
    for each pair: the words exactly as they stand in the text, then \" - \", then the item exactly as it stands in the \
    list. Give at most one item for the same words. Say nothing else.";

/// An exchange that shows how it is done.
struct Example {
    names: &'static [&'static str],
    text: &'static str,
    pairs: &'static str,
}

/// The kinds of the original's examples: a dog; bicycle and train; horses; a restaurant's table; breakfast; a street with
/// dogs. Names of several words are those of a detector that merges tags.
const EXAMPLES: [Example; 6] = [
    Example {
        names: &["dog", "grass", "ball"],
        text: "A brown dog runs over the lawn after a red ball.",
        pairs: "brown dog - dog\nlawn - grass\nred ball - ball",
    },
    Example {
        names: &["bicycle", "train", "platform"],
        text: "A bike leans against the wall while a red train pulls in.",
        pairs: "bike - bicycle\nred train - train",
    },
    Example {
        names: &["horse", "field", "mountain", "fence"],
        text: "A herd of horses grazes in the meadow below the hills.",
        pairs: "horses - horse\nmeadow - field\nhills - mountain",
    },
    Example {
        names: &[
            "table",
            "wine glass",
            "plate platter",
            "candle",
            "person man",
            "person woman",
            "chair",
            "fork",
            "knife",
            "menu",
            "lamp",
            "window",
            "napkin",
            "salad food",
        ],
        text: "A couple sits at a small table in a dim restaurant. The man reads the menu, and the woman lifts her \
            glass of red wine. Between them burns a candle, and a green salad waits on a white plate. Nobody has touched \
            the cutlery yet.",
        pairs: "small table - table\nman - person man\nmenu - menu\nwoman - person woman\nglass - wine glass\n\
            candle - candle\ngreen salad - salad food\nwhite plate - plate platter",
    },
    Example {
        names: &[
            "coffee cup",
            "plate",
            "egg",
            "bacon",
            "toast bread",
            "orange juice",
            "glass",
            "fork",
            "knife",
            "spoon",
            "butter",
            "jam",
            "table",
            "newspaper",
            "bowl",
            "fruit berry",
        ],
        text: "Breakfast is ready: fried eggs and bacon on a plate, two slices of toast with butter, a mug of coffee and \
            a glass of juice. Beside the paper stands a bowl of strawberries.",
        pairs: "fried eggs - egg\nbacon - bacon\nplate - plate\ntoast - toast bread\nbutter - butter\n\
            mug of coffee - coffee cup\njuice - orange juice\npaper - newspaper\nbowl - bowl\n\
            strawberries - fruit berry",
    },
    Example {
        names: &["dog pet", "person", "street road", "car", "leash", "dog"],
        text: "A lady walks two puppies down the road; a parked van blocks the pavement.",
        pairs: "lady - person\npuppies - dog\nroad - street road\nvan - car",
    },
];

/// A language model that is asked for pairs.
#[derive(Clone, Copy)]
pub struct AskedModel<'a> {
    /// Whose model is asked; its conversation is not touched.
    pub chat: &'a Chat,
    /// Where this runs.
    pub host: &'a dyn Host,
    /// How many of the original's six examples come first; each costs some hundred tokens of prompt, once.
    pub examples: usize,
}

impl AskedModel<'_> {
    /// What the model reads.
    pub fn messages(&self, answer: &str, names: &[String]) -> Vec<Message> {
        let mut messages = vec![Message::text(Role::System, INSTRUCTIONS)];
        for Example { names, text, pairs } in EXAMPLES.iter().take(self.examples) {
            messages.push(Message::text(Role::User, shot(names, text)));
            // The original gives these as a second message of the system, which few chat templates take.
            messages.push(Message::text(Role::Assistant, *pairs));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        messages.push(Message::text(Role::User, query(&names, answer)));
        messages
    }
}

#[async_trait(?Send)]
impl Pairing for AskedModel<'_> {
    async fn reply(&self, answer: &str, names: &[String]) -> Result<String> {
        let listed: Vec<&str> = names.iter().map(String::as_str).collect();
        let grammar = PairGrammar::new(answer, &listed);
        self.chat.reply_in_pairs(self.host, &self.messages(answer, names), &grammar, LONGEST_REPLY).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::grammar::SEPARATOR;

    /// The examples keep the rule that the model is held to.
    #[test]
    fn examples_follow_the_grammar() {
        for Example { names, text, pairs } in &EXAMPLES {
            let grammar = PairGrammar::new(text, names);
            let end = pairs.bytes().try_fold(grammar.start(), |state, byte| grammar.step(&state, byte));
            assert!(end.is_some_and(|state| grammar.may_end(&state)), "{pairs}");
            assert!(pairs.lines().all(|line| line.contains(SEPARATOR)));
        }
    }
}

//! Patterns of tensor names, so that a naming table is two columns that read like the checkpoints.

use std::collections::BTreeMap;

use super::names::Target;

/// Rows of a naming table: the original's pattern, another checkpoint's pattern.
///
/// In both `N` stands for a number and `*` for `weight` or `bias`, each between dots; the same placeholders stand in the
/// same order on both sides.
pub type Rows = &'static [(&'static str, &'static str)];

/// The name that `name`, of the form `pattern`, has in the form `target`; `None` if it is not of that form.
pub fn renamed(name: &str, pattern: &str, target: &str) -> Option<String> {
    let mut filled = Vec::new();
    let (mut parts, mut forms) = (name.split('.'), pattern.split('.'));
    loop {
        match (parts.next(), forms.next()) {
            (Some(part), Some("N")) if is_number(part) => filled.push(part),
            (Some(part @ ("weight" | "bias")), Some("*")) => filled.push(part),
            (Some(part), Some(form)) if part == form && !matches!(form, "N" | "*") => {}
            (None, None) => break,
            _ => return None,
        }
    }
    let mut filled = filled.into_iter();
    let parts: Option<Vec<&str>> =
        target.split('.').map(|form| if matches!(form, "N" | "*") { filled.next() } else { Some(form) }).collect();
    Some(parts?.join("."))
}

/// Whether `name` has the form of one of `patterns`.
pub fn is_any(name: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| renamed(name, pattern, pattern).is_some())
}

/// The original's own name, if a row has its form.
pub fn original(name: &str, rows: Rows) -> Option<Target> {
    rows.iter().any(|(original, _)| renamed(name, original, original).is_some()).then(|| Target::Whole(name.to_owned()))
}

/// The original's name of a tensor of the other checkpoint.
pub fn translated(name: &str, rows: Rows) -> Option<Target> {
    rows.iter().find_map(|(original, other)| renamed(name, other, original)).map(Target::Whole)
}

/// One size of a tensor's shape, or what is usual.
pub fn size(shapes: &BTreeMap<String, Vec<usize>>, name: &str, axis: usize, usual: usize) -> usize {
    shapes.get(name).and_then(|dims| dims.get(axis)).copied().unwrap_or(usual)
}

/// How many tensors have a name of that form.
pub fn count(shapes: &BTreeMap<String, Vec<usize>>, pattern: &str) -> usize {
    shapes.keys().filter(|name| renamed(name, pattern, pattern).is_some()).count()
}

/// Only digits as they are written: neither a sign nor zeros in front.
fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_into_the_other_form() {
        let cases = [
            ("blocks.12.norm1.bias", "blocks.N.norm1.*", "layers.N.layer_norm1.*", Some("layers.12.layer_norm1.bias")),
            ("a.3.b.0.weight", "a.N.b.0.*", "x.N.y.*", Some("x.3.y.weight")),
            ("pos", "pos", "position", Some("position")),
            ("blocks.012.norm1.bias", "blocks.N.norm1.*", "x.N.*", None),
            ("blocks.1.norm1.scale", "blocks.N.norm1.*", "x.N.*", None),
            ("blocks.1.norm1", "blocks.N.norm1.*", "x.N.*", None),
            ("blocks.1.norm1.bias.x", "blocks.N.norm1.*", "x.N.*", None),
            ("blocks.N.norm1.bias", "blocks.N.norm1.*", "x.N.*", None),
            ("a.*", "a.*", "b.*", None),
        ];
        for (name, pattern, target, expected) in cases {
            assert_eq!(renamed(name, pattern, target).as_deref(), expected, "{name} as {pattern}");
        }
    }
}

//! Rust source without what is not code: comments, the insides of strings, and test modules.

/// Replaces comments and the contents of string and character literals by spaces; line numbers stay.
pub fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut kept = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'r' if !is_name_before(bytes, at) && is_raw_string(bytes, at) => raw_string_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut kept[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Only whole literals and comments were replaced, by ASCII.
    String::from_utf8_lossy(&kept).into_owned()
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| from + length)
}

fn block_comment_end(bytes: &[u8], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn is_name_before(bytes: &[u8], at: usize) -> bool {
    // `b` may stand before a raw string.
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') && bytes[at - 1] != b'b'
}

fn is_raw_string(bytes: &[u8], at: usize) -> bool {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = at + hashes + 2;
    bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing)
        .map_or(bytes.len(), |length| body + length + closing.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            b'"' => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// A character literal's end; `at` itself for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    if bytes.get(at + 1) == Some(&b'\\') {
        let from = at + 3;
        return bytes[from.min(bytes.len())..]
            .iter()
            .position(|&byte| byte == b'\'')
            .map_or(bytes.len(), |length| from + length + 1);
    }
    let is_literal = |length: &usize| bytes.get(at + 1 + length) == Some(&b'\'');
    // One character is one to four bytes long; `'a` followed by anything else is a lifetime.
    (1..=4).find(is_literal).filter(|&length| length == 1 || bytes[at + 1] >= 0x80).map_or(at, |length| at + length + 2)
}

/// Removes `#[cfg(test)]` and `#[cfg(all(test, …))]` modules and functions from code that has no comments and strings; line numbers stay.
pub fn without_tests(code: &str) -> String {
    const MARKS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = MARKS.iter().filter_map(|mark| rest.find(mark)).min() {
        let (before, marked) = rest.split_at(start);
        kept.push_str(before);
        let length = item_length(marked);
        kept.extend(marked[..length].chars().filter(|&character| character == '\n'));
        rest = &marked[length..];
    }
    kept.push_str(rest);
    kept
}

/// The length of an item that ends with `;` or with its closing brace.
fn item_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_go_and_code_stays() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x \\\" y\", z)", "f(        , z)"),
            ("r#\"a \" b\"# + c", "           + c"),
            ("for<'a> fn(&'a str) 'x' '\\n' y", "for<'a> fn(&'a str)          y"),
            ("'\\'' b", "     b"),
            ("let 'ß' = x;", "let      = x;"),
        ];
        for (text, expected) in cases {
            assert_eq!(without_comments_and_strings(text), expected, "{text}");
        }
    }

    #[test]
    fn tests_go() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { c() }\n}\nfn d() {}\n#[cfg(all(test, unix))]\nuse e;\nfn f() {}";
        let kept = without_tests(code);
        assert!(kept.contains("fn a") && kept.contains("fn d") && kept.contains("fn f"), "{kept}");
        assert!(!kept.contains("fn b") && !kept.contains("use e"), "{kept}");
        assert_eq!(kept.lines().count(), code.lines().count());
    }
}

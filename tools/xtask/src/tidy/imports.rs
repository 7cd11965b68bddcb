//! Who may name whom: modules import only what `src/lib.rs` declares above them, and each outside library that ties
//! the program to a platform has one folder.

use anyhow::{Context, Result};

use super::{
    SourceFile,
    source::{without_comments_and_strings, without_tests},
};

/// A library and the one folder that may name it.
const HOMES: [(&str, &str); 6] = [
    ("wgpu", "src/tensor/gpu/"),
    ("naga", "src/tensor/gpu/"),
    ("wasm_bindgen", "src/web/"),
    ("js_sys", "src/web/"),
    ("web_sys", "src/web/"),
    ("gloo", "src/web/"),
];

/// What would end a user's page, or was left behind.
const REFUSED_CALLS: [&str; 7] =
    [".unwrap()", ".unwrap_err()", "panic!", "todo!", "unimplemented!", "dbg!", "println!"];

/// Checks every file of `src/`.
pub fn check(files: &[SourceFile]) -> Result<Vec<String>> {
    let guide = files.iter().find(|file| file.path == "src/lib.rs").context("there is no src/lib.rs")?;
    let order = declared_modules(&guide.text);
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && file.path.ends_with(".rs")) {
        let code = without_tests(&without_comments_and_strings(&file.text));
        // Modules of tests in files of their own.
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        if is_test {
            continue;
        }
        findings.extend(check_order(&file.path, &code, &order));
        findings.extend(check_homes(&file.path, &code));
        findings.extend(check_calls(&file.path, &code));
    }
    Ok(findings)
}

/// The modules of `lib.rs`, in their order.
fn declared_modules(lib: &str) -> Vec<String> {
    let code = without_tests(&without_comments_and_strings(lib));
    let declarations = code.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let name = line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod "))?;
        Some(name.trim().to_owned())
    });
    declarations.collect()
}

fn check_order(path: &str, code: &str, order: &[String]) -> Vec<String> {
    let position = |name: &str| order.iter().position(|module| module == name);
    let inner = path.trim_start_matches("src/");
    let own_name = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
    let Some(own) = position(own_name) else { return Vec::new() };
    let mut findings = Vec::new();
    for (line, name) in crate_imports(code) {
        // The root re-exports the error type.
        let name = if name == "Error" || name == "Result" { "error" } else { name };
        match position(name) {
            Some(other) if other > own => {
                findings.push(format!("{path}:{line}: `{own_name}` imports `{name}`, which lib.rs declares below it"));
            }
            Some(_) => {}
            None => findings.push(format!("{path}:{line}: `crate::{name}` is no module of lib.rs; name its module")),
        }
    }
    findings
}

/// Line numbers and first names of `crate::…` paths, also in groups `crate::{a, b::c}`.
fn crate_imports(code: &str) -> Vec<(usize, &str)> {
    const ROOT: &str = "crate::";
    let mut found = Vec::new();
    for (at, _) in code.match_indices(ROOT) {
        // `$crate::` of a macro is the same root; `xcrate::` is another name.
        let is_word = code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
        if is_word {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + ROOT.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).into_iter().map(|name| (line, name))),
            None => found.push((line, leading_name(rest))),
        }
    }
    found.retain(|(_, name)| !name.is_empty());
    found
}

/// The first names of a group's members, up to its closing brace.
fn group_heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(leading_name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(leading_name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads
}

fn leading_name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
    &text[..end]
}

fn check_homes(path: &str, code: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (library, home) in HOMES.iter().filter(|(_, home)| !path.starts_with(home)) {
        for (number, line) in code.lines().enumerate() {
            if names_library(line, library) {
                findings.push(format!("{path}:{}: `{library}` may be named in {home} only", number + 1));
            }
        }
    }
    findings
}

/// Whether a line has a path that starts with the library, or with one of its parts (`gloo_timers` for `gloo`).
fn names_library(line: &str, library: &str) -> bool {
    line.match_indices(library).any(|(at, _)| {
        let starts =
            !line[..at].ends_with(|before: char| before.is_alphanumeric() || matches!(before, '_' | '.' | ':'));
        let rest = line[at + library.len()..]
            .trim_start_matches(|character: char| character.is_alphanumeric() || character == '_');
        let is_imported = line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ");
        starts && (rest.starts_with("::") || is_imported)
    })
}

fn check_calls(path: &str, code: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for call in REFUSED_CALLS {
            let is_called = line.match_indices(call).any(|(at, _)| {
                call.starts_with('.') || !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            if is_called {
                findings.push(format!("{path}:{}: `{call}` has no place in shipped code", number + 1));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let lib =
            "pub mod error;\n\npub mod bundle;\npub mod tensor;\n#[cfg(target_arch = \"wasm32\")]\npub mod web;\n";
        let file = |path: &str, text: &str| SourceFile { path: path.into(), text: text.into() };
        check(&[file("src/lib.rs", lib), file(path, text)]).unwrap()
    }

    #[test]
    fn imports_go_upwards_only() {
        let cases = [
            ("src/tensor/mod.rs", "use crate::bundle::Shard;", 0),
            ("src/tensor/mod.rs", "use crate::{Result, bundle::{A, web}, error::Error, tensor::B};", 0),
            ("src/bundle/mod.rs", "use crate::tensor::Tensor;", 1),
            ("src/bundle/mod.rs", "use crate::{\n    error::Error,\n    tensor::{Tensor},\n};", 1),
            ("src/bundle/mod.rs", "fn f(t: &crate::tensor::Tensor) {}", 1),
            ("src/bundle/mod.rs", "// crate::tensor is below\n/// [`crate::tensor`]\nfn f() {}", 0),
            ("src/bundle/mod.rs", "#[cfg(test)]\nmod tests { use crate::tensor::T; }", 0),
            ("src/bundle/mod.rs", "use crate::nothing::N;", 1),
        ];
        for (path, text, expected) in cases {
            let found = findings(path, text);
            assert_eq!(found.len(), expected, "{path}: {text}: {found:?}");
        }
    }

    #[test]
    fn platform_libraries_stay_at_home() {
        let cases = [
            ("src/tensor/gpu/device.rs", "use wgpu::Device;", 0),
            ("src/tensor/mod.rs", "use wgpu::Device;", 1),
            ("src/tensor/mod.rs", "fn f(d: wgpu::Device) {}", 1),
            ("src/tensor/mod.rs", "let wgpu = 1; // wgpu::Device", 0),
            ("src/web/mod.rs", "use wasm_bindgen::prelude::*;", 0),
            ("src/bundle/mod.rs", "use gloo_timers::future;", 1),
            ("src/bundle/mod.rs", "#[wasm_bindgen::prelude::wasm_bindgen]\nfn f() {}", 1),
        ];
        for (path, text, expected) in cases {
            let found = findings(path, text);
            assert_eq!(found.len(), expected, "{path}: {text}: {found:?}");
        }
    }

    #[test]
    fn calls_that_end_the_page_are_found() {
        let cases = [
            ("a.unwrap();", 1),
            ("a.unwrap_or(0); b.expect(\"panic! is no call here\");", 0),
            ("panic!(\"x\")", 1),
            ("core::panic!(\"x\")", 1),
            ("todo!()", 1),
            ("#[cfg(test)]\nmod tests { fn f() { a.unwrap(); panic!() } }", 0),
            ("eprintln!(\"x\")", 0),
        ];
        for (text, expected) in cases {
            let found = findings("src/bundle/mod.rs", text);
            assert_eq!(found.len(), expected, "{text}: {found:?}");
        }
    }
}

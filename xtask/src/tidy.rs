//! House rules about files that no other tool checks, as tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Longest source file, in lines: files are about one concern.
const LONGEST: usize = 400;

/// Words for unfinished work, in pieces so that this file does not contain them.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Starts of paths that exist on one machine only.
const PRIVATE_PATHS: [&str; 3] = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];

/// Extensions of what people write here.
const TEXT: [&str; 7] = ["rs", "toml", "md", "sh", "yml", "json", "service"];

/// What is wrong with one file.
fn problems(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("{}:{line}: {what}", path.display()));
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    for (number, line) in text.lines().enumerate() {
        let unfinished = UNFINISHED.iter().filter(|word| line.contains(**word));
        for word in unfinished.chain(PRIVATE_PATHS.iter().filter(|start| names_path(line, start))) {
            say(number + 1, format!("contains `{word}`"));
        }
        if line.ends_with([' ', '\t']) {
            say(number + 1, "blanks at the end of the line".into());
        }
    }
    // The name of `tests.rs` says it all.
    let named = path.file_name().is_some_and(|name| name == "tests.rs");
    if rust && !named && !text.starts_with("//!") && !text.starts_with("#!") {
        say(1, "does not start with `//!`, a sentence about what the file is for".into());
    }
    let lines = text.lines().count();
    if rust && lines > LONGEST {
        say(lines, format!("{lines} lines, over {LONGEST}: split by concern"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        say(lines, "no newline at the end".into());
    }
    if path.extension().is_some_and(|extension| extension == "md") {
        for link in dead_links(path, text) {
            say(1, format!("link to `{link}`, which is not there"));
        }
    }
    found
}

/// Whether an absolute path that begins with `start` stands in the line, and not just a part of a longer path.
fn names_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.}*".contains(c)))
}

/// Relative links of a Markdown file that lead nowhere.
fn dead_links<'a>(path: &Path, text: &'a str) -> Vec<&'a str> {
    let dir = path.parent().unwrap_or(Path::new(""));
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"))
        .filter(|link| !dir.join(link).exists())
        .collect()
}

/// The lines of a manifest's lint tables, with their names as a crate has them.
fn lints(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        let line = line.replace("[workspace.lints", "[lints");
        if line.starts_with('[') {
            inside = line.starts_with("[lints");
        }
        if inside && !line.is_empty() && !line.starts_with('#') {
            found.push(line);
        }
    }
    found
}

/// The text files of the repository.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| TEXT.iter().any(|text| extension == *text)) {
            found.push(path);
        }
    }
}

#[test]
fn the_repository_is_tidy() {
    let layout = wavnet_ebpf_builder::Layout::discover().unwrap();
    let mut paths = Vec::new();
    files(layout.workspace(), &mut paths);
    assert!(paths.len() > 20, "the repository was found");
    let problems: Vec<String> =
        paths.iter().flat_map(|path| problems(path, &fs::read_to_string(path).unwrap())).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Cargo lets a crate inherit lints from its own workspace only.
#[test]
fn crates_apart_have_the_lints_of_the_workspace() {
    let layout = wavnet_ebpf_builder::Layout::discover().unwrap();
    let of = |manifest: &str| lints(&fs::read_to_string(layout.workspace().join(manifest)).unwrap());
    let wanted = of("Cargo.toml");
    assert!(wanted.iter().any(|line| line.starts_with("undocumented_unsafe_blocks")), "{wanted:?}");
    for apart in ["wavnet-ebpf/Cargo.toml", "fuzz/Cargo.toml"] {
        assert_eq!(of(apart), wanted, "{apart}");
    }
    assert_eq!(lints("[lints.rust]\na = 1\n\n# why\n[profile.x]\nb = 2\n"), ["[lints.rust]", "a = 1"]);
}

#[test]
fn every_rule_bites() {
    let first = |path: &str, text: &str| problems(Path::new(path), text).join("; ");
    assert_eq!(first("a.rs", "//! Fine.\n"), "");
    assert!(first("a.rs", &format!("//! A.\n// {}\n", UNFINISHED[0])).starts_with("a.rs:2: contains"));
    assert!(first("a.md", &format!("see {}me\n", PRIVATE_PATHS[0])).contains("a.md:1: contains"));
    assert_eq!(first("a.md", &format!("see $HOME/x{}me\n", PRIVATE_PATHS[0])), "", "part of another path");
    assert!(first("a.rs", "//! A. \n").contains("blanks"));
    assert!(first("a.rs", "fn main() {}\n").contains("`//!`"));
    assert!(first("a.rs", &"//! A.\n".repeat(LONGEST + 1)).contains("split"));
    assert!(first("a.toml", "a = 1").contains("newline"));
    assert!(first("/nonexistent/a.md", "[b](b.md), [c](https://example.org)\n").contains("`b.md`"));
}

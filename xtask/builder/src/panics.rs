//! Looks for reachable panics: they compile and link, and then the verifier says only that the last instruction is
//! neither an exit nor a jump.

use crate::elf::{self, Function};

/// Finds the panics an object still contains: one call chain for each, from a program to the panic.
///
/// # Errors
///
/// One clause that says why the file is no eBPF object.
pub(crate) fn find(object: &[u8]) -> Result<Vec<String>, String> {
    let functions = elf::functions(object)?;
    // The first function on the way down that is core's own; what it calls in turn would only repeat it.
    let panics = (0..functions.len()).filter(|&index| {
        is_panic(&functions[index].name)
            && !functions.iter().any(|caller| is_panic(&caller.name) && caller.calls.contains(&index))
    });
    Ok(panics.map(|index| chain(&functions, index)).collect())
}

/// Whether a mangled symbol (either scheme) is part of core's panicking.
fn is_panic(name: &str) -> bool {
    [
        "4core9panicking",
        "rust_begin_unwind",
        "6option13unwrap_failed",
        "6option13expect_failed",
        "6result13unwrap_failed",
        "4core5slice5index",
        "4core3str16slice_error_fail",
        "4core4cell22panic_",
    ]
    .iter()
    .any(|part| name.contains(part))
        && !name.contains("SliceIndex")
}

/// The shortest way from a function that nobody calls to `target`, as readable names.
fn chain(functions: &[Function], target: usize) -> String {
    let mut next = vec![None; functions.len()];
    let mut seen = vec![false; functions.len()];
    seen[target] = true;
    let mut queue = std::collections::VecDeque::from([target]);
    let mut top = target;
    while let Some(callee) = queue.pop_front() {
        let mut called = false;
        for (caller, function) in functions.iter().enumerate() {
            if function.calls.contains(&callee) {
                called = true;
                if !seen[caller] {
                    seen[caller] = true;
                    next[caller] = Some(callee);
                    queue.push_back(caller);
                }
            }
        }
        if !called {
            top = callee;
            break;
        }
    }
    let way = std::iter::successors(Some(top), |&at| next[at]);
    let names: Vec<String> = way.map(|at| readable(&functions[at].name)).collect();
    format!("{} (section {})", names.join(" -> "), functions[top].section)
}

/// The path within a mangled name, good enough to recognise it: `_ZN4core9panicking5panic17h…E` and
/// `_RNvNtCs…_4core9panicking5panic` both become `core::panicking::panic`.
fn readable(name: &str) -> String {
    if !name.starts_with("_ZN") && !name.starts_with("_R") {
        return name.to_owned();
    }
    let legacy = name.starts_with("_ZN");
    let mut rest = name;
    let mut parts = Vec::new();
    while let Some(first) = rest.chars().next() {
        // A crate's hash in the new scheme: `Cs`, digits of base 62, `_`.
        if let Some((_, after)) = rest.strip_prefix("Cs").filter(|_| !legacy).and_then(|hash| hash.split_once('_')) {
            rest = after;
            continue;
        }
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let after = &rest[digits.len().max(first.len_utf8())..];
        let after = if legacy { after } else { after.strip_prefix('_').unwrap_or(after) };
        let part = digits.parse().ok().and_then(|length: usize| after.get(..length)).filter(|part| is_identifier(part));
        parts.extend(part);
        rest = part.map_or(after, |part| &after[part.len()..]);
    }
    if legacy && parts.last().is_some_and(|part| part.len() == 17 && part.starts_with('h')) {
        parts.pop();
    }
    if parts.is_empty() { name.to_owned() } else { parts.join("::") }
}

fn is_identifier(part: &str) -> bool {
    part.len() > 1
        && part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_uppercase() || c == '_')
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "_$.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, section: &str, calls: &[usize]) -> Function {
        Function { name: name.into(), section: section.into(), calls: calls.to_vec() }
    }

    #[test]
    fn the_chain_leads_from_the_program_to_the_panic() {
        let functions = [
            function("port_tc", "classifier", &[1]),
            function("_ZN11wavnet_ebpf4port6lookup17h0123456789abcdefE", ".text", &[2]),
            function("_ZN4core9panicking18panic_bounds_check17h0123456789abcdefE", ".text", &[]),
            function("innocent", "xdp", &[]),
        ];
        assert_eq!(
            chain(&functions, 2),
            "port_tc -> wavnet_ebpf::port::lookup -> core::panicking::panic_bounds_check (section classifier)"
        );
    }

    #[test]
    fn recursion_does_not_hang_the_search() {
        let functions = [function("a", ".text", &[1]), function("b", ".text", &[0, 1])];
        assert!(chain(&functions, 1).ends_with("b (section .text)"));
    }

    #[test]
    fn panics_of_both_mangling_schemes_are_known() {
        assert!(is_panic("_ZN4core9panicking5panic17h0123456789abcdefE"));
        assert!(is_panic("_RNvNtCsgq1vDjy6Ntd_4core9panicking9panic_fmt"));
        assert!(is_panic("_ZN4core6option13unwrap_failed17h0123456789abcdefE"));
        assert!(is_panic("_RNvCshoVQ8X_7___rustc17rust_begin_unwind"));
        assert!(!is_panic("_ZN11wavnet_ebpf4port6lookup17h0123456789abcdefE"));
        assert!(!is_panic("underlay_xdp"));
    }

    #[test]
    fn names_become_paths() {
        assert_eq!(readable("_RNvNtCsgq1vDjy6Ntd_4core9panicking9panic_fmt"), "core::panicking::panic_fmt");
        assert_eq!(readable("_ZN4core9panicking5panic17h0123456789abcdefE"), "core::panicking::panic");
        assert_eq!(readable("underlay_xdp"), "underlay_xdp");
        assert_eq!(readable("_R"), "_R");
    }
}

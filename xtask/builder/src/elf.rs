//! As much of ELF as it takes to see which function of an eBPF object calls which: 64 bit, little endian, relocatable.

use std::collections::BTreeMap;

const MACHINE_BPF: u16 = 247;
const SHT_SYMTAB: u32 = 2;
const SHT_REL: u32 = 9;
const SHF_EXECINSTR: u64 = 4;
const STT_FUNC: u8 = 2;
const STT_SECTION: u8 = 3;
/// `call` with an immediate, and the mark of a call to another BPF function in its source register field.
const OP_CALL: u8 = 0x85;
const PSEUDO_CALL: u8 = 1;
const INSTRUCTION: usize = 8;

/// A function and the functions it calls, by index into [`functions`]' result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Symbol, mangled.
    pub(crate) name: String,
    /// Name of its section; `.text` for what is no program by itself.
    pub(crate) section: String,
    /// Indices of the functions it calls, in order of the calls.
    pub(crate) calls: Vec<usize>,
}

struct Section {
    name: String,
    kind: u32,
    flags: u64,
    offset: usize,
    size: usize,
    link: usize,
    info: usize,
}

struct Symbol {
    name: String,
    kind: u8,
    section: usize,
    value: u64,
    size: u64,
}

/// The functions of an object with their call graph.
///
/// # Errors
///
/// One clause that says what is wrong with the file.
pub(crate) fn functions(object: &[u8]) -> Result<Vec<Function>, String> {
    let sections = sections(object).ok_or("damaged or cut off")?;
    let symbols = symbols(object, &sections).ok_or("damaged symbol table")?;
    let mut functions = Vec::new();
    // Where each function starts, to resolve call targets: (section, byte offset) -> index.
    let mut starts = BTreeMap::new();
    let mut of_symbol = BTreeMap::new();
    for (index, symbol) in symbols.iter().enumerate() {
        let Some(section) = sections.get(symbol.section).filter(|section| section.flags & SHF_EXECINSTR != 0) else {
            continue;
        };
        if symbol.kind == STT_FUNC {
            starts.insert((symbol.section, symbol.value), functions.len());
            of_symbol.insert(functions.len(), index);
            functions.push(Function { name: symbol.name.clone(), section: section.name.clone(), calls: Vec::new() });
        }
    }
    for (function, symbol) in of_symbol {
        let symbol = &symbols[symbol];
        let relocations = relocations(object, &sections, symbol.section);
        let code = &sections[symbol.section];
        for at in (symbol.value..symbol.value.saturating_add(symbol.size)).step_by(INSTRUCTION) {
            let start = usize::try_from(at).map_err(|error| error.to_string())?;
            let Some(bytes) =
                code.offset.checked_add(start).and_then(|start| object.get(start..start.checked_add(INSTRUCTION)?))
            else {
                return Err(format!("function `{}` lies outside its section", symbol.name));
            };
            if bytes[0] != OP_CALL || bytes[1] >> 4 != PSEUDO_CALL {
                continue;
            }
            let immediate = i64::from(i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
            let target = match relocations.get(&at).and_then(|&index| symbols.get(index)) {
                Some(callee) if callee.kind == STT_SECTION => {
                    (callee.section, callee.value as i64 + (immediate + 1) * 8)
                }
                Some(callee) => (callee.section, callee.value as i64),
                None => (symbol.section, at as i64 + (immediate + 1) * 8),
            };
            if let Some(&callee) = u64::try_from(target.1).ok().and_then(|offset| starts.get(&(target.0, offset))) {
                functions[function].calls.push(callee);
            }
        }
    }
    Ok(functions)
}

fn sections(object: &[u8]) -> Option<Vec<Section>> {
    if object.get(..6)? != b"\x7fELF\x02\x01" || u16_at(object, 18)? != MACHINE_BPF {
        return None;
    }
    let table = usize_at(object, 40)?;
    let (entry, count, names) =
        (u16_at(object, 58)? as usize, u16_at(object, 60)? as usize, u16_at(object, 62)? as usize);
    let mut sections = Vec::with_capacity(count);
    for index in 0..count {
        let header = table.checked_add(index * entry)?;
        sections.push(Section {
            // Replaced below, when the section with the names is known.
            name: u32_at(object, header)?.to_string(),
            kind: u32_at(object, header + 4)?,
            flags: u64_at(object, header + 8)?,
            offset: usize_at(object, header + 24)?,
            size: usize_at(object, header + 32)?,
            link: u32_at(object, header + 40)? as usize,
            info: u32_at(object, header + 44)? as usize,
        });
    }
    let names = sections.get(names)?.offset;
    for section in &mut sections {
        section.name = string_at(object, names.checked_add(section.name.parse().ok()?)?)?;
    }
    Some(sections)
}

fn symbols(object: &[u8], sections: &[Section]) -> Option<Vec<Symbol>> {
    let Some(table) = sections.iter().find(|section| section.kind == SHT_SYMTAB) else { return Some(Vec::new()) };
    let names = sections.get(table.link)?.offset;
    (0..table.size / 24)
        .map(|index| {
            let at = table.offset.checked_add(index * 24)?;
            Some(Symbol {
                name: string_at(object, names.checked_add(u32_at(object, at)? as usize)?)?,
                kind: object.get(at + 4)? & 0xf,
                section: u16_at(object, at + 6)? as usize,
                value: u64_at(object, at + 8)?,
                size: u64_at(object, at + 16)?,
            })
        })
        .collect()
}

/// Relocated offset within a section -> symbol index.
fn relocations(object: &[u8], sections: &[Section], section: usize) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for table in sections.iter().filter(|table| table.kind == SHT_REL && table.info == section) {
        for index in 0..table.size / 16 {
            let at = table.offset.saturating_add(index * 16);
            if let (Some(offset), Some(info)) = (u64_at(object, at), u64_at(object, at.saturating_add(8))) {
                found.insert(offset, (info >> 32) as usize);
            }
        }
    }
    found
}

fn bytes_at<const N: usize>(object: &[u8], at: usize) -> Option<[u8; N]> {
    object.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(object: &[u8], at: usize) -> Option<u16> {
    bytes_at(object, at).map(u16::from_le_bytes)
}

fn u32_at(object: &[u8], at: usize) -> Option<u32> {
    bytes_at(object, at).map(u32::from_le_bytes)
}

fn u64_at(object: &[u8], at: usize) -> Option<u64> {
    bytes_at(object, at).map(u64::from_le_bytes)
}

fn usize_at(object: &[u8], at: usize) -> Option<usize> {
    u64_at(object, at)?.try_into().ok()
}

fn string_at(object: &[u8], at: usize) -> Option<String> {
    let bytes = object.get(at..)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ebpf_object_is_refused() {
        assert!(functions(b"").is_err());
        assert!(functions(b"#!/bin/sh\n").is_err());
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(functions(&own).is_err(), "a host program is no eBPF object");
    }

    #[test]
    fn a_cut_off_object_is_an_error_and_no_panic() {
        let mut header = [0; 64];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[18..20].copy_from_slice(&MACHINE_BPF.to_le_bytes());
        header[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        header[58..60].copy_from_slice(&64u16.to_le_bytes());
        header[60..62].copy_from_slice(&3u16.to_le_bytes());
        for length in 0..=header.len() {
            assert!(functions(&header[..length]).is_err());
        }
    }
}

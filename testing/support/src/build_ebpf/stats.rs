//! What is in an object: size, programs with their instruction counts, maps.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// Bytes of one BPF instruction.
const INSTRUCTION: u64 = 8;

/// Prints what is in the object at `path`.
///
/// # Errors
///
/// It cannot be read, or is no ELF object.
pub(super) fn print(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is not an object file", path.display()))?;
    println!("{}: {} bytes", path.display(), bytes.len());

    println!("\n{:<28} {:<20} {:>12}", "program", "section", "instructions");
    let mut total = 0;
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let section = section.as_ref().and_then(|section| section.name().ok()).unwrap_or("?");
        // What follows an entry point in `.text` is called from it and loaded with it.
        let instructions = symbol.size() / INSTRUCTION;
        total += instructions;
        println!("{:<28} {section:<20} {instructions:>12}", symbol.name().unwrap_or("?"));
    }
    println!("{:<28} {:<20} {total:>12}", "all", "");

    println!("\nmaps");
    for section in file.sections().filter(|section| matches!(section.name(), Ok("maps" | ".maps"))) {
        for symbol in file.symbols().filter(|symbol| symbol.section_index() == Some(section.index())) {
            if let Ok(name) = symbol.name()
                && !name.is_empty()
            {
                println!("  {name}");
            }
        }
    }

    println!("\n{:<28} {:>12}", "section", "bytes");
    for section in file.sections().filter(|section| section.size() > 0) {
        println!("{:<28} {:>12}", section.name().unwrap_or("?"), section.size());
    }
    Ok(())
}

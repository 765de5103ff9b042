//! How large the classifier is, as the kernel tells it.

use anyhow::{Context as _, Result};

use super::program::{Classifier, RING_BYTES, Thinning};
use crate::Table;

pub(super) fn table() -> Result<Table> {
    let head = ["entry point", "settings", "instructions", "followed by the verifier", "bytes of machine code"];
    let mut table = Table::new("kernel-instructions", &head);
    let settings = [
        ("`watermark: off`", Thinning::Off),
        ("the default", Thinning::Watermark),
        ("`per_flow: 100ms`", Thinning::PerFlow(100_000_000)),
    ];
    for (name, thinning) in settings {
        for (program, info) in Classifier::load_with(&[], RING_BYTES, thinning)?.infos()? {
            let translated = info.size_translated().context("the kernel does not tell a program's size")? / 8;
            let verified = info.verified_instruction_count().map_or("-".to_owned(), |count| count.to_string());
            let cells = [translated.to_string(), verified, info.size_jitted().to_string()];
            table.row([format!("`{program}`"), name.to_owned()].into_iter().chain(cells));
        }
    }
    table.note("From `bpf_prog_info`: instructions after the verifier has left out what the settings switch off.");
    Ok(table)
}

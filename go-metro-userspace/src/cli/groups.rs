//! `--group-by`, of the verbs that measure.

use super::Failure;
use crate::config::{GroupBy, key};

// Without a comment for the documentation, which would take the place of the verb's.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct GroupArgs {
    #[arg(long, value_name = "KEY=VALUE", help = help())]
    group_by: Vec<String>,
}

fn help() -> String {
    format!(
        "{}; a key of the file's `group_by` with its value, such as ipv4_prefix=24, port=service, as_database=FILE or \
         names.office=10.1.0.0/16,10.2.0.0/16; may be repeated",
        key::group_by.summary()
    )
}

impl GroupArgs {
    /// Whether nothing was asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.group_by.is_empty()
    }
}

/// What was asked for; none if nothing was.
pub(super) fn wanted(args: &GroupArgs) -> Result<Option<GroupBy>, Failure> {
    let wanted = GroupBy::from_arguments(&args.group_by);
    let wanted = wanted.map_err(|what| Failure::usage(&format!("--group-by: {what}")))?;
    Ok(Some(wanted).filter(|_| !args.is_empty()))
}

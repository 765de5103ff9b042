//! Other people's TC programs, on the hooks beside the classifier.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuArray;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use super::{Host, INTERFACE};
use testing_support::workspace::lab_object;

/// A hook of a host's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl From<Hook> for TcAttachType {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Ingress => Self::Ingress,
            Hook::Egress => Self::Egress,
        }
    }
}

/// Where on the hook, among programs that are there already. One that comes later at the same end pushes it inwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// Before the others.
    First,
    /// After the others.
    Last,
}

/// The names of the programs on a hook of `host`'s interface, in the order in which they run.
///
/// # Errors
///
/// The kernel has no TCX.
pub fn attached(host: &Host, hook: Hook) -> Result<Vec<String>> {
    let (_, programs) =
        host.enter(|| SchedClassifier::query_tcx(INTERFACE, hook.into())).context("cannot query TCX")?;
    Ok(programs.iter().filter_map(|program| program.name_as_str().map(str::to_owned)).collect())
}

/// One program of the lab's object on one hook; detached when dropped.
#[derive(Debug)]
pub struct Program {
    ebpf: Ebpf,
    _link: SchedClassifierLinkId,
}

impl Program {
    /// Attaches `name` of `target/ebpf/go-metro-lab.o` to a hook of `host`'s interface, by TCX.
    ///
    /// # Errors
    ///
    /// There is no object, the kernel refuses the program, or has no TCX.
    pub fn attach(host: &Host, name: &str, hook: Hook, position: Position) -> Result<Self> {
        let object = std::fs::read(lab_object()).context("no lab object; run `cargo xtask build-ebpf`")?;
        // An interface is known by its index, which is the namespace's own.
        host.enter(|| {
            let mut ebpf = EbpfLoader::new().load(&object).context("the lab's object does not load")?;
            let program = ebpf.program_mut(name).with_context(|| format!("no program {name} in the lab's object"))?;
            let program: &mut SchedClassifier = program.try_into()?;
            program.load().with_context(|| format!("{name} does not load"))?;
            let order = match position {
                Position::First => LinkOrder::first(),
                Position::Last => LinkOrder::last(),
            };
            let link = program
                .attach_with_options(INTERFACE, hook.into(), TcAttachOptions::TcxOrder(order))
                .with_context(|| format!("{name} cannot be attached"))?;
            Ok(Self { ebpf, _link: link })
        })
    }

    /// What `lab_count` has counted.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn count(&self) -> Result<u64> {
        let map = self.ebpf.map("LAB_COUNT").context("no LAB_COUNT in the lab's object")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0)?;
        Ok(counts.iter().sum())
    }
}

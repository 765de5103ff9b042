//! Values that are one of a few words.

use std::fmt;
use std::marker::PhantomData;

use clap::ValueEnum;
use go_metro_common::segment::Sides;
use go_metro_rtt::{Average, Buckets};
use serde_json::{Value as Json, json};
use serde_yaml::Value;

use super::kinds::{Scalar, Wrong, listed, text};

/// One of a few words.
pub(super) struct Word<T>(PhantomData<T>);

/// As [`Word`], in upper or lower case.
pub(super) struct AnyCase<T>(PhantomData<T>);

/// The names of the variants; each with its aliases, or without.
fn names<T: ValueEnum>(with_aliases: bool) -> Vec<String> {
    let values = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names = values.flat_map(|value| {
        let most = if with_aliases { usize::MAX } else { 1 };
        value.get_name_and_aliases().take(most).map(str::to_owned).collect::<Vec<_>>()
    });
    names.collect()
}

macro_rules! words {
    ($Kind:ident, ignoring case: $ignores_case:literal) => {
        impl<T: ValueEnum + fmt::Debug + PartialEq> Scalar for $Kind<T> {
            type Value = T;

            fn parse(value: &Value) -> Result<T, Wrong> {
                T::from_str(text(value)?, $ignores_case).map_err(|_| Wrong::Other)
            }

            fn takes() -> String {
                listed(&Self::words().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>(), "or")
            }

            fn words() -> Vec<String> {
                names::<T>(false)
            }

            fn schema() -> Json {
                json!({"enum": names::<T>(true)})
            }

            fn shown(value: &T) -> Json {
                value.to_possible_value().map_or(Json::Null, |value| value.get_name().into())
            }
        }
    };
}

words!(Word, ignoring case: false);
words!(AnyCase, ignoring case: true);

/// Where segments come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// eBPF if it is available, else libpcap
    #[default]
    Auto,
    /// eBPF only
    Ebpf,
    /// libpcap only
    Pcap,
}

/// Where the classifier sees incoming segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IngressHook {
    /// At TC's hook: on every device, after segments were merged (GRO).
    #[default]
    Tc,
    /// In the device's driver, before all else: where it has native XDP.
    Xdp,
}

/// Which round trips to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SidesWanted {
    /// From here to the remote end and back
    #[default]
    Remote,
    /// From here to the local end and back
    Local,
    /// Both, with the tag `side:`
    Both,
}

impl From<SidesWanted> for Sides {
    fn from(wanted: SidesWanted) -> Self {
        match wanted {
            SidesWanted::Remote => Self::REMOTE,
            SidesWanted::Local => Self::LOCAL,
            SidesWanted::Both => Self::BOTH,
        }
    }
}

/// How close the bounds of Prometheus's buckets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BucketsWanted {
    /// At most 10 % apart.
    Fine,
    /// 1, 2 and 5 of each decade.
    Coarse,
}

impl From<BucketsWanted> for Buckets {
    fn from(wanted: BucketsWanted) -> Self {
        match wanted {
            BucketsWanted::Fine => Self::Fine,
            BucketsWanted::Coarse => Self::Coarse,
        }
    }
}

/// What distinguishes connections of this host besides their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProcessTags {
    /// Nothing.
    #[default]
    Off,
    /// The systemd unit.
    Unit,
    /// The container and pod; the unit of what is in none.
    Container,
}

/// What summaries do with samples whose acknowledgement the receiver delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DelayedAcks {
    /// They count like all others.
    Keep,
    /// They are left out.
    Drop,
}

/// What the average of an interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AverageWanted {
    /// The mean of all samples.
    Mean,
    /// The smoothed RTT of RFC 6298.
    Smoothed,
}

impl From<AverageWanted> for Average {
    fn from(wanted: AverageWanted) -> Self {
        match wanted {
            AverageWanted::Mean => Self::Mean,
            AverageWanted::Smoothed => Self::Smoothed,
        }
    }
}

/// How important a message must be to be logged; the original's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// For finding faults.
    Debug,
    /// What happens.
    Info,
    /// What deserves a look.
    #[value(name = "warning", alias = "warn")]
    Warn,
    /// What went wrong.
    #[value(aliases = ["err", "critical", "crit"])]
    Error,
}

/// Where results go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// DogStatsD, as the configuration says
    Statsd,
    /// A page that Prometheus scrapes
    Prometheus,
    /// Metrics for an OpenTelemetry collector, or another OTLP receiver
    Otlp,
    /// JSON lines on standard output
    Json,
    /// A table on standard output: live on a terminal
    Table,
}

/// What else the program knows of an output. The matches are exhaustive, so that the compiler names those that a new
/// variant belongs in.
impl Output {
    /// Its name in files, on the command line and in `status`.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The names of the outputs for which `holds` is true, with `last` before the last of them: "json and table".
    pub fn listed(holds: impl Fn(Self) -> bool, last: &str) -> String {
        let outputs = Self::value_variants().iter().copied().filter(|output| holds(*output));
        listed(&outputs.map(Self::name).collect::<Vec<_>>(), last)
    }

    /// Whether a configuration file may name it: a table is for people at a terminal, who use the command line.
    pub const fn may_stand_in_a_file(self) -> bool {
        match self {
            Self::Table => false,
            Self::Statsd | Self::Prometheus | Self::Otlp | Self::Json => true,
        }
    }

    /// Whether people watch it: then it is reported every second where no file says otherwise.
    pub const fn is_watched(self) -> bool {
        match self {
            Self::Json | Self::Table => true,
            Self::Statsd | Self::Prometheus | Self::Otlp => false,
        }
    }

    /// Whether it has standard output, which two cannot share.
    pub const fn is_on_stdout(self) -> bool {
        match self {
            Self::Json | Self::Table => true,
            Self::Statsd | Self::Prometheus | Self::Otlp => false,
        }
    }

    /// Whether it prints every sample too, if asked.
    pub const fn takes_samples(self) -> bool {
        match self {
            Self::Json => true,
            Self::Statsd | Self::Prometheus | Self::Otlp | Self::Table => false,
        }
    }

    /// Whether it is a page at a port, which others fetch while the daemon runs.
    pub const fn is_scraped(self) -> bool {
        match self {
            Self::Prometheus => true,
            Self::Statsd | Self::Otlp | Self::Json | Self::Table => false,
        }
    }

    /// Whether it goes to a server that adds up what it is sent: two daemons would count everything twice.
    pub const fn is_added_up(self) -> bool {
        match self {
            Self::Statsd => true,
            Self::Prometheus | Self::Otlp | Self::Json | Self::Table => false,
        }
    }
}

/// An output that a file may name.
pub(super) struct FileOutput;

impl FileOutput {
    fn names() -> Vec<String> {
        let outputs = Output::value_variants().iter().filter(|output| output.may_stand_in_a_file());
        outputs.map(|output| output.name()).collect()
    }
}

impl Scalar for FileOutput {
    type Value = Output;

    fn parse(value: &Value) -> Result<Output, Wrong> {
        Word::<Output>::parse(value)
            .and_then(|output| if output.may_stand_in_a_file() { Ok(output) } else { Err(Wrong::Other) })
    }

    fn takes() -> String {
        listed(&Self::words().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>(), "or")
    }

    fn words() -> Vec<String> {
        Self::names()
    }

    fn schema() -> Json {
        json!({"enum": Self::names()})
    }

    fn shown(value: &Output) -> Json {
        value.name().into()
    }
}

/// A metric or a family of metrics, as `metrics` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricName {
    /// `system.net.tcp.rtt`: the last sample.
    #[value(name = "rtt")]
    Last,
    /// `system.net.tcp.rtt.avg`.
    #[value(name = "rtt.avg")]
    Average,
    /// `system.net.tcp.rtt.jitter`.
    #[value(name = "rtt.jitter")]
    Jitter,
    /// `system.net.tcp.rtt.min`.
    #[value(name = "rtt.min")]
    Min,
    /// `system.net.tcp.rtt.max`.
    #[value(name = "rtt.max")]
    Max,
    /// `system.net.tcp.rtt.dist`.
    #[value(name = "rtt.dist")]
    Distribution,
    /// `system.net.tcp.rtt.connect`.
    #[value(name = "rtt.connect")]
    Connect,
    /// `system.net.tcp.rtt.kernel` and `.kernel.min`.
    #[value(name = "rtt.kernel")]
    Kernel,
    /// `go_metro.*`: the daemon's own health.
    #[value(name = "go_metro")]
    Own,
    /// `system.net.tcp.rtt.base` and `.queueing`.
    #[value(name = "base")]
    Base,
    /// `system.net.tcp.peer.*`: the health of connections.
    #[value(name = "health")]
    Health,
    /// `system.net.tcp.peer.response` and `system.net.tcp.rtt.host`: whose delay it is.
    #[value(name = "response")]
    Response,
    /// All that are on by default.
    #[value(name = "default")]
    Default,
}

impl MetricName {
    /// Each, in the order of the documentation.
    pub fn all() -> Vec<Self> {
        Self::value_variants().iter().copied().filter(|name| *name != Self::Default).collect()
    }

    /// The default: all except those that are only reported if they are named.
    pub fn usual() -> Vec<Self> {
        Self::all().into_iter().filter(|name| !matches!(name, Self::Base | Self::Health | Self::Response)).collect()
    }
}

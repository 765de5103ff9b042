//! What a number that the daemon counts is called, and where it is shown: one declaration for all outputs.
//!
//! A [`Metric`] says how to read a number from what holds it. [`counters!`](crate::counters!) declares a struct of
//! counters and their metrics together: a counter's documentation is its help text. DogStatsD, Prometheus, JSON,
//! `status`, `metadata.csv`, the tables of the documentation and the test of the dashboards iterate over these
//! declarations.

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is as of now.
    Gauge,
}

/// What a number counts, by Datadog's names of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Unit {
    Byte,
    Connection,
    Device,
    Error,
    Event,
    Eviction,
    Item,
    Message,
    Millisecond,
    Packet,
    Record,
    Sample,
    Segment,
}

impl Unit {
    /// As Datadog has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Connection => "connection",
            Self::Device => "device",
            Self::Error => "error",
            Self::Event => "event",
            Self::Eviction => "eviction",
            Self::Item => "item",
            Self::Message => "message",
            Self::Millisecond => "millisecond",
            Self::Packet => "packet",
            Self::Record => "record",
            Self::Sample => "sample",
            Self::Segment => "segment",
        }
    }
}

impl Unit {
    /// As OpenTelemetry has it (UCUM): what is counted stands in braces.
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Byte => "By",
            Self::Connection => "{connection}",
            Self::Device => "{device}",
            Self::Error => "{error}",
            Self::Event => "{event}",
            Self::Eviction => "{eviction}",
            Self::Item => "{item}",
            Self::Message => "{message}",
            Self::Millisecond => "ms",
            Self::Packet => "{packet}",
            Self::Record => "{record}",
            Self::Sample => "{sample}",
            Self::Segment => "{segment}",
        }
    }
}

/// How JSON lines have a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    /// Not at all.
    Absent,
    /// Under the metric's name, with `_` for `.`.
    Usual,
    /// Under this name.
    Named(&'static str),
    /// Under the metric's name, the sum over its labels.
    Total,
}

/// How the text of `go-metro status` has a number, in the line of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Not at all.
    Absent,
    /// Always, before these words.
    Always(&'static str),
    /// Where it is not 0, before these words.
    IfAny(&'static str),
    /// Each label's, before the label.
    Labels,
}

/// What a number is called and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// `go_metro.` in front gives the name in DogStatsD; Prometheus has `_` for `.`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Whether more of it is worse.
    pub is_bad: bool,
    /// One sentence; see [`Meta::explained`].
    pub help: &'static str,
    /// The key that separates its parts; empty for a single number.
    pub key: &'static str,
    /// The values of the key, in the order of their indices.
    pub labels: &'static [&'static str],
    /// Whether DogStatsD and Prometheus get it.
    pub is_sent: bool,
    /// How JSON lines have it.
    pub json: Json,
    /// Its place in the status document: `group.field`, or a group alone whose fields are the labels. Empty for none.
    pub status: &'static str,
    /// How the text of `status` has it.
    pub text: Text,
    /// Whether 0 stands for a number that is not known, which DogStatsD is not sent.
    pub is_unknown_at_zero: bool,
}

/// A number that only grows.
pub const fn count(name: &'static str, unit: Unit) -> Meta {
    Meta {
        name,
        kind: Kind::Counter,
        unit,
        is_bad: false,
        help: "",
        key: "",
        labels: &[],
        is_sent: true,
        json: Json::Usual,
        status: "",
        text: Text::Absent,
        is_unknown_at_zero: false,
    }
}

/// A number that is as of now.
pub const fn gauge(name: &'static str, unit: Unit) -> Meta {
    Meta { kind: Kind::Gauge, ..count(name, unit) }
}

/// A number that only grows, for JSON and `status` alone.
pub const fn internal(name: &'static str, unit: Unit) -> Meta {
    Meta { is_sent: false, ..count(name, unit) }
}

impl Meta {
    /// What it means.
    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// More of it is worse.
    pub const fn bad(self) -> Self {
        Self { is_bad: true, ..self }
    }

    /// Told apart by a key with these values.
    pub const fn by(self, key: &'static str, labels: &'static [&'static str]) -> Self {
        Self { key, labels, ..self }
    }

    /// How JSON lines have it.
    pub const fn json(self, json: Json) -> Self {
        Self { json, ..self }
    }

    /// Its place in the status document, and how the text has it.
    pub const fn status(self, status: &'static str, text: Text) -> Self {
        Self { status, text, ..self }
    }

    /// 0 stands for a number that is not known.
    pub const fn unknown_at_zero(self) -> Self {
        Self { is_unknown_at_zero: true, ..self }
    }

    /// What it means, without the full stop.
    pub fn explained(&self) -> &'static str {
        self.help.trim().trim_end_matches('.')
    }
}

/// A declared number, and how it is read from what holds it.
pub struct Metric<S: 'static> {
    /// What it is.
    pub meta: Meta,
    /// Its value; of several, that of the label with this index.
    pub value: fn(&S, usize) -> u64,
}

/// What may be a counter's type: a number, or one for each label.
pub trait Counted {
    /// Adds another source's.
    fn add(&mut self, other: &Self);
    /// Takes away what there was before.
    fn subtract(&mut self, before: &Self);
    /// The number of the label with this index; of a struct of counters 0, as its fields have metrics of their own.
    fn at(&self, _index: usize) -> u64 {
        0
    }
}

impl Counted for u64 {
    fn add(&mut self, other: &Self) {
        *self += *other;
    }
    fn subtract(&mut self, before: &Self) {
        // What follows from several numbers that are being counted meanwhile may have been one too high.
        *self = self.saturating_sub(*before);
    }
    fn at(&self, _: usize) -> u64 {
        *self
    }
}

impl<const N: usize> Counted for [u64; N] {
    fn add(&mut self, other: &Self) {
        self.iter_mut().zip(other).for_each(|(mine, theirs)| *mine += *theirs);
    }
    fn subtract(&mut self, before: &Self) {
        self.iter_mut().zip(before).for_each(|(mine, before)| mine.subtract(before));
    }
    fn at(&self, index: usize) -> u64 {
        self.get(index).copied().unwrap_or_default()
    }
}

/// Declares a struct of counters, and how two of them add up: no field can be forgotten.
#[macro_export]
macro_rules! counted {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[$about:meta])+ pub $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$about])+ pub $field: $type,)+
        }

        impl $name {
            /// Adds another one's counters to these.
            pub fn add(&mut self, other: &Self) {
                $crate::metric::Counted::add(self, other);
            }
        }

        impl $crate::metric::Counted for $name {
            fn add(&mut self, other: &Self) {
                $($crate::metric::Counted::add(&mut self.$field, &other.$field);)+
            }
            fn subtract(&mut self, before: &Self) {
                $($crate::metric::Counted::subtract(&mut self.$field, &before.$field);)+
            }
        }
    };
}

/// As [`counted!`](crate::counted!), with `METRICS`: the [`Metric`]s of the fields that have one.
///
/// A field's documentation, one line, is its help text: a sentence that reads well without the struct.
#[macro_export]
macro_rules! counters {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $(#[doc = $help:literal] pub $field:ident: $type:ty $(= $meta:expr)?,)+
        }
    ) => {
        $crate::counted! {
            $(#[$attribute])*
            pub struct $name {
                $(#[doc = $help] pub $field: $type,)+
            }
        }

        impl $name {
            /// What is shown of these.
            pub const METRICS: &'static [$crate::metric::Metric<Self>] = &[$($(
                $crate::metric::Metric {
                    meta: $meta.help($help),
                    value: |counters, index| $crate::metric::Counted::at(&counters.$field, index),
                },
            )?)+];

            /// What was counted since these were as `before`.
            pub fn since(mut self, before: &Self) -> Self {
                $crate::metric::Counted::subtract(&mut self, before);
                self
            }
        }
    };
}

/// Declares an enum each of whose variants is counted by itself: `NeverSent = "never_sent"`, with the name that metrics
/// and messages use.
///
/// From the one list come `COUNT`, `ALL` in the order of the index, and `name`; without names, the first two.
#[macro_export]
macro_rules! reasons {
    (
        $(#[$attribute:meta])*
        pub enum $enum:ident {
            $($(#[$about:meta])+ $variant:ident,)+
        }
    ) => {
        $(#[$attribute])*
        pub enum $enum {
            $($(#[$about])+ $variant,)+
        }

        impl $enum {
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// Every one, in the order of its index.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }
    };
    (
        $(#[$attribute:meta])*
        pub enum $enum:ident {
            $($(#[$about:meta])+ $variant:ident = $name:literal,)+
        }
    ) => {
        $crate::reasons! {
            $(#[$attribute])*
            pub enum $enum {
                $($(#[$about])+ $variant,)+
            }
        }

        impl $enum {
            /// The name that metrics and messages use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

/// The names of an enum with `ALL`, `COUNT` and `name`, in the order of its indices.
#[macro_export]
macro_rules! names_of {
    ($enum:ty) => {{
        const NAMES: [&str; <$enum>::COUNT] = {
            let mut names = [""; <$enum>::COUNT];
            let mut index = 0;
            while index < names.len() {
                names[index] = <$enum>::ALL[index].name();
                index += 1;
            }
            names
        };
        &NAMES
    }};
}

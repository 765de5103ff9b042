//! docs/configuration.md.

use std::fmt::Write as _;

use serde_json::Value;

use super::schema::{Key, Schema};

const HEAD: &str = "\
# Configuration

<!-- Made by `cargo xtask docs` from `go-metro config schema`; change conf.yaml.example or the reader in go-metro-userspace/src/config. -->

One YAML file: `/etc/go-metro/conf.yaml`, else where the original had it (`/etc/dd-agent/conf.d/go-metro.yaml`, `/etc/dd-agent/checks.d/go-metro.yaml`), or what
`run -c FILE` names. `go-metro config init` writes one from a few answers, `go-metro check -c FILE` says what is wrong with one, and `go-metro config schema` prints
the JSON schema that this page is made from, for editors and validators.

```console
$ go-metro config init my.yaml --interface eth0 --target 10.77.0.0/16 --tag env:test
wrote my.yaml; next: go-metro check -c my.yaml
$ go-metro check -c my.yaml
ok    configuration: my.yaml: 1 instance(s)
…
```

A key that does not exist, a wrong type or a bad value is an error that names the line. Numbers and yes/no may be quoted. Where the file is silent, `DD_AGENT_HOST`,
`DD_DOGSTATSD_PORT`, `DD_DOGSTATSD_URL`, `DD_ENV`, `DD_SERVICE`, `DD_VERSION` and `DD_ENTITY_ID` are honoured. SIGHUP reads it again: targets, tags,
bounds and lifetimes follow without losing a flow. A change of where segments come from (`sampling` among it) reopens capture, and is refused where the
daemon has given up the rights for that after the start; the keys of the log and `sandbox` need a restart ([which key does what](privileges.md#what-a-reload-cannot-do)).
";

const INSTANCES: &str = "
## `instances`

At least one, each with an `interface` and a target in `ips` or `hosts`. `config` is an old name of this list.
";

/// The page's text.
pub(super) fn page(schema: &Schema) -> String {
    let mut page = format!("{HEAD}\n## `init_config`\n\nWhat holds for all instances.\n");
    let mut section = "";
    for key in &schema.init_config {
        if key.section != section {
            section = &key.section;
            let mut letters = section.chars();
            let title: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
            let _ = write!(page, "\n### {title}\n\n");
            page.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        }
        page.push_str(&row(key));
    }
    page.push_str(INSTANCES);
    page.push_str("\n| key | takes | default | |\n|---|---|---|---|\n");
    schema.instance.iter().for_each(|key| page.push_str(&row(key)));
    page
}

fn row(key: &Key) -> String {
    let default = key.default.as_ref().map_or_else(String::new, |value| format!("`{}`", shown(value)));
    let cell = |text: &str| text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("| `{}` | {} | {default} | {} |\n", key.name, cell(&key.takes.words()), cell(&key.description))
}

/// A value as one would write it in YAML.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

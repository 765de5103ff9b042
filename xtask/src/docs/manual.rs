//! The manual page of the configuration file, go-metro-conf(5).

use roff::{Roff, bold, italic, roman};

use super::keys::{Key, Reference, shown};

const DESCRIPTION: [&str; 3] = [
    "go-metro reads one YAML file with two parts: init_config, the settings for all instances, and instances, a list \
     of what to watch. Without --config it is /etc/go-metro/conf.yaml, else the original go-metro's path, \
     /etc/dd-agent/conf.d/go-metro.yaml or /etc/dd-agent/checks.d/go-metro.yaml.",
    "An unknown key, a wrong type or a bad value is an error that names the line. Numbers and yes/no may be quoted.",
    "After a change: go-metro check --config FILE, then go-metro reload or systemctl reload go-metro. A file that is \
     refused changes nothing.",
];

const SMALLEST: &str = "\
instances:
  - interface: eth0
    ips: [10.0.0.0/8, \"2001:db8::/32\"]
    hosts: [db.example.org]";

/// The page.
pub(super) fn page(reference: &Reference) -> String {
    let mut page = Roff::new();
    page.control("TH", ["go-metro-conf", "5", "", &format!("go-metro {}", crate::dist::version())]);
    section(&mut page, "NAME");
    page.text([roman("go-metro-conf - configuration file of go-metro(1)")]);
    section(&mut page, "SYNOPSIS");
    page.text([italic("/etc/go-metro/conf.yaml")]);
    section(&mut page, "DESCRIPTION");
    for paragraph in DESCRIPTION {
        page.control("PP", []);
        page.text([roman(paragraph)]);
    }
    page.control("PP", []);
    page.text([roman("The smallest file:")]);
    page.control("PP", []);
    page.control("nf", []);
    for line in SMALLEST.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);

    section(&mut page, "KEYS OF INIT_CONFIG");
    for key in &reference.init_config {
        if !key.heading.is_empty() {
            page.control("SS", [key.heading.as_str()]);
        }
        entry(&mut page, "", key);
    }
    section(&mut page, "KEYS OF AN INSTANCE");
    for key in &reference.instances {
        entry(&mut page, "", key);
    }
    section(&mut page, "FILES");
    page.text([italic("/usr/share/doc/go-metro/conf.yaml.example"), roman(": every key, commented.")]);
    section(&mut page, "SEE ALSO");
    page.text([
        bold("go-metro"),
        roman("(1), "),
        bold("go-metro-run"),
        roman("(1), "),
        bold("go-metro-check"),
        roman("(1)"),
    ]);
    page.to_roff()
}

fn section(page: &mut Roff, title: &str) {
    page.control("SH", [title]);
}

fn entry(page: &mut Roff, above: &str, key: &Key) {
    page.control("TP", []);
    let takes = key.takes.replace('`', "");
    let default = key.default.as_ref().filter(|_| key.within.is_empty());
    let default = default.map_or_else(String::new, |value| format!("; default {}", shown(value)));
    page.text([bold(format!("{above}{}", key.name)), roman(format!(": {takes}{default}"))]);
    let reload = if key.reload == "applied" { String::new() } else { format!(" At a reload: {}.", key.reload) };
    page.text([roman(key.text.replace('`', "") + &reload)]);
    key.within.iter().for_each(|within| entry(page, &format!("{above}{}.", key.name), within));
}

//! Who sends: the fields at the end of each DogStatsD line by which the Agent finds the container, and tags what comes
//! from it.
//!
//! As Datadog's own clients have it: `|c:` is the container id that the cgroup names, or else the cgroup's inode
//! (`in-N`); `|e:` is what the cluster's admission controller put into `DD_EXTERNAL_ENV`; `|card:` how many of the
//! container's tags are wanted. `DD_ORIGIN_DETECTION_ENABLED=false` turns off all of it, and `DD_ENTITY_ID`, a tag of
//! its own, the container id.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cgroup::Groups;

/// Inode of the host's cgroup namespace (include/linux/proc_ns.h, `PROC_CGROUP_INIT_INO`).
const HOST_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// What is appended to every line, each field with its `|`; perhaps nothing.
pub fn fields(environment: &dyn Fn(&str) -> Option<String>) -> String {
    fields_of(environment, Path::new("/"))
}

fn fields_of(environment: &dyn Fn(&str) -> Option<String>, root: &Path) -> String {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let is_off =
        |value: String| matches!(value.to_ascii_lowercase().as_str(), "false" | "no" | "0" | "f" | "n" | "off");
    if set("DD_ORIGIN_DETECTION_ENABLED").is_some_and(is_off) {
        return String::new();
    }
    let mut fields = String::new();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value.map(|value| clean(&value)).filter(|value| !value.is_empty()) {
            fields.push_str(&format!("|{key}:{value}"));
        }
    };
    if set("DD_ENTITY_ID").is_none() {
        add("c", container(root));
    }
    add("e", set("DD_EXTERNAL_ENV"));
    add("card", set("DD_CARDINALITY").or_else(|| set("DATADOG_CARDINALITY")));
    fields
}

/// Without what would end the field or the line.
fn clean(value: &str) -> String {
    value.trim().chars().filter(|c| *c != '|' && !c.is_control() && !c.is_whitespace()).collect()
}

fn container(root: &Path) -> Option<String> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let groups = Groups(&groups);
    if let Some(id) = groups.container_id() {
        return Some(format!("ci-{id}"));
    }
    // In a cgroup namespace of its own the container sees no id; the inode of its root tells the Agent as much.
    let namespace = std::fs::metadata(root.join("proc/self/ns/cgroup")).map(|meta| meta.ino());
    if namespace.is_ok_and(|inode| inode == HOST_CGROUP_NAMESPACE) {
        return None;
    }
    let inode = ["memory", ""].iter().find_map(|controller| {
        let path = groups.path(controller)?.trim_start_matches('/');
        std::fs::metadata(root.join("sys/fs/cgroup").join(controller).join(path)).ok().map(|meta| meta.ino())
    })?;
    // 0 to 2 are what no real cgroup has.
    (inode > 2).then(|| format!("in-{inode}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8c046cb0b72cd4c99f51b5591cd5b095967f58ee003710a45280c28ee1a9c7fa";

    fn with(cgroup: &str, variables: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        for folder in ["proc/self", "sys/fs/cgroup/here"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("proc/self/cgroup"), cgroup).unwrap();
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let fields = fields_of(&environment, root.path());
        let inode = std::fs::metadata(root.path().join("sys/fs/cgroup/here")).unwrap().ino();
        fields.replace(&format!("in-{inode}"), "in-N")
    }

    #[test]
    fn in_a_cgroup_namespace_the_inode_stands_for_the_id() {
        assert_eq!(with("0::/here\n", &[]), "|c:in-N");
        assert_eq!(with("0::/nowhere\n", &[]), "");
    }

    #[test]
    fn the_environment_adds_and_takes_away_as_official_clients_have_it() {
        let cgroup = format!("0::/docker/{ID}\n");
        let external = ("DD_EXTERNAL_ENV", "it-false,cn-app,pu-75a2|b6d5\n");
        assert_eq!(with(&cgroup, &[external]), format!("|c:ci-{ID}|e:it-false,cn-app,pu-75a2b6d5"));
        assert_eq!(with(&cgroup, &[("DD_ENTITY_ID", "pod-uid"), ("DD_CARDINALITY", "low")]), "|card:low");
        assert_eq!(with(&cgroup, &[("DD_ORIGIN_DETECTION_ENABLED", "False"), external]), "");
    }
}

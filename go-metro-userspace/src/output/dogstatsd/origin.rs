//! Who sends: the fields at the end of each DogStatsD line by which the Agent finds the container, and tags what comes
//! from it.
//!
//! As Datadog's own clients have it: `|c:` is the container id that the cgroup names, or else the cgroup's inode
//! (`in-N`); `|e:` is what the cluster's admission controller put into `DD_EXTERNAL_ENV`; `|card:` how many of the
//! container's tags are wanted. `DD_ORIGIN_DETECTION_ENABLED=false` turns off all of it, and `DD_ENTITY_ID`, a tag of
//! its own, the container id.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

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
    let cgroups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    if let Some(id) = cgroups.lines().find_map(container_id) {
        return Some(format!("ci-{id}"));
    }
    // In a cgroup namespace of its own the container sees no id; the inode of its root tells the Agent as much.
    let namespace = std::fs::metadata(root.join("proc/self/ns/cgroup")).map(|meta| meta.ino());
    if namespace.is_ok_and(|inode| inode == HOST_CGROUP_NAMESPACE) {
        return None;
    }
    let path_of = |controller: &str| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            (parts.next() == Some(controller)).then(|| parts.next().unwrap_or("/").trim_start_matches('/').to_owned())
        })
    };
    let inode = ["memory", ""].iter().find_map(|controller| {
        let path = root.join("sys/fs/cgroup").join(controller).join(path_of(controller)?);
        std::fs::metadata(path).ok().map(|meta| meta.ino())
    })?;
    // 0 to 2 are what no real cgroup has.
    (inode > 2).then(|| format!("in-{inode}"))
}

/// The container id at the end of a line of /proc/self/cgroup (cgroups(7)): `4:memory:/docker/<64 hex digits>`, perhaps
/// with a runtime's prefix and `.scope`; also a UUID (Garden) or `<32 hex digits>-<number>` (Fargate).
fn container_id(line: &str) -> Option<&str> {
    let last = line.splitn(3, ':').nth(2)?.rsplit('/').next()?;
    let name = last.strip_suffix(".scope").unwrap_or(last);
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let tail = |length: usize| name.len().checked_sub(length).and_then(|start| name.get(start..));
    let full = || tail(64).filter(|id| is_hex(id));
    let uuid = || {
        tail(36).filter(|id| {
            let parts: Vec<&str> = id.split(['-', '_']).collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| is_hex(part))
        })
    };
    let task = || {
        let (front, number) = name.rsplit_once('-')?;
        let hex = front.len().checked_sub(32).and_then(|start| front.get(start..)).filter(|hex| is_hex(hex))?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| &name[name.len() - number.len() - 1 - hex.len()..])
    };
    full().or_else(uuid).or_else(task)
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
    fn container_runtimes_names_for_a_cgroup_all_give_the_id() {
        for name in [
            format!("/docker/{ID}"),
            format!("/kubepods.slice/kubepods-pod2d3da189.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod3d274242-8ee0-11e9-a8a6-1e68d864ef1a/{ID}"),
            format!("/ecs/55091c13-b8cf-4801-b527-f4601742204d/{ID}"),
        ] {
            assert_eq!(with(&format!("1:name=systemd:/\n4:memory:{name}\n"), &[]), format!("|c:ci-{ID}"), "{name}");
        }
        let task = "/ecs/34dc0b5e626f2c5c4c5170e34b10e765-1234567890";
        assert_eq!(with(&format!("1:cpu:{task}\n"), &[]), "|c:ci-34dc0b5e626f2c5c4c5170e34b10e765-1234567890");
        let garden = "/garden/6f265890-5165-7fab-6b52-18d1cff0b1b2";
        assert_eq!(with(&format!("1:cpu:{garden}\n"), &[]), "|c:ci-6f265890-5165-7fab-6b52-18d1cff0b1b2");
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
